//! Connections: frames in, replies out in order.
//!
//! ```text
//! reader: size, frame ─▶ dispatch ─▶ Reply ─▶ queue of PIPELINE_MAX ─▶ writer: resolve, write, next
//! ```
//! Both halves are one task. The reader stops reading while the queue is full, so a client that does not take its answers
//! stalls itself only. A frame's memory grows with the bytes that arrive, never with the size a stranger announces.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use base::task::{TaskKind, Tasks};
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::api::{self, Broker};
use crate::memory::{Held, Memory};
use crate::slices::{Pieces, Slices};
use crate::stream::{self, ReadSide, WriteSide};

/// Replies that may wait behind one another; clients keep 5 to 1,000,000 requests in flight, the rest waits in the socket.
const PIPELINE_MAX: usize = 64;
/// A connection's buffer begins at this size and doubles as bytes arrive.
const FRAME_START_BYTES: usize = 64 * 1024;
/// Answers that are ready are written together up to so many bytes...
const TOGETHER_BYTES_MAX: usize = 256 * 1024;
/// ...and so many pieces, of which a system call takes no more (IOV_MAX).
const TOGETHER_CHUNKS_MAX: usize = 1024;
/// A frame's size before it.
const SIZE_BYTES: usize = 4;
/// Pause after a failed accept: the process is out of descriptors and waits for some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a frame that must have a place in [`Memory`](crate::memory::Memory) before more of it is read.
const COUNTED_FROM_BYTES: usize = 256 * 1024;
/// A frame that was begun must be whole after this time and what its size takes at [`FRAME_BYTES_PER_SECOND`].
const FRAME_TIME: Duration = Duration::from_secs(60);
/// The slowest client that is waited for.
const FRAME_BYTES_PER_SECOND: usize = 64 * 1024;

/// A future that gives a reply's chunks; None closes the connection.
pub(crate) type Later = Pin<Box<dyn Future<Output = Option<Answer>> + Send>>;

/// Chunks of a frame, the records that some of them stand for, and what they hold of the broker's memory until they are
/// written.
#[derive(Default)]
pub(crate) struct Answer {
    pub chunks: Vec<Bytes>,
    pub slices: Slices,
    pub held: Option<Held>,
}

/// What becomes of a request.
pub(crate) enum Reply {
    /// Chunks of a frame.
    Now(Vec<Bytes>),
    /// Not yet; later requests of the connection are served meanwhile, and answered after this one.
    Later(Later),
    /// No answer is due (acks=0).
    Silent,
}

/// Why a connection was closed from this side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Close {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("frame of {0} bytes")]
    FrameSize(i32),
    #[error("malformed request: {0}")]
    Malformed(#[from] kafka_wire::DecodeError),
    #[error("unwritable reply: {0}")]
    Reply(#[from] kafka_wire::EncodeError),
    #[error("{0}")]
    Refused(String),
    #[error("idle")]
    Idle,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The client's address.
    pub remote: SocketAddr,
    /// The address it dialled.
    pub local: SocketAddr,
    /// Which listener took it.
    pub listener: usize,
}

/// Connections open now, in all and by address.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Seats {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.load(Ordering::Acquire)
    }

    /// Takes a seat unless there are `most` of all, or `most_of_one` from the address.
    fn take(self: &Arc<Self>, address: IpAddr, most: i64, most_of_one: i64) -> Result<Seat, &'static str> {
        let mut by_address = self.by_address.lock();
        if self.count() as i64 >= most {
            return Err("max.connections");
        }
        let own = by_address.entry(address).or_default();
        if *own as i64 >= most_of_one {
            return Err("max.connections.per.ip");
        }
        *own += 1;
        self.all.fetch_add(1, Ordering::AcqRel);
        Ok(Seat { seats: self.clone(), address })
    }
}

/// Counts a connection while it lives.
struct Seat {
    seats: Arc<Seats>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_address = self.seats.by_address.lock();
        self.seats.all.fetch_sub(1, Ordering::AcqRel);
        if let Some(own) = by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// `max.connections.per.ip`, or what `max.connections.per.ip.overrides` has for the address.
fn most_of_one(broker: &Broker, address: IpAddr) -> i64 {
    let overrides = broker.server.text("max.connections.per.ip.overrides").unwrap_or_default();
    let own = |pair: &str| {
        let (host, most) = pair.trim().rsplit_once(':')?;
        (host.parse::<IpAddr>().ok()? == address).then(|| most.parse().ok()).flatten()
    };
    overrides.split(',').find_map(own).unwrap_or_else(|| broker.server.number("max.connections.per.ip"))
}

/// Spreads new connections over time: so many a second, after as many at once as a second allows.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the connections so far would all have been due.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    /// Counts a connection that came at `now`; how long the next one has to wait at `rate` a second.
    fn count(&self, rate: i64, now: Instant) -> Duration {
        if rate >= i64::from(i32::MAX) {
            return Duration::ZERO;
        }
        let mut due = self.due.lock();
        let since = due.filter(|due| *due > now).unwrap_or(now);
        let next = since + Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        *due = Some(next);
        next.saturating_duration_since(now + Duration::from_secs(1))
    }
}

/// Accepts until the tasks end.
pub(crate) async fn accept(
    listener: TcpListener,
    index: usize,
    broker: Arc<Broker>,
    tasks: Tasks,
) -> Result<(), io::Error> {
    let stop = tasks.token();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let pause = match accepted {
            Ok((stream, remote)) => {
                admit(&broker, &tasks, stream, remote, index);
                broker.pace.count(broker.server.number("max.connection.creation.rate"), Instant::now())
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                ACCEPT_PAUSE
            }
        };
        if !pause.is_zero() {
            // Who waits, waits in the listener's queue.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn admit(broker: &Arc<Broker>, tasks: &Tasks, stream: TcpStream, remote: SocketAddr, listener: usize) {
    let address = remote.ip().to_canonical();
    let most = broker.server.number("max.connections");
    let seat = match broker.connections.take(address, most, most_of_one(broker, address)) {
        Ok(seat) => seat,
        Err(limit) => {
            tracing::warn!(%remote, "refused: {limit} reached");
            return;
        }
    };
    if let Some(wait) = broker.quotas.connected(address, broker.passed_ms()) {
        tracing::debug!(%remote, ?wait, "refused: the address's connection_creation_rate");
        tasks.spawn(TaskKind::Connection, "kafka-connection", async move {
            // Closed at once it would only come again; while it waits it counts as one that is open.
            tokio::time::sleep(wait).await;
            drop((stream, seat));
            Ok::<_, Close>(())
        });
        return;
    }
    let Ok(local) = stream.local_addr() else { return };
    let peer = Peer { remote, local, listener };
    let serving = serve(broker.clone(), stream, peer, tasks.token());
    tasks.spawn(TaskKind::Connection, "kafka-connection", async move {
        let _seat = seat;
        serving.await
    });
}

async fn serve(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: Peer,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Close> {
    let idle = Duration::from_millis(broker.server.number("connections.max.idle.ms").max(1) as u64);
    let frame_max = broker.server.number("socket.request.max.bytes") as i32;
    let (read, write) = stream::open(stream, broker.listeners[peer.listener].tls()).await?;
    let (replies, queue) = mpsc::channel(PIPELINE_MAX);
    let counted = broker.clone();
    let memory = broker.memory.clone();
    let connection = api::Connection::new(broker, peer);
    let reader = async move {
        let mut frames = Frames { read, buffer: BytesMut::new(), frame_max, idle, memory };
        loop {
            if !unmuted(&connection, &stop).await {
                return Ok::<_, Close>(());
            }
            let (frame, _held) = tokio::select! {
                // Answers under way are still written.
                () = stop.cancelled() => return Ok(()),
                frame = frames.next() => frame?,
            };
            // An answer that said to pause may have been made meanwhile.
            if !unmuted(&connection, &stop).await {
                return Ok(());
            }
            let arrived = Arrived::now(&frame);
            let reply = api::dispatch(&connection, frame).await?;
            if replies.send((arrived, reply)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writer = write_replies(queue, write, counted, idle);
    tokio::pin!(reader, writer);
    tokio::select! {
        // The reader first: what it answers at once is written in the same turn.
        biased;
        read = &mut reader => if let Err(close) = read {
            // What was answered before is still told, as far as the socket takes it.
            let _ = futures::poll!(&mut writer);
            return Err(close);
        },
        written = &mut writer => return written,
    }
    // Stopping: the reader has dropped its end of the queue, so the writer ends after what is in it.
    writer.await
}

/// Waits while a client has to pause; false when the broker stops meanwhile.
async fn unmuted(connection: &api::Connection, stop: &tokio_util::sync::CancellationToken) -> bool {
    while let Some(until) = connection.muted() {
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
    true
}

struct Frames {
    read: ReadSide,
    /// What has arrived and is not a frame yet. Empty, and without memory, while the connection is idle.
    buffer: BytesMut,
    frame_max: i32,
    idle: Duration,
    memory: Memory,
}

impl Frames {
    /// The next frame without its size, and its place in the broker's memory. Several small frames come with one read.
    async fn next(&mut self) -> Result<(Bytes, Option<Held>), Close> {
        let (mut held, mut deadline) = (None, None);
        loop {
            let size = self.size()?;
            let missing = match size {
                Some(size) if self.buffer.len() >= SIZE_BYTES + size => return Ok((self.split(size), held)),
                Some(size) => SIZE_BYTES + size - self.buffer.len(),
                None => SIZE_BYTES,
            };
            if let Some(size) = size {
                // Half a frame holds memory for so long only; a large one waits for its place before it grows.
                let patience = FRAME_TIME + Duration::from_secs((size / FRAME_BYTES_PER_SECOND) as u64);
                deadline.get_or_insert_with(|| Instant::now() + patience);
                if held.is_none() && self.buffer.len() >= COUNTED_FROM_BYTES {
                    held = Some(self.memory.hold(size).await);
                }
            }
            // Doubling at most: memory follows the bytes that came.
            let room = missing.min(self.buffer.len()).max(FRAME_START_BYTES);
            let left =
                deadline.map_or(self.idle, |at| self.idle.min(at.saturating_duration_since(Instant::now())));
            let filled = tokio::time::timeout(left, self.read.fill(&mut self.buffer, room)).await;
            if filled.map_err(|_| Close::Idle)?? == 0 {
                return Err(Close::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The size that the buffer begins with; None when it has not arrived.
    fn size(&self) -> Result<Option<usize>, Close> {
        let Some(size) = self.buffer.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        if size < 0 || size > self.frame_max {
            return Err(Close::FrameSize(size));
        }
        Ok(Some(size as usize))
    }

    fn split(&mut self, size: usize) -> Bytes {
        self.buffer.advance(SIZE_BYTES);
        if self.buffer.len() == size {
            // Alone in its memory, a batch can be changed where it lies, and the connection keeps none.
            return std::mem::take(&mut self.buffer).freeze();
        }
        self.buffer.split_to(size).freeze()
    }
}

/// When a request came, and its key.
struct Arrived {
    key: i16,
    at: Instant,
}

impl Arrived {
    fn now(frame: &[u8]) -> Self {
        Self { key: frame.first_chunk().map_or(-1, |key| i16::from_be_bytes(*key)), at: Instant::now() }
    }
}

/// Answers in the order of the requests; those that are ready go together.
async fn write_replies(
    mut queue: mpsc::Receiver<(Arrived, Reply)>,
    write: WriteSide,
    broker: Arc<Broker>,
    idle: Duration,
) -> Result<(), Close> {
    let mut out =
        Out { write, broker, idle, chunks: Vec::new(), bytes: 0, arrived: Vec::new(), held: Vec::new() };
    loop {
        let next = match queue.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                out.send().await?;
                queue.recv().await
            }
        };
        let Some((arrived, reply)) = next else { break };
        match reply {
            Reply::Now(chunks) => out.add(arrived, Answer { chunks, ..Answer::default() }).await?,
            Reply::Silent => out.add(arrived, Answer::default()).await?,
            Reply::Later(mut later) => {
                let answer = match futures::poll!(&mut later) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => {
                        out.send().await?;
                        later.await
                    }
                };
                let refused = || Close::Refused("the request failed".to_owned());
                out.add(arrived, answer.ok_or_else(refused)?).await?;
            }
        }
    }
    out.write.close().await;
    Ok(())
}

/// Answers on their way out.
struct Out {
    write: WriteSide,
    broker: Arc<Broker>,
    idle: Duration,
    /// What is not written yet: its chunks, their bytes, the requests it answers and the memory it holds.
    chunks: Vec<Bytes>,
    bytes: usize,
    arrived: Vec<Arrived>,
    held: Vec<Held>,
}

impl Out {
    /// Adds an answer. One that is large, or has records to be read, is written at once.
    async fn add(&mut self, arrived: Arrived, answer: Answer) -> Result<(), Close> {
        self.arrived.push(arrived);
        self.held.extend(answer.held);
        if !answer.slices.is_empty() {
            if self.write.is_plain() && answer.slices.have_descriptors() {
                return self.send_files(answer.chunks, &answer.slices).await;
            }
            write_chunks(&mut self.write, std::mem::take(&mut self.chunks), self.idle).await?;
            write_pieces(&mut self.write, Pieces::new(answer.chunks, answer.slices), self.idle).await?;
            return self.send().await;
        }
        self.bytes += answer.chunks.iter().map(Bytes::len).sum::<usize>();
        self.chunks.extend(answer.chunks);
        if self.bytes >= TOGETHER_BYTES_MAX || self.chunks.len() >= TOGETHER_CHUNKS_MAX {
            self.send().await?;
        }
        Ok(())
    }

    /// Has the kernel send records from their files, between the other chunks. An answer that was begun and cannot be
    /// finished ends the connection.
    async fn send_files(&mut self, chunks: Vec<Bytes>, slices: &Slices) -> Result<(), Close> {
        for chunk in chunks {
            let Some(slice) = slices.of(&chunk) else {
                self.chunks.push(chunk);
                continue;
            };
            write_chunks(&mut self.write, std::mem::take(&mut self.chunks), self.idle).await?;
            let mut done = 0;
            while done < slice.len() {
                let sent = tokio::time::timeout(self.idle, self.write.send(slice, done)).await;
                done += sent.map_err(|_| Close::Idle)??;
            }
        }
        self.send().await
    }

    /// Writes what was added.
    async fn send(&mut self) -> Result<(), Close> {
        write_chunks(&mut self.write, std::mem::take(&mut self.chunks), self.idle).await?;
        self.bytes = 0;
        self.held.clear();
        for arrived in self.arrived.drain(..) {
            self.broker.metrics.answered(arrived.key, arrived.at.elapsed());
        }
        Ok(())
    }
}

/// Writes records from their files through a buffer. An answer that was begun and cannot be finished ends the connection.
async fn write_pieces(write: &mut WriteSide, mut pieces: Pieces, idle: Duration) -> Result<(), Close> {
    loop {
        let mut piece = pieces.next()?;
        if piece.is_empty() {
            break;
        }
        while !piece.is_empty() {
            let written = tokio::time::timeout(idle, write.write(&[io::IoSlice::new(piece)])).await;
            match written.map_err(|_| Close::Idle)?? {
                0 => return Err(Close::Io(io::ErrorKind::WriteZero.into())),
                written => piece = &piece[written..],
            }
        }
    }
    tokio::time::timeout(idle, write.flush()).await.map_err(|_| Close::Idle)??;
    Ok(())
}

/// Writes all chunks, several a system call. A client that takes none for as long as an idle one may live is closed.
async fn write_chunks(write: &mut WriteSide, chunks: Vec<Bytes>, idle: Duration) -> Result<(), Close> {
    if chunks.is_empty() {
        return Ok(());
    }
    let mut chunks = std::collections::VecDeque::from(chunks);
    while !chunks.is_empty() {
        let slices: Vec<_> =
            chunks.iter().take(TOGETHER_CHUNKS_MAX).map(|chunk| io::IoSlice::new(chunk)).collect();
        let written = tokio::time::timeout(idle, write.write(&slices)).await;
        let mut written = written.map_err(|_| Close::Idle)??;
        if written == 0 {
            return Err(Close::Io(io::ErrorKind::WriteZero.into()));
        }
        while let Some(first) = chunks.front_mut() {
            if first.len() > written {
                first.advance(written);
                break;
            }
            written -= first.len();
            chunks.pop_front();
        }
    }
    tokio::time::timeout(idle, write.flush()).await.map_err(|_| Close::Idle)??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_over_time() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        // Ten at once are a second's worth; each further one is a tenth of a second.
        let waits: Vec<_> = (0..13).map(|_| pace.count(10, start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 200, 300]);
        assert_eq!(pace.count(10, at(1_300)).as_millis(), 0);
        // After a rest it is as at the beginning; without a limit nobody waits.
        let waits: Vec<_> = (0..11).map(|_| pace.count(10, at(60_000)).as_millis()).collect();
        assert_eq!((waits[9], waits[10]), (0, 100));
        assert_eq!(pace.count(i64::from(i32::MAX), at(60_000)), Duration::ZERO);
    }
}
