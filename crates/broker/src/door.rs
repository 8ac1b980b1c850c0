//! Connections: frames in, replies out in order.
//!
//! ```text
//! reader: size, frame ─▶ dispatch ─▶ Reply ─▶ queue of PIPELINE_MAX ─▶ writer: resolve, write, next
//! ```
//! Both halves are one task. The reader stops reading while the queue is full, so a client that does not take its answers
//! stalls itself only. A frame's memory grows with the bytes that arrive, never with the size a stranger announces.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base::task::{TaskKind, Tasks};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::api::{self, Broker};

/// Replies that may wait behind one another; clients keep 5 to 1,000,000 requests in flight, the rest waits in the socket.
const PIPELINE_MAX: usize = 64;
/// A connection's buffer begins at this size and doubles as bytes arrive.
const FRAME_START_BYTES: usize = 64 * 1024;
/// A frame's size before it.
const SIZE_BYTES: usize = 4;
/// Pause after a failed accept: the process is out of descriptors and waits for some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A future that gives a reply's chunks; None closes the connection.
pub(crate) type Later = Pin<Box<dyn Future<Output = Option<Vec<Bytes>>> + Send>>;

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

/// Counts a connection while it lives.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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
        match accepted {
            Ok((stream, remote)) => admit(&broker, &tasks, stream, remote, index),
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(broker: &Arc<Broker>, tasks: &Tasks, stream: TcpStream, remote: SocketAddr, listener: usize) {
    let seats = broker.connections.clone();
    let taken = seats.fetch_add(1, Ordering::AcqRel);
    let seat = Seat(seats);
    if taken as i64 >= broker.server.number("max.connections") {
        tracing::warn!(%remote, "refused: max.connections reached");
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
    stream.set_nodelay(true)?;
    let idle = Duration::from_millis(broker.server.number("connections.max.idle.ms") as u64);
    let frame_max = broker.server.number("socket.request.max.bytes") as i32;
    let (read, write) = stream.into_split();
    let (replies, queue) = mpsc::channel(PIPELINE_MAX);
    let counted = broker.clone();
    let connection = api::Connection::new(broker, peer);
    let reader = async move {
        let mut frames = Frames { read, buffer: BytesMut::new(), frame_max, idle };
        loop {
            let frame = tokio::select! {
                // Answers under way are still written.
                () = stop.cancelled() => return Ok::<_, Close>(()),
                frame = frames.next() => frame?,
            };
            let arrived = Arrived::now(&frame);
            let reply = api::dispatch(&connection, frame).await?;
            if replies.send((arrived, reply)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writer = write_replies(queue, write, counted);
    tokio::pin!(reader, writer);
    tokio::select! {
        read = &mut reader => read?,
        written = &mut writer => return written,
    }
    // Stopping: the reader has dropped its end of the queue, so the writer ends after what is in it.
    writer.await
}

struct Frames {
    read: OwnedReadHalf,
    /// What has arrived and is not a frame yet. Empty, and without memory, while the connection is idle.
    buffer: BytesMut,
    frame_max: i32,
    idle: Duration,
}

impl Frames {
    /// The next frame without its size. Several small frames come with one read.
    async fn next(&mut self) -> Result<Bytes, Close> {
        loop {
            let missing = match self.size()? {
                Some(size) if self.buffer.len() >= SIZE_BYTES + size => return Ok(self.split(size)),
                Some(size) => SIZE_BYTES + size - self.buffer.len(),
                None => SIZE_BYTES,
            };
            tokio::time::timeout(self.idle, self.read.readable()).await.map_err(|_| Close::Idle)??;
            if self.buffer.capacity() == self.buffer.len() {
                // Doubling at most: memory follows the bytes that came.
                let room = missing.min(self.buffer.len()).max(FRAME_START_BYTES);
                self.buffer.reserve(room);
            }
            match self.read.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(Close::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
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

async fn write_replies(
    mut queue: mpsc::Receiver<(Arrived, Reply)>,
    mut write: OwnedWriteHalf,
    broker: Arc<Broker>,
) -> Result<(), Close> {
    while let Some((arrived, reply)) = queue.recv().await {
        let chunks = match reply {
            Reply::Now(chunks) => chunks,
            Reply::Silent => {
                broker.metrics.answered(arrived.key, arrived.at.elapsed());
                continue;
            }
            Reply::Later(later) => {
                later.await.ok_or_else(|| Close::Refused("the request failed".to_owned()))?
            }
        };
        write_chunks(&mut write, chunks).await?;
        broker.metrics.answered(arrived.key, arrived.at.elapsed());
    }
    Ok(())
}

/// Writes all chunks, several a system call.
async fn write_chunks(write: &mut OwnedWriteHalf, chunks: Vec<Bytes>) -> io::Result<()> {
    let mut chunks = std::collections::VecDeque::from(chunks);
    while !chunks.is_empty() {
        let slices: Vec<_> = chunks.iter().map(|chunk| io::IoSlice::new(chunk)).collect();
        let mut written = write.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
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
    Ok(())
}
