//! Response bodies: nothing, one piece, many shared pieces (lists), a stream (watches), a kubelet's answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// What ends a response body early.
#[derive(Debug, thiserror::Error)]
#[error("the response broke off: {0}")]
pub struct BodyError(pub String);

/// The body of every response of this server.
#[derive(Debug)]
pub struct Body(Inner);

#[derive(Debug)]
enum Inner {
    /// Pieces that are shared with the watch cache: a list is their concatenation.
    Pieces(VecDeque<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
    Proxied(hyper::body::Incoming),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self(Inner::Pieces(VecDeque::new()))
    }
    /// These bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Pieces(VecDeque::from([bytes.into()])))
    }
    /// The concatenation of the pieces.
    #[must_use]
    pub fn pieces(pieces: impl Into<VecDeque<Bytes>>) -> Self {
        Self(Inner::Pieces(pieces.into()))
    }
    /// What the sender sends, until it is dropped.
    #[must_use]
    pub fn stream(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self(Inner::Stream(receiver))
    }
    /// What another server answers.
    #[must_use]
    pub fn proxied(incoming: hyper::body::Incoming) -> Self {
        Self(Inner::Proxied(incoming))
    }
    /// The bytes that are known before sending; None for streams.
    #[must_use]
    pub fn known_len(&self) -> Option<usize> {
        match &self.0 {
            Inner::Pieces(pieces) => Some(pieces.iter().map(Bytes::len).sum()),
            _ => None,
        }
    }
    /// The pieces of a body that is not a stream.
    ///
    /// # Errors
    /// Gives a stream back.
    pub(crate) fn into_pieces(self) -> Result<VecDeque<Bytes>, Self> {
        match self.0 {
            Inner::Pieces(pieces) => Ok(pieces),
            other => Err(Self(other)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Pieces(pieces) => Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
            Inner::Stream(receiver) => receiver.poll_recv(cx).map(|piece| piece.map(|p| Ok(Frame::data(p)))),
            Inner::Proxied(incoming) => {
                let frame = Pin::new(incoming).poll_frame(cx);
                frame.map(|f| f.map(|r| r.map_err(|e| BodyError(e.to_string()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Inner::Pieces(pieces) if pieces.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        self.known_len().map_or_else(SizeHint::default, |len| SizeHint::with_exact(len as u64))
    }
}
