//! The Watch service through a gRPC client: what a stream says, step by step, as etcd 3.6 says it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;

use std::time::Duration;

use door::{Served, delete, put};
use etcd_wire::etcdserverpb as pb;
use expect_test::expect;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Stream {
    async fn open(served: &Served) -> Self {
        let (requests, out) = mpsc::channel(64);
        let answers = served.watch().await.watch(ReceiverStream::new(out)).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn say(&self, request: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn create(&self, create: pb::WatchCreateRequest) {
        self.say(RequestUnion::CreateRequest(create)).await;
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.message()).await;
        answer.expect("an answer in time").unwrap().expect("the stream goes on")
    }

    async fn line(&mut self) -> String {
        show(&self.next().await)
    }

    async fn nothing(&mut self) {
        let answer = tokio::time::timeout(Duration::from_millis(200), self.answers.message()).await;
        assert!(answer.is_err(), "unexpected {answer:?}");
    }
}

fn on(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: key.to_owned().into(), ..pb::WatchCreateRequest::default() }
}

fn under(prefix: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { range_end: store_api::prefix_end(prefix.as_bytes()), ..on(prefix) }
}

fn show(answer: &pb::WatchResponse) -> String {
    let mut out = format!("#{} r{}", answer.watch_id, answer.header.unwrap().revision);
    for (set, name) in
        [(answer.created, " created"), (answer.canceled, " canceled"), (answer.fragment, " fragment")]
    {
        out.push_str(if set { name } else { "" });
    }
    if answer.compact_revision != 0 {
        out.push_str(&format!(" compacted {}", answer.compact_revision));
    }
    if !answer.cancel_reason.is_empty() {
        out.push_str(&format!(" '{}'", answer.cancel_reason));
    }
    for event in &answer.events {
        let kv = event.kv.as_ref().unwrap();
        let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
        let kind = if event.r#type == 0 { "put" } else { "delete" };
        out.push_str(&format!(" {kind} {key}={value}@{},{}", kv.create_revision, kv.mod_revision));
        if let Some(prev) = &event.prev_kv {
            out.push_str(&format!(" was {}", String::from_utf8_lossy(&prev.value)));
        }
    }
    out
}

#[tokio::test]
async fn ids_are_chosen_refused_and_freed_as_in_etcd() {
    let served = Served::start().await;
    let mut stream = Stream::open(&served).await;
    stream.create(on("a")).await;
    stream.create(pb::WatchCreateRequest { watch_id: 7, ..on("a") }).await;
    stream.create(pb::WatchCreateRequest { watch_id: 7, ..on("b") }).await;
    stream.create(pb::WatchCreateRequest { watch_id: 1, ..on("b") }).await;
    stream.create(on("c")).await;
    stream.create(pb::WatchCreateRequest { range_end: "a".into(), ..on("b") }).await;
    stream.create(pb::WatchCreateRequest { start_revision: -1, ..on("b") }).await;
    let cancel = |watch_id| RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
    stream.say(cancel(7)).await;
    stream.say(cancel(99)).await;
    stream.create(pb::WatchCreateRequest { watch_id: 7, ..on("b") }).await;
    let mut out = String::new();
    for _ in 0..9 {
        out.push_str(&(stream.line().await + "\n"));
    }
    expect![[r#"
        #0 r1 created
        #7 r1 created
        #-1 r1 created canceled 'mvcc: duplicate watch ID provided on the WatchStream'
        #1 r1 created
        #2 r1 created
        #-1 r1 created canceled 'mvcc: watcher range is empty'
        #-1 r1 created canceled 'etcdserver: mvcc: required revision has been compacted'
        #7 r1 canceled
        #7 r1 created
    "#]]
    .assert_eq(&out);
    stream.nothing().await;
    served.stop().await;
}

#[tokio::test]
async fn events_with_what_was_before_filters_and_ranges() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut stream = Stream::open(&served).await;
    let no = |filter: FilterType| vec![filter as i32];
    stream.create(pb::WatchCreateRequest { watch_id: 1, prev_kv: true, ..under("a") }).await;
    stream.create(pb::WatchCreateRequest { watch_id: 2, filters: no(FilterType::Noput), ..under("a") }).await;
    stream
        .create(pb::WatchCreateRequest { watch_id: 3, filters: no(FilterType::Nodelete), ..under("a") })
        .await;
    stream.create(pb::WatchCreateRequest { watch_id: 4, range_end: vec![0].into(), ..on("b") }).await;
    // The empty key up to \0 is everything.
    stream.create(pb::WatchCreateRequest { watch_id: 5, range_end: vec![0].into(), ..on("") }).await;
    stream.create(pb::WatchCreateRequest { watch_id: 6, ..on("a1") }).await;
    for _ in 0..6 {
        assert!(stream.next().await.created);
    }
    kv.put(put("a1", "1")).await.unwrap();
    kv.put(put("a1", "2")).await.unwrap();
    kv.put(put("c", "3")).await.unwrap();
    kv.delete_range(delete("a1")).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..14 {
        seen.push(stream.line().await);
    }
    // Watches of one stream keep their own order; between them there is none.
    seen.sort_by_key(|line| line.split(' ').next().map(str::to_owned));
    expect![[r#"
        #1 r2 put a1=1@2,2
        #1 r3 put a1=2@2,3 was 1
        #1 r5 delete a1=@0,5 was 2
        #2 r5 delete a1=@0,5
        #3 r2 put a1=1@2,2
        #3 r3 put a1=2@2,3
        #4 r4 put c=3@4,4
        #5 r2 put a1=1@2,2
        #5 r3 put a1=2@2,3
        #5 r4 put c=3@4,4
        #5 r5 delete a1=@0,5
        #6 r2 put a1=1@2,2
        #6 r3 put a1=2@2,3
        #6 r5 delete a1=@0,5"#]]
    .assert_eq(&seen.join("\n"));
    stream.nothing().await;
    served.stop().await;
}

#[tokio::test]
async fn a_start_in_the_past_the_future_and_before_the_compacted() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    for n in 1..=5 {
        kv.put(put("k", n.to_string())).await.unwrap();
    }
    kv.compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
    let mut stream = Stream::open(&served).await;
    let mut out = String::new();
    let from = |start_revision| pb::WatchCreateRequest { start_revision, prev_kv: true, ..on("k") };
    for start in [5, 3, 8] {
        stream.create(from(start)).await;
        out.push_str(&(stream.line().await + "\n"));
        if start < 8 {
            out.push_str(&(stream.line().await + "\n"));
        }
    }
    kv.put(put("k", "6")).await.unwrap();
    out.push_str(&(stream.line().await + "\n"));
    kv.put(put("k", "7")).await.unwrap();
    let mut both = [stream.line().await, stream.line().await];
    both.sort();
    out.push_str(&both.join("\n"));
    expect![[r#"
        #0 r6 created
        #0 r6 put k=4@2,5 was 3 put k=5@2,6 was 4
        #1 r6 created
        #1 r0 canceled compacted 4
        #2 r6 created
        #0 r7 put k=6@2,7 was 5
        #0 r8 put k=7@2,8 was 6
        #2 r8 put k=7@2,8 was 6"#]]
    .assert_eq(&out);
    served.stop().await;
}

#[tokio::test]
async fn progress_is_told_on_request_and_on_time() {
    let served = Served::with(|options| options.progress_every = Duration::from_millis(300)).await;
    let mut kv = served.kv().await;
    let mut stream = Stream::open(&served).await;
    let ask = || RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    // Without a watch there is no answer.
    stream.say(ask()).await;
    stream.nothing().await;
    stream.create(on("a")).await;
    stream.create(pb::WatchCreateRequest { progress_notify: true, ..on("b") }).await;
    assert!(stream.next().await.created && stream.next().await.created);
    kv.put(put("x", "1")).await.unwrap();
    stream.say(ask()).await;
    assert_eq!(stream.line().await, "#-1 r2");
    kv.put(put("x", "1")).await.unwrap();
    assert_eq!(stream.line().await, "#1 r3");
    // A watch that starts later than now is not up to date.
    stream.create(pb::WatchCreateRequest { start_revision: 100, ..on("z") }).await;
    loop {
        let answer = stream.next().await;
        if answer.created {
            break;
        }
    }
    stream.say(ask()).await;
    for _ in 0..2 {
        assert_eq!(stream.line().await, "#1 r3");
    }
    served.stop().await;
}

#[tokio::test]
async fn large_answers_are_cut_for_who_asks() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let value = vec![b'v'; 700 << 10];
    for n in 0..4 {
        kv.put(put(format!("a{n}"), &value)).await.unwrap();
    }
    let fill = (0..2).map(|n| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put(format!("b{n}"), &value))),
    });
    kv.txn(pb::TxnRequest { success: fill.collect(), ..pb::TxnRequest::default() }).await.unwrap();
    let mut stream = Stream::open(&served).await;
    let fragment =
        |fragment| pb::WatchCreateRequest { start_revision: 2, fragment, prev_kv: true, ..under("b") };
    kv.txn(pb::TxnRequest {
        success: (0..2)
            .map(|n| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put(format!("b{n}"), &value))),
            })
            .collect(),
        ..pb::TxnRequest::default()
    })
    .await
    .unwrap();
    stream.create(fragment(true)).await;
    let mut pieces = Vec::new();
    while pieces.iter().map(|piece: &pb::WatchResponse| piece.events.len()).sum::<usize>() < 4 {
        pieces.push(stream.next().await);
    }
    let sizes: Vec<_> = pieces.iter().map(|piece| (piece.fragment, piece.events.len())).collect();
    assert_eq!(
        sizes,
        [(false, 0), (false, 2), (true, 1), (false, 1)],
        "created, then revision 6, then 7 in two"
    );
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    const PUTS: usize = 400;
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut slow = Stream::open(&served).await;
    let mut quick = Stream::open(&served).await;
    for stream in [&mut slow, &mut quick] {
        stream.create(under("k")).await;
        assert!(stream.next().await.created);
    }
    let value = vec![b'v'; 64 << 10];
    let writing = tokio::spawn(async move {
        for n in 0..PUTS {
            kv.put(put(format!("k{n}"), &value)).await.unwrap();
        }
    });
    for stream in [&mut quick, &mut slow] {
        let mut expect = 2;
        while expect < 2 + PUTS as i64 {
            for event in stream.next().await.events {
                assert_eq!(event.kv.unwrap().mod_revision, expect);
                expect += 1;
            }
        }
    }
    writing.await.unwrap();
    served.stop().await;
}

#[tokio::test]
async fn many_watches_on_many_streams_see_the_same() {
    const STREAMS: usize = 10;
    const WATCHES: usize = 200;
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = Stream::open(&served).await;
        for _ in 0..WATCHES {
            stream.create(under("k")).await;
            assert!(stream.next().await.created);
        }
        streams.push(stream);
    }
    for n in 0..3 {
        kv.put(put(format!("k{n}"), "v")).await.unwrap();
    }
    for stream in &mut streams {
        let mut seen = vec![Vec::new(); WATCHES];
        while seen.iter().any(|revisions: &Vec<i64>| revisions.len() < 3) {
            let answer = stream.next().await;
            let events = answer.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision);
            seen[usize::try_from(answer.watch_id).unwrap()].extend(events);
        }
        assert!(seen.iter().all(|revisions| revisions == &[2, 3, 4]));
    }
    served.stop().await;
}
