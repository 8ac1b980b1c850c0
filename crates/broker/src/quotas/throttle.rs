//! A request of a client whose use is limited: what it used is counted, the answer tells how long the client is to pause,
//! and its connection is not read meanwhile.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::ApiKey;

use super::{ANONYMOUS, Kind, Who};
use crate::api::Connection;
use crate::door::{Close, Reply};

/// A use of one second of a thread is this much of `request_percentage`.
const PERCENT_PER_SECOND: f64 = 100.0;

/// A future and how long it was worked on.
struct Timed<F> {
    inner: Pin<Box<F>>,
    spent: Duration,
}

impl<F: Future> Future for Timed<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let start = Instant::now();
        let polled = self.inner.as_mut().poll(cx);
        self.spent += start.elapsed();
        let spent = self.spent;
        polled.map(|output| (output, spent))
    }
}

fn timed<F: Future>(inner: F) -> Timed<F> {
    Timed { inner: Box::pin(inner), spent: Duration::ZERO }
}

/// The client that a request names.
pub(crate) fn who(client_id: Option<&str>) -> Who {
    Who { user: ANONYMOUS, client_id: client_id.unwrap_or_default().to_owned() }
}

/// Serves a request of `size` bytes by `serving` and counts it.
pub(crate) async fn count(
    c: &Connection,
    (key, version): (ApiKey, i16),
    who: Who,
    size: usize,
    serving: impl Future<Output = Result<Reply, Close>>,
) -> Result<Reply, Close> {
    let (reply, spent) = timed(serving).await;
    let quotas = &c.broker.quotas;
    let produced_ms = match key {
        ApiKey::Produce => quotas.record(Kind::Produce, &who, size as f64, c.broker.passed_ms()),
        _ => 0,
    };
    c.mute(produced_ms);
    let finish = move |c: &Connection, spent: Duration, chunks: &mut Vec<Bytes>| {
        let used = spent.as_secs_f64() * PERCENT_PER_SECOND;
        let worked_ms = c.broker.quotas.record(Kind::Request, &who, used, c.broker.passed_ms());
        c.mute(worked_ms);
        tell(key, version, chunks, produced_ms.max(worked_ms));
    };
    Ok(match reply? {
        Reply::Now(mut chunks) => {
            finish(c, spent, &mut chunks);
            Reply::Now(chunks)
        }
        Reply::Later(later) => {
            let c = c.clone();
            Reply::Later(Box::pin(async move {
                let (answer, more) = timed(later).await;
                let mut answer = answer?;
                finish(&c, spent + more, &mut answer.chunks);
                Some(answer)
            }))
        }
        Reply::Silent => Reply::Silent,
    })
}

/// Where an answer has `throttle_time_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Behind so many bytes of the body.
    Behind(usize),
    /// After everything else, but for the tags.
    Last,
}

/// Where the answers to a version have it; None where they do not.
fn place(key: ApiKey, version: i16) -> Option<At> {
    let from = match key {
        ApiKey::Produce => return (version >= 1).then_some(At::Last),
        ApiKey::ApiVersions => return (1..=2).contains(&version).then_some(At::Last),
        ApiKey::DescribeQuorum | ApiKey::WriteTxnMarkers => return None,
        // The error comes first.
        ApiKey::OffsetDelete => return Some(At::Behind(2)),
        ApiKey::Fetch
        | ApiKey::FindCoordinator
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::DeleteTopics => 1,
        ApiKey::ListOffsets | ApiKey::JoinGroup | ApiKey::CreateTopics | ApiKey::OffsetForLeaderEpoch => 2,
        ApiKey::Metadata | ApiKey::OffsetCommit | ApiKey::OffsetFetch => 3,
        _ => 0,
    };
    (version >= from).then_some(At::Behind(0))
}

/// Tells a client to pause, where the answer does not ask for more already.
fn tell(key: ApiKey, version: i16, chunks: &mut [Bytes], pause_ms: i64) {
    let pause_ms = i32::try_from(pause_ms).unwrap_or(i32::MAX);
    let Some(place) = place(key, version).filter(|_| pause_ms > 0) else { return };
    // Size and correlation id, and the tags of a flexible answer, of which there are none.
    let head = 8 + usize::from(key.response_header_version(version) == 1);
    // Tags, where there are any, are one byte for none.
    let tags = usize::from(key.response_header_version(version) == 1);
    let chunk = match place {
        At::Behind(_) => chunks.first_mut(),
        At::Last => chunks.last_mut(),
    };
    let Some(chunk) = chunk else { return };
    let at = match place {
        At::Behind(bytes) => Some(head + bytes),
        At::Last => chunk.len().checked_sub(4 + tags),
    };
    let Some(at) = at.filter(|at| at + 4 <= chunk.len()) else { return };
    let mut bytes = BytesMut::from(&chunk[..]);
    let told = i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    bytes[at..at + 4].copy_from_slice(&told.max(pause_ms).to_be_bytes());
    *chunk = bytes.freeze();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SERVED;
    use kafka_wire::{MESSAGES, messages as m};

    /// What an answer reads as whose body was all zeros, or all ones (where lengths of zero are null), and was told to pause.
    fn told(key: ApiKey, version: i16, fill: u8) -> Option<String> {
        let name = format!("{}Response", key.name());
        let message = MESSAGES.iter().find(|message| message.name == name).unwrap();
        let head = 8 + usize::from(key.response_header_version(version) == 1);
        let mut chunks = vec![Bytes::from(vec![fill; head + 400])];
        tell(key, version, &mut chunks, PAUSE_MS);
        (message.recode)(&chunks[0].slice(head..), version).ok().map(|(_, text)| text)
    }

    /// More than four bytes that are one.
    const PAUSE_MS: i64 = 99_999_999;

    /// Every key and version that is served.
    #[test]
    fn every_answer_that_has_a_place_for_it_tells() {
        for key in SERVED {
            let versions = key.versions();
            for version in versions.min..=versions.stable_max {
                let at = format!("{} {version}", key.name());
                match place(*key, version) {
                    Some(At::Behind(_)) => {
                        let text = told(*key, version, 0).or_else(|| told(*key, version, 1)).expect(&at);
                        assert!(text.contains(&format!("throttle_time_ms: {PAUSE_MS}")), "{at}: {text}");
                    }
                    Some(At::Last) => {}
                    None => {
                        let elsewhere = *key == ApiKey::ApiVersions;
                        let text = told(*key, version, 1).filter(|_| !elsewhere).unwrap_or_default();
                        let none = !text.contains("throttle_time_ms") || text.contains("throttle_time_ms: 0");
                        assert!(none, "{at} has a place: {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn produce_tells_at_its_end() {
        for version in 3..=13 {
            let response = m::ProduceResponse { throttle_time_ms: 5, ..Default::default() };
            let mut chunks = kafka_wire::frame::response(1, version, &response).unwrap();
            tell(ApiKey::Produce, version, &mut chunks, 77);
            tell(ApiKey::Produce, version, &mut chunks, 6);
            let frame = Bytes::from(chunks.concat()).slice(4..);
            let (_, back) = kafka_wire::frame::read_response::<m::ProduceResponse>(&frame, version).unwrap();
            assert_eq!(back.throttle_time_ms, 77, "version {version}");
        }
    }
}
