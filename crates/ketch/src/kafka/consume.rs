//! `ketch consume`: every record from a place on, in the order in which partitions give them.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kafka_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::messages::{FetchRequest, FetchResponse};
use kafka_wire::record;

use super::ConsumeArgs;
use super::client::{Client, check};
use super::format::{Format, Shown};
use super::output::written;
use super::topic::{EARLIEST, LATEST, offsets};

const FETCH: i16 = 11;
const MAX_BYTES: i32 = 8 << 20;
const PARTITION_MAX_BYTES: i32 = 1 << 20;
/// How long a fetch waits for records; a timeout shorter than this shortens it.
const WAIT: Duration = Duration::from_millis(500);
/// Largest batch that is unpacked.
const UNPACKED_MAX: usize = 256 << 20;

pub async fn run(mut client: Client, args: ConsumeArgs) -> Result<()> {
    let format = Format::new(args.format.as_deref(), args.json)?;
    let topic = client.topic(&args.topic, false).await?;
    let all: Vec<i32> = topic.partitions.iter().map(|partition| partition.partition_index).collect();
    if let Some(missing) = args.partition.iter().find(|wanted| !all.contains(wanted)) {
        bail!("topic '{}' has no partition {missing}", args.topic);
    }
    let partitions = if args.partition.is_empty() { all } else { args.partition.clone() };
    let from = begin(&mut client, &args, &partitions).await?;
    let ends = offsets(&mut client, &args.topic, &partitions, LATEST).await?;
    let reader = Reader {
        client,
        format,
        positions: partitions.iter().copied().zip(from).collect(),
        ends: partitions.iter().copied().zip(ends).collect(),
        left: args.max.unwrap_or(u64::MAX),
        args,
    };
    reader.run().await
}

/// Where each partition is read from.
async fn begin(client: &mut Client, args: &ConsumeArgs, partitions: &[i32]) -> Result<Vec<i64>> {
    let starts = offsets(client, &args.topic, partitions, EARLIEST).await?;
    let ends = offsets(client, &args.topic, partitions, LATEST).await?;
    let offset = match args.offset.as_str() {
        "beginning" | "earliest" => return Ok(starts),
        "end" | "latest" => return Ok(ends),
        text if text.starts_with('@') => {
            let found = offsets(client, &args.topic, partitions, time(&text[1..])?).await?;
            // Nothing that late: what comes from now on.
            return Ok(found
                .iter()
                .zip(&ends)
                .map(|(found, end)| if *found < 0 { *end } else { *found })
                .collect());
        }
        text => text.parse::<i64>().with_context(|| format!("'{text}' is no offset"))?,
    };
    let place = |(start, end): (&i64, &i64)| match offset {
        ..0 => (end + offset).max(*start),
        _ => offset,
    };
    Ok(starts.iter().zip(&ends).map(place).collect())
}

/// Milliseconds since 1970 of a number or of an RFC 3339 time.
fn time(text: &str) -> Result<i64> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let time: k8s_openapi::jiff::Timestamp = text.parse().with_context(|| format!("'{text}' is no time"))?;
    Ok(time.as_millisecond())
}

struct Reader {
    client: Client,
    args: ConsumeArgs,
    format: Format,
    positions: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
    left: u64,
}

impl Reader {
    async fn run(mut self) -> Result<()> {
        let timeout = self.args.timeout.map(Duration::from_secs);
        let mut last = Instant::now();
        while self.left > 0 && !self.at_end() {
            let wait = timeout.map_or(WAIT, |timeout| timeout.min(WAIT));
            let count = self.round(wait).await?;
            match count {
                0 if timeout.is_some_and(|timeout| last.elapsed() >= timeout) => break,
                0 => {}
                _ => last = Instant::now(),
            }
        }
        match self.args.max {
            Some(max) if self.left > 0 && !self.args.exit => {
                bail!("{} of {max} records came in time", max - self.left)
            }
            _ => Ok(()),
        }
    }

    fn at_end(&self) -> bool {
        self.args.exit && self.positions.iter().all(|(index, at)| *at >= self.ends[index])
    }

    /// One fetch; how many records it brought.
    async fn round(&mut self, wait: Duration) -> Result<u64> {
        let wanted = |(index, at): (&i32, &i64)| FetchPartition {
            partition: *index,
            fetch_offset: *at,
            partition_max_bytes: PARTITION_MAX_BYTES,
            ..Default::default()
        };
        let partitions = self.positions.iter().map(wanted).collect();
        let topics = vec![FetchTopic { topic: self.args.topic.clone(), partitions, ..Default::default() }];
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis())?,
            min_bytes: 1,
            max_bytes: MAX_BYTES,
            // Read committed: what a transaction took back is never shown.
            isolation_level: 1,
            session_epoch: -1,
            topics,
            ..Default::default()
        };
        let answer: FetchResponse = self.client.call(&request, FETCH).await?;
        check(answer.error_code, None)?;
        let before = self.left;
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            check(partition.error_code, None)
                .with_context(|| format!("partition {}", partition.partition_index))?;
            let aborted = partition.aborted_transactions.unwrap_or_default();
            let mut aborted: Vec<_> = aborted.iter().map(|t| (t.first_offset, t.producer_id)).collect();
            aborted.sort_unstable();
            self.print(partition.partition_index, &partition.records.unwrap_or_default(), &aborted)?;
        }
        written(std::io::stdout().flush())?;
        Ok(before - self.left)
    }

    fn print(&mut self, partition: i32, bytes: &Bytes, aborted: &[(i64, i64)]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let mut open: Vec<i64> = Vec::new();
        let mut aborted = aborted.iter().peekable();
        for batch in record::batches(bytes) {
            // The last may be cut short; the next fetch brings it whole.
            let Ok(batch) = batch else { break };
            batch.verify()?;
            while let Some((_, producer)) = aborted.next_if(|(first, _)| *first <= batch.last_offset()) {
                open.push(*producer);
            }
            let position = self.positions.entry(partition).or_default();
            let from = std::mem::replace(position, batch.next_offset());
            if batch.is_control() {
                open.retain(|producer| *producer != batch.producer_id());
                continue;
            }
            if batch.is_transactional() && open.contains(&batch.producer_id()) {
                continue;
            }
            let mut records = batch.records(UNPACKED_MAX)?;
            while let Some(record) = records.next() {
                let record = record?;
                if record.offset < from {
                    continue;
                }
                if self.left == 0 {
                    return Ok(());
                }
                self.left -= 1;
                let shown = Shown { topic: &self.args.topic, partition, record: &record };
                written(self.format.write(&mut out, &shown))?;
            }
        }
        Ok(())
    }
}
