//! Reads a topic as fast as a socket gives it, and what to compare that with. For `cargo xtask bench broker`.
//!
//! ```text
//! raw fetch bootstrap=HOST:PORT topic=T partitions=N [readers=N] [ca=FILE.pem]
//!                                  each reader fetches everything; prints one line of JSON
//! raw cold dir=DIR topic=T         has the system forget what it holds of the topic's .log files
//! raw loop dir=DIR topic=T         prints `ready HOST:PORT`, then writes the topic's .log files to who connects
//! raw drain bootstrap=HOST:PORT    reads what `loop` writes, as `fetch` does
//! ```
//! `loop` is the least a program can do: it reads a file by 1 MiB and writes what it read. Both send frames with their
//! sizes before them, and both are read by the same few lines, into memory that is used again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::frame;
use kafka_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::messages::{FetchRequest, FetchResponse};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

/// Fetch by topic name, the last version that has it.
const VERSION: i16 = 12;
/// As consumers ask by default.
const FETCH_BYTES_MAX: i32 = 50 << 20;
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const STEP_BYTES: usize = 1 << 20;
/// Bytes of a batch before its length ends, and before its last offset delta ends.
const LENGTH_END: usize = 12;
const DELTA: std::ops::Range<usize> = 23..27;

type Args = HashMap<String, String>;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn main() {
    let mut words = std::env::args().skip(1);
    let mode = words.next().expect("fetch, cold, loop or drain");
    let args: Args = words.filter_map(|w| w.split_once('=').map(|(k, v)| (k.into(), v.into()))).collect();
    let done = match mode.as_str() {
        "fetch" => fetch_all(args),
        "cold" => forget(Path::new(&args["dir"]), &args["topic"]),
        "loop" => serve(Path::new(&args["dir"]), &args["topic"]),
        "drain" => drain(&args),
        other => panic!("no mode is called {other}"),
    };
    done.expect("no error");
}

fn connect(args: &Args) -> io::Result<Box<dyn Stream>> {
    let address = &args["bootstrap"];
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let Some(ca) = args.get("ca") else { return Ok(Box::new(socket)) };
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = rustls::ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(Box::new(rustls::StreamOwned::new(session, socket)))
}

/// Reads a frame into memory that held the last; None at the end.
fn read_frame(stream: &mut dyn Stream, mut memory: BytesMut) -> io::Result<Option<Bytes>> {
    let mut size = [0; 4];
    match stream.read_exact(&mut size) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    memory.resize(u32::from_be_bytes(size) as usize, 0);
    stream.read_exact(&mut memory)?;
    Ok(Some(memory.freeze()))
}

fn report(bytes: u64, took: Duration) {
    println!(r#"{{"bytes":{bytes},"seconds":{:.4}}}"#, took.as_secs_f64());
}

fn fetch_all(args: Args) -> io::Result<()> {
    let readers: usize = args.get("readers").map_or(1, |text| text.parse().expect("a number"));
    let (args, start, mut bytes) = (Arc::new(args), Instant::now(), 0);
    let threads: Vec<_> = (0..readers)
        .map(|_| {
            let args = args.clone();
            std::thread::spawn(move || fetch(&args))
        })
        .collect();
    for thread in threads {
        bytes += thread.join().expect("a reader")?;
    }
    report(bytes, start.elapsed());
    Ok(())
}

/// Bytes of records.
fn fetch(args: &Args) -> io::Result<u64> {
    let partitions: usize = args["partitions"].parse().expect("a number");
    let mut stream = connect(args)?;
    let (mut offsets, mut ended) = (vec![0i64; partitions], vec![false; partitions]);
    let (mut bytes, mut memory) = (0, BytesMut::new());
    // Who gave records waits behind the others, as in a fetch session.
    let mut order: Vec<usize> = (0..partitions).collect();
    while ended.iter().any(|ended| !ended) {
        let wanted = order.iter().filter(|&&n| !ended[n]).map(|&n| FetchPartition {
            partition: n as i32,
            fetch_offset: offsets[n],
            partition_max_bytes: PARTITION_BYTES_MAX,
            ..Default::default()
        });
        let topic =
            FetchTopic { topic: args["topic"].clone(), partitions: wanted.collect(), ..Default::default() };
        let request = FetchRequest {
            max_bytes: FETCH_BYTES_MAX,
            topics: vec![topic],
            session_epoch: -1,
            ..Default::default()
        };
        for chunk in frame::request(1, Some("raw"), VERSION, &request).map_err(io::Error::other)? {
            stream.write_all(&chunk)?;
        }
        let frame = read_frame(&mut *stream, std::mem::take(&mut memory))?.expect("an answer");
        let (_, response): (_, FetchResponse) =
            frame::read_response(&frame, VERSION).map_err(io::Error::other)?;
        for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
            assert_eq!(partition.error_code, 0, "partition {}", partition.partition_index);
            let number = partition.partition_index as usize;
            let records = partition.records.as_ref().map_or(&[][..], |records| &records[..]);
            bytes += records.len() as u64;
            if let Some(next) = next_offset(records) {
                offsets[number] = next;
                order.retain(|&n| n != number);
                order.push(number);
            }
            ended[number] = offsets[number] >= partition.high_watermark;
        }
        drop(response);
        memory = frame.try_into_mut().unwrap_or_default();
    }
    Ok(bytes)
}

/// Clean pages go when they are not wanted; what is not on the disk yet is written first.
fn forget(dir: &Path, topic: &str) -> io::Result<()> {
    let mut files = Vec::new();
    logs(dir, topic, &mut files)?;
    for path in files {
        let file = File::open(path)?;
        file.sync_all()?;
        let advice = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        nix::fcntl::posix_fadvise(&file, 0, 0, advice)?;
    }
    println!("{{}}");
    Ok(())
}

/// The offset after the last whole batch.
fn next_offset(mut records: &[u8]) -> Option<i64> {
    let mut next = None;
    while let Some(head) = records.get(..61) {
        let length = i32::from_be_bytes(head[8..LENGTH_END].try_into().ok()?) as usize + LENGTH_END;
        let Some(rest) = records.get(length..) else { break };
        let base = i64::from_be_bytes(head[..8].try_into().ok()?);
        next = Some(base + i64::from(i32::from_be_bytes(head[DELTA].try_into().ok()?)) + 1);
        records = rest;
    }
    next
}

fn logs(dir: &Path, topic: &str, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let of_topic = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(topic));
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            logs(&path, topic, found)?;
        } else if of_topic && path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
    Ok(())
}

fn serve(dir: &Path, topic: &str) -> io::Result<()> {
    let mut files = Vec::new();
    logs(dir, topic, &mut files)?;
    files.sort();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("ready {}", listener.local_addr()?);
    let (mut socket, _) = listener.accept()?;
    let mut buffer = vec![0; STEP_BYTES];
    for path in files {
        let mut file = File::open(path)?;
        let mut left = file.metadata()?.len();
        while left > 0 {
            let mut frame = left.min(FETCH_BYTES_MAX as u64);
            left -= frame;
            socket.write_all(&(frame as u32).to_be_bytes())?;
            while frame > 0 {
                let step = frame.min(STEP_BYTES as u64) as usize;
                file.read_exact(&mut buffer[..step])?;
                socket.write_all(&buffer[..step])?;
                frame -= step as u64;
            }
        }
    }
    Ok(())
}

fn drain(args: &Args) -> io::Result<()> {
    let mut stream = connect(args)?;
    let (mut bytes, mut memory, start) = (0, BytesMut::new(), Instant::now());
    while let Some(frame) = read_frame(&mut *stream, std::mem::take(&mut memory))? {
        bytes += frame.len() as u64;
        memory = frame.try_into_mut().unwrap_or_default();
    }
    report(bytes, start.elapsed());
    Ok(())
}
