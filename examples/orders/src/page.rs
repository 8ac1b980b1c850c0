//! Reads every sum from the beginning and serves the totals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::model::{Sum, Totals};
use crate::{setting, topics};

/// Longest request head that is read.
const REQUEST_BYTES_MAX: u64 = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

type Shared = Arc<Mutex<Totals>>;

pub fn run() -> Result<()> {
    topics::ensure()?;
    let totals = Shared::default();
    let listen = setting("LISTEN", "0.0.0.0:8080");
    let listener = TcpListener::bind(&listen).with_context(|| format!("cannot listen on {listen}"))?;
    let shown = totals.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream, &shown) {
                eprintln!("request: {error}");
            }
        }
    });
    println!("totals on {listen}");
    follow(&totals)
}

/// Folds the whole topic, then what comes.
fn follow(totals: &Shared) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", crate::bootstrap())
        .set("group.id", "order-page")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut everything = TopicPartitionList::new();
    for partition in 0..topics::PARTITIONS {
        everything.add_partition_offset(topics::TOTALS, partition, Offset::Beginning)?;
    }
    consumer.assign(&everything)?;
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => {
                if let Some(sum) = message.payload().and_then(|p| serde_json::from_slice::<Sum>(p).ok()) {
                    totals.lock().unwrap_or_else(PoisonError::into_inner).add(&sum);
                }
            }
            Some(Err(error)) => eprintln!("reading: {error}"),
            None => {}
        }
    }
}

fn answer(mut stream: TcpStream, totals: &Shared) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(REQUEST_BYTES_MAX)).lines();
    let request = lines.next().context("empty request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let totals = totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (status, kind, body) = match request.split(' ').nth(1) {
        Some("/") => ("200 OK", "text/html; charset=utf-8", html(&totals)),
        Some("/totals.json") => ("200 OK", "application/json", serde_json::to_string(&totals)?),
        Some("/healthz") => ("200 OK", "text/plain", "ok".to_owned()),
        _ => ("404 Not Found", "text/plain", "not found\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(())
}

fn html(totals: &Totals) -> String {
    let rows = |map: &std::collections::BTreeMap<String, u64>| -> String {
        map.iter().map(|(name, count)| format!("<tr><td>{name}</td><td>{count}</td></tr>")).collect()
    };
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
         <title>Orders</title><style>body{{font:16px system-ui;max-width:40rem;margin:2rem auto}}\
         td{{padding:.2rem 1rem}}td+td{{text-align:right}}</style>\
         <h1>{} orders, {}.{:02} in all</h1><p>{} duplicates were dropped.</p>\
         <h2>By item</h2><table>{}</table><h2>By aggregator</h2><table>{}</table></html>\n",
        totals.orders,
        totals.cents / 100,
        totals.cents % 100,
        totals.duplicates,
        rows(&totals.by_item),
        rows(&totals.by_aggregator),
    )
}
