//! Snapshots by themselves: in a directory, and in an S3-compatible object store that somebody else wrote, where
//! `KETCH_TEST_S3` names the program of `tests/go/s3`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod door;
mod etcd;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base::task::Tasks;
use etcd::program;
use store::snapshot::{Objects, Schedule, Target, restore, status};
use store_api::{Op, Store as _, Txn};

const PATIENCE: Duration = Duration::from_secs(30);

async fn put(store: &store::Handle, value: &str) {
    let success = vec![Op::put("k", value.to_owned())];
    store.txn(Txn { success, ..Txn::default() }).await.unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_few_stay_in_a_directory_and_restore() {
    let root = tempfile::tempdir().unwrap();
    let (tasks, kept) = (Tasks::new(), root.path().join("snapshots"));
    let store = store::Service::start(store::Options::new(root.path().join("a")), &tasks).unwrap();
    put(&store, "1").await;
    std::fs::create_dir(&kept).unwrap();
    std::fs::write(kept.join("ketch-mine.db"), "somebody else's").unwrap();
    let schedule =
        Schedule { every: Duration::from_secs(1), keep: 2, target: Target::Directory(kept.clone()) };
    let saving = tokio::spawn(store.clone().save_always(schedule));
    let newest = |revision: i64| {
        let kept = kept.clone();
        async move || names(&kept).iter().any(|name| name.ends_with(&format!("-r{revision}.db")))
    };
    until("the first", newest(2)).await;
    put(&store, "2").await;
    until("the second", newest(3)).await;
    put(&store, "3").await;
    until("the third", newest(4)).await;
    until("the first is gone", async || names(&kept).len() == 3).await;
    let all = names(&kept);
    assert!(all[0].ends_with("-r3.db") && all[1].ends_with("-r4.db") && all[2] == "ketch-mine.db", "{all:?}");
    let newest = kept.join(&all[1]);
    assert_eq!(status(&newest).unwrap().revision.get(), 4);
    let restored = restore(&newest, &root.path().join("b"), Default::default()).unwrap();
    assert_eq!((restored.revision.get(), restored.changes), (4, 3));
    tasks.shutdown(Duration::from_secs(10)).await;
    saving.await.unwrap();
}

/// Killed when it goes out of scope.
struct S3(Child);

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_few_stay_in_a_bucket_and_restore() {
    let Some(program) = program("KETCH_TEST_S3") else { return };
    let mut child = Command::new(program).arg("backups").stdout(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let _s3 = S3(child);
    let settings = [
        ("AWS_ENDPOINT_URL", url.trim()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "test-key"),
        ("AWS_SECRET_ACCESS_KEY", "test-secret"),
        ("AWS_REGION", "eu-1"),
    ];
    let settings = || settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let objects = Objects::parse("s3://backups/ketch/a", settings()).unwrap();
    let root = tempfile::tempdir().unwrap();
    let tasks = Tasks::new();
    let store = store::Service::start(store::Options::new(root.path().join("a")), &tasks).unwrap();
    // More than one part, so that the upload is one of several.
    for at in 0..20 {
        let value: String =
            (0..1_000_000_u32).map(|i| char::from(b'a' + ((i * 7 + at) % 26) as u8)).collect();
        put(&store, &value).await;
    }
    let schedule =
        Schedule { every: Duration::from_secs(1), keep: 1, target: Target::Objects(objects.clone()) };
    let saving = tokio::spawn(store.clone().save_always(schedule));
    until("the first", async || objects.list().await.unwrap().iter().any(|n| n.ends_with("-r21.db"))).await;
    put(&store, "last").await;
    let only = async || {
        let all = objects.list().await.unwrap();
        all.len() == 1 && all[0].ends_with("-r22.db")
    };
    until("the second alone", only).await;
    let (name, file) = (objects.list().await.unwrap().remove(0), root.path().join("fetched.db"));
    objects.fetch(&name, &file).await.unwrap();
    assert_eq!(restore(&file, &root.path().join("b"), Default::default()).unwrap().revision.get(), 22);
    let wrong = settings().map(|(name, value)| (name, value.replace("test-key", "wrong")));
    let refused = Objects::parse("s3://backups", wrong).unwrap().list().await.unwrap_err().to_string();
    assert!(refused.contains("not signed") || refused.contains("403"), "{refused}");
    tasks.shutdown(Duration::from_secs(10)).await;
    saving.await.unwrap();
}

#[test]
fn a_place_that_is_none_is_refused() {
    for url in ["s3://", "s3:///x", "gs://b", "/dir"] {
        let told = Objects::parse(url, Vec::new()).unwrap_err().to_string();
        assert!(told.contains("s3://bucket/prefix"), "{url}: {told}");
    }
}
