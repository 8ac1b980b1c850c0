//! A connection's two halves, plain or under TLS.
//!
//! A plain connection holds no memory while it waits: it reads once there is something. Under TLS the record is read into
//! rustls' own buffer first, and a small one of ours.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use commitlog::Slice;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A handshake that takes longer is given up: until then a stranger holds a descriptor for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Room to read under TLS while nothing of a frame has come.
const TLS_START_BYTES: usize = 4 * 1024;

/// Where bytes come from.
pub(crate) enum ReadSide {
    Plain(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

/// Where bytes go.
pub(crate) enum WriteSide {
    Plain(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

/// The halves of a fresh connection; with `tls` after the handshake.
pub(crate) async fn open(
    stream: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
) -> io::Result<(ReadSide, WriteSide)> {
    stream.set_nodelay(true)?;
    let Some(config) = tls else {
        let (read, write) = stream.into_split();
        return Ok((ReadSide::Plain(read), WriteSide::Plain(write)));
    };
    let handshake = TlsAcceptor::from(config.clone()).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let (read, write) = tokio::io::split(stream);
    Ok((ReadSide::Tls(read), WriteSide::Tls(write)))
}

impl ReadSide {
    /// Waits for bytes and appends them to `buffer`, which is given `room` when it has none left. The number of bytes; 0
    /// at the end. May be dropped at any time without losing bytes.
    pub(crate) async fn fill(&mut self, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
        match self {
            Self::Plain(read) => loop {
                read.readable().await?;
                make_room(buffer, room);
                // Unlike `try_read_buf` this notes that the socket gave all it had: one look less at an empty one.
                match futures::poll!(std::pin::pin!(read.read_buf(buffer))) {
                    Poll::Ready(done) => return done,
                    Poll::Pending if buffer.is_empty() => *buffer = BytesMut::new(),
                    Poll::Pending => {}
                }
            },
            Self::Tls(read) => {
                make_room(buffer, if buffer.is_empty() { TLS_START_BYTES } else { room });
                read.read_buf(buffer).await
            }
        }
    }
}

fn make_room(buffer: &mut BytesMut, room: usize) {
    if buffer.capacity() == buffer.len() {
        buffer.reserve(room);
    }
}

impl WriteSide {
    /// Writes some of the slices; how many bytes.
    pub(crate) async fn write(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(write) => write.write_vectored(slices).await,
            Self::Tls(write) => write.write_vectored(slices).await,
        }
    }

    /// Whether [`WriteSide::send`] can.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Sends some of a slice from `at` on straight from its file; how many bytes. Plain connections only.
    pub(crate) async fn send(&mut self, slice: &Slice, at: usize) -> io::Result<usize> {
        let Self::Plain(write) = self else { return Err(io::ErrorKind::Unsupported.into()) };
        loop {
            write.writable().await?;
            let socket: &TcpStream = write.as_ref();
            match socket.try_io(Interest::WRITABLE, || slice.send(socket.as_fd(), at)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Pushes out what TLS holds back.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(write) => write.flush().await,
        }
    }

    /// Says goodbye, as TLS wants it said.
    pub(crate) async fn close(&mut self) {
        if let Self::Tls(write) = self {
            // The other side may be gone already.
            let _ = tokio::time::timeout(HANDSHAKE, write.shutdown()).await;
        }
    }
}
