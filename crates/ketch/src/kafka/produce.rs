//! `ketch produce`: lines become records, batches by partition, one request at a time with all that has come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, stdin};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use kafka_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::messages::{ProduceRequest, ProduceResponse};
use kafka_wire::record::{Builder, Compression};
use serde::Deserialize;

use super::client::{Client, check};
use super::{ProduceArgs, pair};

const PRODUCE: i16 = 7;
/// A batch is sent when its records take so many bytes: well below the broker's limit of a megabyte.
const BATCH_BYTES: usize = 512 << 10;
const TIMEOUT_MS: i32 = 30_000;

/// A record to send.
#[derive(Default)]
struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

/// A line in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

pub async fn run(client: Client, args: ProduceArgs) -> Result<()> {
    let compression = Compression::from_name(&args.compression);
    let compression =
        compression.with_context(|| format!("there is no compression '{}'", args.compression))?;
    let input: Box<dyn BufRead> = match &args.file {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(BufReader::new(stdin())),
    };
    let interactive = args.file.is_none() && stdin().is_terminal();
    let mut producer = Producer::new(client, &args, compression).await?;
    let headers = args.header.iter().map(|text| {
        let (name, value) = pair(text)?;
        Ok((name.to_owned(), Some(value.as_bytes().to_vec())))
    });
    let headers = headers.collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for (number, line) in input.split(b'\n').enumerate() {
        let mut record = parse(&line?, &args).with_context(|| format!("line {}", number + 1))?;
        record.headers.extend(headers.iter().cloned());
        producer.add(record, args.partition)?;
        // Somebody who types sees each line sent.
        if interactive || producer.waiting() >= BATCH_BYTES {
            producer.send().await?;
        }
    }
    producer.send().await?;
    producer.bar.finish_and_clear();
    if !args.quiet {
        let (records, seconds) = (producer.sent, start.elapsed().as_secs_f64());
        eprintln!("{records} records in {seconds:.2} s");
    }
    Ok(())
}

fn parse(line: &[u8], args: &ProduceArgs) -> Result<Record> {
    if args.json {
        let line: Line = serde_json::from_slice(line).context("not a record in JSON")?;
        let headers = line.headers.into_iter().map(|(name, value)| (name, value.map(String::into_bytes)));
        return Ok(Record {
            key: line.key.map(String::into_bytes),
            value: line.value.map(String::into_bytes),
            headers: headers.collect(),
            partition: line.partition,
            timestamp: line.timestamp,
        });
    }
    let Some(separator) = args.key_separator.as_deref().map(str::as_bytes).filter(|s| !s.is_empty()) else {
        return Ok(Record { value: Some(line.to_vec()), ..Record::default() });
    };
    let at = line.windows(separator.len()).position(|window| window == separator);
    let at = at.context("the line has no key separator")?;
    let (key, value) = (line[..at].to_vec(), line[at + separator.len()..].to_vec());
    Ok(Record { key: Some(key), value: Some(value), ..Record::default() })
}

struct Producer {
    client: Client,
    topic: String,
    acks: i16,
    compression: Compression,
    partitions: i32,
    /// Records without a key go round.
    next: i32,
    batches: BTreeMap<i32, Builder>,
    sent: u64,
    bar: ProgressBar,
}

impl Producer {
    async fn new(mut client: Client, args: &ProduceArgs, compression: Compression) -> Result<Self> {
        let topic = client.topic(&args.topic, true).await?;
        let bar = if args.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        Ok(Self {
            client,
            topic: args.topic.clone(),
            acks: if args.acks == "all" { -1 } else { 1 },
            compression,
            partitions: i32::try_from(topic.partitions.len())?,
            next: 0,
            batches: BTreeMap::new(),
            sent: 0,
            bar,
        })
    }

    fn waiting(&self) -> usize {
        self.batches.values().map(Builder::body_len).sum()
    }

    fn add(&mut self, record: Record, fixed: Option<i32>) -> Result<()> {
        let partition = match (fixed.or(record.partition), &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => (murmur2(key) & 0x7fff_ffff) as i32 % self.partitions,
            (None, None) => {
                self.next = (self.next + 1) % self.partitions;
                self.next
            }
        };
        let now = SystemTime::UNIX_EPOCH.elapsed().context("the clock is before 1970")?.as_millis() as i64;
        let fresh = || Builder::new().compression(self.compression);
        let batch = self.batches.entry(partition).or_insert_with(fresh);
        let headers: Vec<(&str, Option<&[u8]>)> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let timestamp = record.timestamp.unwrap_or(now);
        batch.append_with_headers(timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        Ok(())
    }

    /// Sends what waits and checks each partition's answer.
    async fn send(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        if batches.is_empty() {
            return Ok(());
        }
        let count: u64 = batches.values().map(|batch| batch.count() as u64).sum();
        let data = batches
            .iter()
            .map(|(index, batch)| Ok(PartitionProduceData { index: *index, records: Some(batch.build()?) }));
        let topic = TopicProduceData {
            name: self.topic.clone(),
            partition_data: data.collect::<Result<_>>()?,
            ..Default::default()
        };
        let request = ProduceRequest {
            acks: self.acks,
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![topic],
            ..Default::default()
        };
        let answer: ProduceResponse = self.client.call(&request, PRODUCE).await?;
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            check(partition.error_code, partition.error_message.as_deref())
                .with_context(|| format!("partition {}", partition.index))?;
        }
        self.sent += count;
        self.bar.set_message(format!("{} records", self.sent));
        self.bar.tick();
        Ok(())
    }
}

/// The hash by which Kafka's Java client chooses a partition (MurmurHash2, seed 0x9747b28c).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ (word >> 24)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_go_where_the_java_client_sends_them() {
        // From the tests of org.apache.kafka.common.utils.Utils.murmur2.
        for (text, hash) in
            [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        {
            assert_eq!(super::murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }
}
