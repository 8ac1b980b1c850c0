//! One script of several thousand steps against a real etcd 3.6 and against Ketch's door, answers compared field by
//! field. What may differ stands in one table, `compare::IGNORED`, with its reason.
//!
//! What the script does not produce: clusters of several members, leases that end by themselves, two writers at once.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod bad;
mod compare;
mod script;
mod watch;
mod wire;

use base::task::Tasks;
use etcd_wire::etcdserverpb as pb;
use prost::Message;
use testkit::etcd::Etcd;

use compare::{Shapes, differences};
use script::Script;
use watch::Watching;
use wire::{Answer, Call, Side};

/// Steps of the seeded script in a plain run; `KETCH_TEST_STEPS` sets another number.
const STEPS: usize = 4000;
/// Steps between two sets of watches.
const WATCH_EVERY: usize = 500;
/// Differences shown before the rest is only counted.
const SHOWN_MAX: usize = 60;

/// Quick where nothing is lost by it: the answers do not depend on the disk.
const ETCD: &[&str] = &["--unsafe-no-fsync", "--bcrypt-cost", "4"];

struct Comparison {
    ours: Side,
    theirs: Side,
    shapes: Shapes,
    steps: usize,
    found: Vec<String>,
    /// The stores hold different things since an answer before: what follows would only repeat that.
    apart: bool,
}

impl Comparison {
    fn new(ours: Side, theirs: Side) -> Self {
        Self { ours, theirs, shapes: Shapes::new(), steps: 0, found: Vec::new(), apart: false }
    }

    fn names(&self) -> (&'static str, &'static str) {
        (self.ours.name, self.theirs.name)
    }

    fn differ(&mut self, step: &str, lines: Vec<String>) {
        self.steps += 1;
        if !lines.is_empty() {
            let step: String = step.chars().take(300).collect();
            self.found.push(format!("step {}: {step}\n    {}", self.steps, lines.join("\n    ")));
        }
    }

    /// One call on both sides; the reference's answer.
    async fn step(&mut self, call: &Call) -> Answer {
        let (ours, theirs) = tokio::join!(self.ours.unary(call), self.theirs.unary(call));
        self.judge(call, &ours, &theirs);
        theirs
    }

    fn judge(&mut self, call: &Call, ours: &Answer, theirs: &Answer) {
        let lines = if ours.is_err() && theirs.is_err() || self.decodable(call) {
            let fields = |answer| self.shapes.fields(&call.path, answer);
            differences(&fields(ours), &fields(theirs), self.names())
        } else {
            vec![format!("{ours:?} and {theirs:?}")]
        };
        self.apart |=
            lines.iter().any(|line| line.starts_with("header.revision") && !line.contains("(absent)"));
        let words = format!("{} {}", call.path, self.shapes.request(call));
        self.differ(&words, lines);
    }

    fn decodable(&self, call: &Call) -> bool {
        !call.path.contains("Nothing")
    }

    async fn all(&mut self, calls: Vec<Call>) {
        for call in calls {
            let _ = self.step(&call).await;
        }
    }

    async fn seeded(&mut self, seed: u64, steps: usize) {
        let mut script = Script::new(seed);
        for n in 0..steps {
            if n % WATCH_EVERY == 0 && n > 0 {
                self.watches(&mut script).await;
            }
            if self.apart {
                return self.differ("the rest of the seeded script", vec!["left out".to_owned()]);
            }
            let call = script.next();
            let theirs = self.step(&call).await;
            learn(&mut script, &call, &theirs);
        }
    }

    async fn compacted_watches(&mut self, compacted: i64) {
        for create in watch::compacted(compacted) {
            let both = |side: Side| {
                let create = create.clone();
                async move { Watching::open(&side, &[create]).await?.until_cancelled().await }
            };
            let (ours, theirs) = tokio::join!(both(self.ours.clone()), both(self.theirs.clone()));
            let lines = match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => told_lines(ours, theirs),
                other => vec![format!("{other:?}")],
            };
            self.differ("a watch from a compacted revision", lines);
        }
    }

    /// Opens every kind of watch on both sides, does the same steps, and compares what the watches were told.
    async fn watches(&mut self, script: &mut Script) {
        self.compacted_watches(script.world.compacted).await;
        let kinds = watch::kinds(script.world.revision, script.world.compacted);
        let opened = tokio::join!(Watching::open(&self.ours, &kinds), Watching::open(&self.theirs, &kinds));
        let (mut ours, mut theirs) = match opened {
            (Ok(ours), Ok(theirs)) => (ours, theirs),
            (ours, theirs) => {
                let error = |side: Result<Watching, String>| side.err();
                let line = format!("opening: {:?} and {:?}", error(ours), error(theirs));
                return self.differ("watches", vec![line]);
            }
        };
        for n in 0..30 {
            let mut call = script.next();
            // etcd looks at the past every 100 ms; a compaction meanwhile would race with it.
            while call.path.ends_with("/Compact") {
                call = script.next();
            }
            let answer = self.step(&call).await;
            learn(script, &call, &answer);
            if n == 10 {
                // What was not sent yet is not sent after a cancellation.
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                // A live watch and one that is not there.
                for id in [0, 12345] {
                    ours.cancel(id).await;
                    theirs.cancel(id).await;
                }
                // A cancellation has no answer to wait for when it is of nothing; what follows must not pass it.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        let (ours, theirs) = tokio::join!(async { ours.until(self.ours.revision().await).await }, async {
            theirs.until(self.theirs.revision().await).await
        });
        let lines = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => told_lines(ours, theirs),
            other => vec![format!("{other:?}")],
        };
        self.differ("watches", lines);
    }

    /// Calls whose refusal is another library's text: only the code is compared.
    async fn codes(&mut self, calls: Vec<Call>) {
        for call in calls {
            let (ours, theirs) = tokio::join!(self.ours.unary(&call), self.theirs.unary(&call));
            let code = |answer: &Answer| answer.as_ref().map_or_else(|error| error.0, |_| tonic::Code::Ok);
            let lines =
                if code(&ours) == code(&theirs) { vec![] } else { vec![format!("{ours:?} and {theirs:?}")] };
            self.differ(&format!("{} {:?}", call.path, call.request), lines);
        }
    }

    async fn streams(&mut self, calls: Vec<Call>) {
        for call in calls {
            let (ours, theirs) = tokio::join!(self.ours.stream(&call), self.theirs.stream(&call));
            self.judge(&call, &ours, &theirs);
        }
    }

    /// Users, roles and permissions, from the first to the last.
    async fn users(&mut self) {
        self.all(bad::users()).await;
        for (name, password) in [("", ""), ("ann", "pa"), ("bob", "pb"), ("root", "secret")] {
            self.enter(name, password).await;
            self.all(bad::tries()).await;
        }
        self.ours.token = Some("wrong.1".to_owned());
        self.theirs.token = self.ours.token.clone();
        self.all(bad::tries()).await;
        self.enter("root", "secret").await;
        self.all(bad::disable()).await;
        self.enter("", "").await;
    }

    async fn enter(&mut self, name: &str, password: &str) {
        (self.ours.token, self.theirs.token) = (None, None);
        if name.is_empty() {
            return;
        }
        let call = bad::authenticate(name, password);
        let (ours, theirs) = tokio::join!(self.ours.unary(&call), self.theirs.unary(&call));
        self.judge(&call, &ours, &theirs);
        let token = |answer: Answer| pb::AuthenticateResponse::decode(answer.ok()?).ok().map(|a| a.token);
        (self.ours.token, self.theirs.token) = (token(ours), token(theirs));
    }

    fn finish(self) {
        let count = self.found.len();
        let shown: Vec<&str> = self.found.iter().take(SHOWN_MAX).map(String::as_str).collect();
        println!("{} steps, {count} differences", self.steps);
        assert!(count == 0, "{count} of {} steps differ:\n{}", self.steps, shown.join("\n"));
    }
}

fn told_lines(
    ours: &std::collections::BTreeMap<i64, watch::Told>,
    theirs: &std::collections::BTreeMap<i64, watch::Told>,
) -> Vec<String> {
    let ids: std::collections::BTreeSet<&i64> = ours.keys().chain(theirs.keys()).collect();
    let differ = ids.into_iter().filter(|id| ours.get(id) != theirs.get(id));
    differ.map(|id| format!("watch {id}: {:?}\n      and {:?}", ours.get(id), theirs.get(id))).collect()
}

/// What the reference's answer says of revision and compaction.
fn learn(script: &mut Script, call: &Call, answer: &Answer) {
    // Every answer has its header in field 1.
    let Ok(bytes) = answer else { return };
    if let Ok(pb::AuthEnableResponse { header: Some(header) }) = pb::AuthEnableResponse::decode(bytes.clone())
    {
        script.world.revision = script.world.revision.max(header.revision);
    }
    if call.path.ends_with("/Compact")
        && let Ok(request) = pb::CompactionRequest::decode(call.request.clone())
    {
        script.world.compacted = script.world.compacted.max(request.revision);
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn compare_all(ours: Side, theirs: Side, steps: usize) {
    let mut comparison = Comparison::new(ours, theirs);
    comparison.seeded(number("KETCH_TEST_SEED", 1), steps).await;
    comparison.all(bad::limits()).await;
    comparison.all(bad::garbage()).await;
    comparison.codes(bad::undecodable()).await;
    comparison.all(bad::leases()).await;
    comparison.streams(bad::keep_alives()).await;
    comparison.all(bad::cluster()).await;
    comparison.users().await;
    comparison.finish();
}

/// Ketch's store behind its door, in this process.
async fn ketch(dir: &std::path::Path, tasks: &Tasks) -> Side {
    let store = store::Service::start(store::Options::new(dir), tasks).unwrap();
    let listen = vec![([127, 0, 0, 1], 0).into()];
    let door =
        store::door::Service::start(store::door::Options::new(listen, None), store, tasks).await.unwrap();
    Side::new("ketch", &door.addrs()[0].to_string())
}

/// The bar: no difference from a real etcd.
#[tokio::test(flavor = "multi_thread")]
async fn ketch_answers_as_etcd_does() {
    let Some(etcd) = Etcd::start(ETCD) else { return };
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let steps = number("KETCH_TEST_STEPS", STEPS as u64) as usize;
    compare_all(ketch(dir.path(), &tasks).await, Side::new("etcd", &etcd.address), steps).await;
    tasks.shutdown(std::time::Duration::from_secs(5)).await;
}

/// The comparison itself: two etcds must not differ, or the table of what may is too short.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_agrees_with_itself() {
    let (Some(one), Some(other)) = (Etcd::start(ETCD), Etcd::start(ETCD)) else { return };
    let steps = number("KETCH_TEST_STEPS", 600) as usize;
    compare_all(Side::new("one", &one.address), Side::new("other", &other.address), steps).await;
}
