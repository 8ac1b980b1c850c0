//! The bytes of an HTTP/2 connection on their way, looked at for what the library does not tell: the client's pings, and
//! when the server last said something. A client that pings too often is sent away with the words that gRPC's servers have
//! for it.
//!
//! ```text
//! client ──▶ [frame heads: pings] ──▶ h2 ──▶ [frame heads: DATA, HEADERS] ──▶ client
//!                     └──▶ Manners::may_ping ──no──▶ GOAWAY ENHANCE_YOUR_CALM "too_many_pings", and the end
//! ```
//! The rule is grpc-go's, with etcd's settings (facts: grpc-go internal/transport/http2_server.go `handlePing`, etcd
//! `--grpc-keepalive-min-time`): a ping sooner than 5 s after the last one, or than 2 h where no call is open, is a strike,
//! three strikes are too many, and all are forgotten when the server has sent something of a call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Length 3, kind, flags, stream 4.
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
/// The flag of a ping that answers one.
const ACK: u8 = 1;
/// Pings may come this often while a call is open, and this often while none is.
const EVERY: Duration = Duration::from_secs(5);
const EVERY_IDLE: Duration = Duration::from_secs(2 * 3600);
/// Strikes that are borne.
const STRIKES_MAX: u32 = 2;
const FAREWELL_BYTES: usize = 31;

/// GOAWAY with ENHANCE_YOUR_CALM and the words; streams behind `last` were not looked at.
fn farewell(last: u32) -> [u8; FAREWELL_BYTES] {
    let mut bytes = *b"\0\0\x16\x07\0\0\0\0\0....\0\0\0\x0btoo_many_pings";
    bytes[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&last.to_be_bytes());
    bytes
}

/// What was seen on the way.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Pings that nobody has judged yet.
    pings: AtomicU32,
    /// Something of a call was sent since the last ping.
    sent: AtomicBool,
    /// The last stream that the client opened.
    last_stream: AtomicU32,
    /// The client is sent away.
    calm: AtomicBool,
}

impl Seen {
    /// From the next frame on nothing is sent but the farewell.
    pub(super) fn send_away(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }
}

/// How a client has behaved.
#[derive(Debug)]
pub(super) struct Manners {
    seen: Arc<Seen>,
    last: Option<Instant>,
    strikes: u32,
}

impl Manners {
    pub(super) fn new(seen: Arc<Seen>) -> Self {
        Self { seen, last: None, strikes: 0 }
    }

    /// Judges the pings that came since the last time; false when they are too many.
    pub(super) fn may_ping(&mut self, calls_open: bool) -> bool {
        if self.seen.pings.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let now = Instant::now();
        (0..self.seen.pings.swap(0, Ordering::Relaxed)).all(|_| self.judge(now, calls_open))
    }

    fn judge(&mut self, now: Instant, calls_open: bool) -> bool {
        let every = if calls_open { EVERY } else { EVERY_IDLE };
        let soon = self.last.is_some_and(|last| now < last + every);
        self.last = Some(now);
        if self.seen.sent.swap(false, Ordering::Relaxed) {
            self.strikes = 0;
        } else {
            self.strikes += u32::from(soon);
        }
        self.strikes <= STRIKES_MAX
    }
}

/// Where in its frames a stream of bytes is.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes that are no frame's: what a client says first, then what is left of a frame.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_len: usize,
}

impl Frames {
    /// Takes bytes in; `each` is told kind, flags and stream of every frame that begins.
    /// What it costs goes by frames, not by bytes: payloads are stepped over.
    fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u8, u32)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let len = (HEAD_BYTES - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + len].copy_from_slice(&bytes[..len]);
            self.head_len += len;
            bytes = &bytes[len..];
            if self.head_len == HEAD_BYTES {
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                self.head_len = 0;
                each(kind, flags, u32::from_be_bytes(stream) & (u32::MAX >> 1));
            }
        }
    }

    /// How many bytes may follow until it is known where the frame ends, or it does; 0 between two frames.
    fn open(&self) -> usize {
        match (self.skip, self.head_len) {
            (0, 0) => 0,
            (0, head_len) => HEAD_BYTES - head_len,
            (skip, _) => skip,
        }
    }
}

/// A connection whose frames are looked at, from the client's preface on.
pub(super) struct Watched<S> {
    stream: S,
    seen: Arc<Seen>,
    read: Frames,
    written: Frames,
    /// Bytes of the farewell that are sent.
    farewell: usize,
}

impl<S> Watched<S> {
    /// Before the client's preface of so many bytes is read.
    pub(super) fn new(stream: S, preface_bytes: usize) -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        let read = Frames { skip: preface_bytes, ..Frames::default() };
        let watched = Self { stream, seen: seen.clone(), read, written: Frames::default(), farewell: 0 };
        (watched, seen)
    }

    fn note_written(&mut self, bytes: &[u8]) {
        let seen = &self.seen;
        self.written.take(bytes, |kind, _, _| {
            if kind == DATA || kind == HEADERS {
                seen.sent.store(true, Ordering::Relaxed);
            }
        });
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Finishes the frame that was begun, and then says farewell: ends with an error once all is said.
    fn poll_leave(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let open = self.written.open();
        if open > 0 && self.farewell == 0 {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..open.min(bytes.len())]))?;
            self.note_written(&bytes[..wrote]);
            return Poll::Ready(Ok(wrote));
        }
        let farewell = farewell(self.seen.last_stream.load(Ordering::Relaxed));
        while self.farewell < farewell.len() {
            let rest = &farewell[self.farewell..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                wrote => self.farewell += wrote,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Poll::Ready(Err(io::Error::other("the client pings too often")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let Self { read, seen, .. } = &mut *self;
        read.take(&out.filled()[before..], |kind, flags, stream| match kind {
            PING if flags & ACK == 0 => drop(seen.pings.fetch_add(1, Ordering::Relaxed)),
            // Nobody else writes here: what costs less than an addition of several writers is enough.
            HEADERS => {
                let last = seen.last_stream.load(Ordering::Relaxed).max(stream);
                seen.last_stream.store(last, Ordering::Relaxed);
            }
            _ => {}
        });
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.seen.calm.load(Ordering::Relaxed) {
            return self.poll_leave(cx, bytes);
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.note_written(&bytes[..wrote]);
        Poll::Ready(Ok(wrote))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.seen.calm.load(Ordering::Relaxed) {
            let first = pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| piece);
            return self.poll_leave(cx, first);
        }
        let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces))?;
        let mut left = wrote;
        for piece in pieces {
            let len = piece.len().min(left);
            self.note_written(&piece[..len]);
            left -= len;
        }
        Poll::Ready(Ok(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes =
            [b"preface".to_vec(), frame(4, 0, &[]), frame(PING, 0, &[PING; 8]), frame(DATA, 1, &[6; 300])];
        let bytes = bytes.concat();
        for cut in 1..bytes.len() {
            let mut frames = Frames { skip: 7, ..Frames::default() };
            let mut seen = Vec::new();
            bytes
                .chunks(cut)
                .for_each(|chunk| frames.take(chunk, |kind, flags, stream| seen.push((kind, flags, stream))));
            assert_eq!((seen, frames.open()), (vec![(4, 0, 1), (PING, 0, 1), (DATA, 1, 1)], 0), "{cut}");
        }
    }

    fn manners() -> (Manners, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        (Manners::new(seen.clone()), seen)
    }

    #[tokio::test(start_paused = true)]
    async fn three_strikes_are_too_many() {
        let (mut manners, seen) = manners();
        let mut ping = |calls_open| {
            seen.pings.fetch_add(1, Ordering::Relaxed);
            manners.may_ping(calls_open)
        };
        // With a call open, every 5 s is good; the first is, too.
        assert!(ping(true));
        for _ in 0..9 {
            tokio::time::advance(EVERY).await;
            assert!(ping(true));
        }
        // Strikes are not forgotten by waiting.
        for _ in 0..2 {
            tokio::time::advance(EVERY).await;
            assert!(ping(true) && ping(true));
        }
        seen.sent.store(true, Ordering::Relaxed);
        assert!(ping(true), "but by an answer");
        assert!(ping(true) && ping(true) && !ping(true));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_call_pings_are_for_every_two_hours() {
        let (mut manners, seen) = manners();
        let mut ping = || {
            seen.pings.fetch_add(1, Ordering::Relaxed);
            manners.may_ping(false)
        };
        assert!(ping());
        tokio::time::advance(EVERY_IDLE).await;
        assert!(ping());
        for _ in 0..2 {
            tokio::time::advance(EVERY_IDLE / 2).await;
            assert!(ping());
        }
        tokio::time::advance(EVERY_IDLE / 2).await;
        assert!(!ping());
    }

    #[tokio::test]
    async fn the_farewell_comes_between_two_frames() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (mut server, seen) = Watched::new(server, 0);
        let begun = frame(DATA, 0, &[7; 100]);
        server.write_all(&begun[..50]).await.unwrap();
        seen.send_away();
        let rest = [&begun[50..], &frame(HEADERS, 0, &[8; 20])[..]].concat();
        assert!(server.write_all(&rest).await.is_err());
        drop(server);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [&begun[..], &farewell(0)[..]].concat());
        assert_eq!(farewell(5)[..HEAD_BYTES + 4], *b"\0\0\x16\x07\0\0\0\0\0\0\0\0\x05");
    }
}
