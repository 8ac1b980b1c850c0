//! `ketch log inspect`: prints what [`commitlog::kafka::inspect`] finds.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Result, bail};
use commitlog::kafka::inspect::{Item, Options, inspect};
use commitlog::kafka::{ActiveProducer, BatchHeader, EndTxnMarker};
use kafka_wire::record::Record;
use serde_json::{Value, json};

use super::format::{headers, text};
use super::output::ReaderGone;
use super::{InspectArgs, InspectOutput};

/// # Errors
/// When something is damaged, cannot be read, or standard output is closed.
pub fn run(args: &InspectArgs) -> Result<()> {
    let options = Options { records: args.records, entries: args.entries, compacted: args.compacted };
    let mut out = BufWriter::new(io::stdout().lock());
    let damaged = inspect(&args.path, options, &mut |item| match args.output {
        InspectOutput::Text => write_text(&mut out, &item),
        InspectOutput::Json => writeln!(out, "{}", value(&item)),
    });
    let damaged = damaged.and_then(|damaged| out.flush().map(|()| damaged));
    if damaged.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return Err(ReaderGone.into());
    }
    match damaged? {
        0 => Ok(()),
        1 => bail!("{} is damaged in one place", args.path.display()),
        places => bail!("{} is damaged in {places} places", args.path.display()),
    }
}

fn write_text(out: &mut impl Write, item: &Item<'_>) -> io::Result<()> {
    match item {
        Item::Partition { dir, topic, partition } => {
            writeln!(out, "{topic} partition {partition}: {}", dir.display())
        }
        Item::File { path, bytes } => writeln!(out, "{}: {bytes} bytes", path.display()),
        Item::Batch { header, position, crc_ok, marker } => {
            write_batch(out, header, *position, *crc_ok, *marker)
        }
        Item::Record(record) => write_record(out, record),
        Item::Gap { from, to } => writeln!(out, "  gap      {from}..{to} compacted away"),
        Item::LogEnd { batches, next, zero_bytes } => {
            let next = next.map_or_else(|| "none".to_owned(), |next| next.to_string());
            let zeros =
                if *zero_bytes > 0 { format!(", {zero_bytes} bytes of zeros") } else { String::new() };
            writeln!(out, "  end      {batches} batches, next offset {next}{zeros}")
        }
        Item::Entries(count) => writeln!(out, "  entries  {count}"),
        Item::IndexEntry { offset, position } => writeln!(out, "  entry    offset {offset} at {position}"),
        Item::TimeEntry(time) => {
            writeln!(out, "  entry    time {} offset {}", time.timestamp_ms, time.offset)
        }
        Item::Aborted(txn) => writeln!(
            out,
            "  aborted  producer {} offsets {}..={}, stable {}",
            txn.producer_id, txn.first, txn.last, txn.last_stable
        ),
        Item::Producer(producer) => write_producer(out, producer),
        Item::Epoch(entry) => writeln!(out, "  epoch    {} from {}", entry.epoch, entry.start),
        Item::Checkpoint { topic, partition, offset } => {
            writeln!(out, "  offset   {topic} {partition} {offset}")
        }
        Item::Property { name, value } => writeln!(out, "  {name} {value:?}"),
        Item::Damage { path, position, what } => {
            writeln!(out, "  DAMAGED  {} at byte {position}: {what}", path.display())
        }
    }
}

/// Attributes as words.
fn marks(header: &BatchHeader, marker: Option<EndTxnMarker>) -> Vec<&'static str> {
    let mut marks = Vec::new();
    let mut mark = |is: bool, word| marks.extend(is.then_some(word));
    mark(header.is_transactional(), "transactional");
    mark(header.is_control() && marker.is_none(), "control");
    mark(marker.is_some_and(|marker| marker.commit), "commit");
    mark(marker.is_some_and(|marker| !marker.commit), "abort");
    mark(header.is_log_append_time(), "log-append-time");
    mark(header.has_delete_horizon(), "delete-horizon");
    marks
}

fn codec(header: &BatchHeader) -> String {
    let known = kafka_wire::record::Compression::ALL.iter().find(|c| c.number() == header.codec());
    known.map_or_else(|| format!("codec-{}", header.codec()), |codec| codec.name().to_owned())
}

fn write_batch(
    out: &mut impl Write,
    header: &BatchHeader,
    position: u64,
    crc_ok: bool,
    marker: Option<EndTxnMarker>,
) -> io::Result<()> {
    write!(
        out,
        "  batch    {}..={} at {position}, {} bytes, {} records, {}, epoch {}, time {}..{}",
        header.base_offset,
        header.last_offset(),
        header.len,
        header.count,
        codec(header),
        header.leader_epoch,
        header.base_timestamp_ms,
        header.max_timestamp_ms,
    )?;
    if header.has_producer() {
        let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = header;
        write!(out, ", producer {producer_id} epoch {producer_epoch}")?;
        if *base_sequence >= 0 {
            write!(out, " sequence {base_sequence}..={}", header.last_sequence())?;
        }
    }
    for mark in marks(header, marker) {
        write!(out, ", {mark}")?;
    }
    writeln!(out, ", crc {}", if crc_ok { "ok" } else { "WRONG" })
}

fn write_record(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let quoted = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        None => "null".to_owned(),
    };
    write!(
        out,
        "    {} time {} key {} value {}",
        record.offset,
        record.timestamp,
        quoted(record.key),
        quoted(record.value)
    )?;
    for header in record.headers.clone() {
        write!(out, " {}={}", header.key.escape_ascii(), quoted(header.value))?;
    }
    writeln!(out)
}

fn write_producer(out: &mut impl Write, producer: &ActiveProducer) -> io::Result<()> {
    let ActiveProducer { producer_id, epoch, last_sequence, last_timestamp_ms, coordinator_epoch, .. } =
        producer;
    write!(
        out,
        "  producer {producer_id} epoch {epoch}, last sequence {last_sequence}, time {last_timestamp_ms}, coordinator epoch {coordinator_epoch}"
    )?;
    match producer.transaction_start {
        Some(first) => writeln!(out, ", transaction open from {first}"),
        None => writeln!(out),
    }
}

fn shown(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

/// An item as an object with a `type`.
fn value(item: &Item<'_>) -> Value {
    match item {
        Item::Partition { dir, topic, partition } => {
            json!({"type": "partition", "dir": shown(dir), "topic": topic, "partition": partition})
        }
        Item::File { path, bytes } => json!({"type": "file", "path": shown(path), "bytes": bytes}),
        Item::Batch { header, position, crc_ok, marker } => batch_value(header, *position, *crc_ok, *marker),
        Item::Record(record) => json!({
            "type": "record",
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": text(record.key),
            "value": text(record.value),
            "headers": headers(record),
        }),
        Item::Gap { from, to } => json!({"type": "gap", "from": from.get(), "to": to.get()}),
        Item::LogEnd { batches, next, zero_bytes } => json!({
            "type": "log-end",
            "batches": batches,
            "next_offset": next.map(|next| next.get()),
            "zero_bytes": zero_bytes,
        }),
        Item::Entries(count) => json!({"type": "entries", "count": count}),
        Item::IndexEntry { offset, position } => {
            json!({"type": "index-entry", "offset": offset.get(), "position": position})
        }
        Item::TimeEntry(time) => {
            json!({"type": "time-entry", "timestamp": time.timestamp_ms, "offset": time.offset.get()})
        }
        Item::Aborted(txn) => json!({
            "type": "aborted",
            "producer_id": txn.producer_id,
            "first_offset": txn.first.get(),
            "last_offset": txn.last.get(),
            "last_stable_offset": txn.last_stable.get(),
        }),
        Item::Producer(producer) => json!({
            "type": "producer",
            "producer_id": producer.producer_id,
            "epoch": producer.epoch,
            "last_sequence": producer.last_sequence,
            "timestamp": producer.last_timestamp_ms,
            "coordinator_epoch": producer.coordinator_epoch,
            "transaction_start": producer.transaction_start.map(|first| first.get()),
        }),
        Item::Epoch(entry) => json!({"type": "epoch", "epoch": entry.epoch, "start": entry.start.get()}),
        Item::Checkpoint { topic, partition, offset } => {
            json!({"type": "checkpoint", "topic": topic, "partition": partition, "offset": offset.get()})
        }
        Item::Property { name, value } => json!({"type": "property", "name": name, "value": value}),
        Item::Damage { path, position, what } => {
            json!({"type": "damage", "path": shown(path), "position": position, "what": what})
        }
    }
}

fn batch_value(header: &BatchHeader, position: u64, crc_ok: bool, marker: Option<EndTxnMarker>) -> Value {
    json!({
        "type": "batch",
        "position": position,
        "bytes": header.len,
        "base_offset": header.base_offset.get(),
        "last_offset": header.last_offset().get(),
        "records": header.count,
        "leader_epoch": header.leader_epoch,
        "codec": codec(header),
        "base_timestamp": header.base_timestamp_ms,
        "max_timestamp": header.max_timestamp_ms,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "last_sequence": header.last_sequence(),
        "attributes": marks(header, marker),
        "coordinator_epoch": marker.map(|marker| marker.coordinator_epoch),
        "crc": header.crc,
        "crc_ok": crc_ok,
    })
}
