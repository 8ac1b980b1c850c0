//! Bodies of the gateway: JSON values in, gRPC frames on, and the way back.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited};
use tonic::body::Body;
use tonic::{Code, Status};

use super::JSON_BYTES_MAX;
use super::json::{self, Call, FRAME_HEAD_BYTES};

/// A whole body.
pub(super) async fn read(body: Body) -> Result<Bytes, Status> {
    let collected = Limited::new(body, JSON_BYTES_MAX).collect().await;
    Ok(collected.map_err(|error| Status::invalid_argument(error.to_string()))?.to_bytes())
}

/// JSON values, one after the other, as frames.
pub(super) fn frames(call: Call, body: Body) -> Body {
    Body::new(Frames { call, body, splitter: Splitter::default(), done: false })
}

/// Frames, one after the other, as lines of JSON.
pub(super) fn lines(call: Call, body: Body) -> Body {
    Body::new(Lines { call, body, buffer: BytesMut::new(), done: false })
}

/// Finds the ends of JSON values in a stream of bytes.
#[derive(Default)]
struct Splitter {
    buffer: BytesMut,
    /// Bytes of the buffer that were looked at.
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Status> {
        if self.buffer.len() + bytes.len() > JSON_BYTES_MAX {
            return Err(Status::invalid_argument("the message is too large"));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole value. Values that are not objects are none of ours; what is left at the end is their error.
    fn next(&mut self) -> Option<Bytes> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            self.seen += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        let value = self.buffer.split_to(self.seen).freeze();
                        self.seen = 0;
                        return Some(value);
                    }
                }
                _ => {}
            }
        }
        None
    }

    fn rest(&mut self) -> Bytes {
        self.seen = 0;
        self.buffer.split().freeze()
    }
}

struct Frames {
    call: Call,
    body: Body,
    splitter: Splitter,
    done: bool,
}

impl Frames {
    /// What is left when the body ends: nothing, or the beginning of something.
    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.done = true;
        let rest = self.splitter.rest();
        if rest.iter().all(u8::is_ascii_whitespace) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(self.call.frame_first(&rest).map(Frame::data)))
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(value) = self.splitter.next() {
                return Poll::Ready(Some(self.call.frame_first(&value).map(Frame::data)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return self.end(),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.splitter.push(data)?;
                    }
                }
            }
        }
    }
}

struct Lines {
    call: Call,
    body: Body,
    buffer: BytesMut,
    done: bool,
}

impl Lines {
    /// The next whole message as a line.
    fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let head: &[u8; FRAME_HEAD_BYTES] = self.buffer.first_chunk()?;
        let [_, length @ ..] = head;
        let len = u32::from_be_bytes(*length) as usize;
        if self.buffer.len() < FRAME_HEAD_BYTES + len {
            return None;
        }
        self.buffer.advance(FRAME_HEAD_BYTES);
        Some(self.call.to_line(&self.buffer.split_to(len)))
    }

    fn fail(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.done = true;
        Poll::Ready(Some(Ok(Frame::data(json::error_line(status)))))
    }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if self.done {
                return Poll::Ready(None);
            }
            match self.next() {
                Some(Ok(line)) => return Poll::Ready(Some(Ok(Frame::data(line)))),
                Some(Err(status)) => return self.fail(&status),
                None => {}
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.done = true;
                    return Poll::Ready(None);
                }
                Some(Err(status)) => return self.fail(&status),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                        return self.fail(&status);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_however_they_are_cut() {
        let text = br#" {"a":"}\"{"}  {"b":{"c":[{}]}}{"d""#;
        for cut in 1..text.len() {
            let mut splitter = Splitter::default();
            let mut values = Vec::new();
            for chunk in text.chunks(cut) {
                splitter.push(chunk).unwrap();
                while let Some(value) = splitter.next() {
                    values.push(String::from_utf8(value.to_vec()).unwrap().trim().to_owned());
                }
            }
            assert_eq!(values, [r#"{"a":"}\"{"}"#, r#"{"b":{"c":[{}]}}"#]);
            assert_eq!(&splitter.rest()[..], br#"{"d""#);
        }
    }
}
