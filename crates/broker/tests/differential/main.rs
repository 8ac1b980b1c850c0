//! The same requests to Ketch and to a real Apache Kafka 4.3, answers compared field by field.
//!
//! Needs `KETCH_TEST_KAFKA_CLASSPATH`, which `cargo xtask test` sets; without it the test says so and passes.
//!
//! What the script cannot produce: several connections at once, fetches that wait, members of groups.

mod batches;
#[path = "../common/mod.rs"]
mod common;
mod known;
mod script;
mod side;
mod transactions;
mod tree;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::Served;
use common::kafka::{ALIKE, RealKafka, SET_BY_TEST, class_path};
use script::{Planned, Script};
use side::{Side, Step};
use transactions::Transactions;

/// Requests of a run; `KETCH_TEST_DIFFERENTIAL_STEPS` asks for more.
const STEPS: usize = 1_200;
/// Requests about transactions of a run; `KETCH_TEST_DIFFERENTIAL_TRANSACTIONS` asks for more.
const TRANSACTION_STEPS: usize = 600;
/// The runs, by their seeds; `KETCH_TEST_DIFFERENTIAL_SEEDS=1,7,99` asks for others.
const SEEDS: &str = "43,14";
/// Larger than any log that a script writes: a file of this size was made so.
const SET_ASIDE_FROM: u64 = 32 << 20;
/// How often a broker is asked again that may not have caught up with a change.
const PATIENCE: usize = 60;
/// Different examples kept for each place that differs.
const EXAMPLES: usize = 5;
const PAUSE: Duration = Duration::from_millis(25);

struct Pair {
    ours: Side,
    theirs: Side,
    /// Examples by message and path.
    found: BTreeMap<String, Vec<String>>,
}

impl Pair {
    async fn run(&mut self, planned: &Planned) {
        let mut differences = self.compare(planned).await;
        for _ in 0..PATIENCE {
            let new = |found: &tree::Difference| !self.found.contains_key(&at(planned, found));
            if !planned.repeatable || !differences.iter().any(new) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            differences = self.compare(planned).await;
        }
        for difference in differences {
            let values = format!("ketch {:.300}\n      kafka {:.300}", difference.ours, difference.theirs);
            let examples = self.found.entry(at(planned, &difference)).or_default();
            if examples.len() < EXAMPLES && !examples.iter().any(|example| example.contains(&values)) {
                let step = &planned.step;
                examples.push(format!("   v{} {:.500}\n      {values}", step.version, step.shown));
            }
        }
        if planned.changes {
            self.settle(&planned.step.shown).await;
        }
    }

    async fn compare(&mut self, planned: &Planned) -> Vec<tree::Difference> {
        let mut ours = self.ours.ask(&planned.step).await;
        let mut theirs = self.theirs.ask(&planned.step).await;
        if std::env::var_os("KETCH_TEST_DIFFERENTIAL_TRACE").is_some() {
            let Step { key, version, shown, .. } = &planned.step;
            eprintln!("{} v{version} {shown:.400}\n  ketch {ours:.300}\n  kafka {theirs:.300}", key.name());
        }
        known::normalise(planned.step.key, &mut ours, &mut theirs);
        let mut found = tree::differences(&ours, &theirs);
        found.retain(|difference| {
            let ids = (&self.ours.ids, &self.theirs.ids);
            !known::stated(planned.step.key, difference) && !known::by_nature(difference, ids)
        });
        found
    }

    /// The epochs that a transactional id's producer has on both sides.
    fn epochs(&self, id: &str) -> (i16, i16) {
        (self.ours.ids.producer(id).1, self.theirs.ids.producer(id).1)
    }

    /// Asks with a DescribeTransactions until no transaction is on its way to its end, on either side.
    async fn until_settled(&mut self, describe: &Step) {
        let ends = |answer: &serde_json::Value| {
            let state = answer["transaction_states"][0]["transaction_state"].as_str().unwrap_or_default();
            state.starts_with("Prepare")
        };
        for _ in 0..PATIENCE {
            let (ours, theirs) = (self.ours.ask(describe).await, self.theirs.ask(describe).await);
            if !ends(&ours) && !ends(&theirs) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.found.entry("transactions".into()).or_default().push(format!("{} never ends", describe.shown));
    }

    /// Waits until both brokers have the same topics.
    async fn settle(&mut self, after: &str) {
        for _ in 0..PATIENCE {
            let (ours, theirs) = (self.ours.learn().await, self.theirs.learn().await);
            if ours == theirs {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let (ours, theirs) = (self.ours.learn().await, self.theirs.learn().await);
        let example = format!("after {after:.600}\n      ketch has {ours:?}\n      kafka has {theirs:?}");
        self.found.entry("topics".into()).or_default().push(example);
        // The rest of the script is of use only where both are alike.
        for (name, _) in
            ours.iter().chain(&theirs).filter(|topic| !(ours.contains(topic) && theirs.contains(topic)))
        {
            let delete = Script::delete(name);
            let _ = (self.ours.ask(&delete.step).await, self.theirs.ask(&delete.step).await);
        }
    }
}

/// Where a difference is counted: the message and the path.
fn at(planned: &Planned, difference: &tree::Difference) -> String {
    let step = &planned.step;
    let kind = if step.kind.is_empty() { String::new() } else { format!(" [{}]", step.kind) };
    format!("{}{kind} {}", step.key.name(), difference.path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_requests_get_the_same_answers() {
    let Some(class_path) = class_path() else { return };
    let seeds = std::env::var("KETCH_TEST_DIFFERENTIAL_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    let mut shown = String::new();
    for seed in seeds.split(',').map(|seed| seed.trim().parse().expect("a number")) {
        let found = differences(&class_path, seed).await;
        if !found.is_empty() {
            shown.push_str(&format!("seed {seed}\n{found}\n"));
        }
    }
    assert!(shown.is_empty(), "{shown}");
}

/// Runs the script of a seed; the places that differ, with examples.
async fn differences(class_path: &str, seed: u64) -> String {
    let root = tempfile::tempdir().expect("a directory");
    let kafka = RealKafka::start(root.path(), class_path, &ALIKE[..SET_BY_TEST]);
    let mut options = common::options(&root.path().join("ketch"));
    options.properties.extend(ALIKE.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut pair =
        Pair { ours: Side::new(served.handle.addr()), theirs: Side::new(kafka.addr), found: BTreeMap::new() };

    let now_ms = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64;
    let mut script = Script::new(seed, now_ms);
    for planned in script.opening() {
        pair.run(&planned).await;
    }
    for _ in 0..number("KETCH_TEST_DIFFERENTIAL_STEPS", STEPS) {
        pair.run(&script.next()).await;
    }
    let mut transactions = Transactions::new(seed, now_ms);
    transactions.opening(&mut pair).await;
    let differing = pair.found.len();
    for _ in 0..number("KETCH_TEST_DIFFERENTIAL_TRANSACTIONS", TRANSACTION_STEPS) {
        transactions.step(&mut pair).await;
        // What differs once differs from there on: the first difference is the one to look at.
        if pair.found.len() > differing {
            break;
        }
    }
    let logs = logs_differ(&root.path().join("ketch"), &kafka.dir, &pair.ours.learn().await);
    served.stop().await;
    pair.found.entry("logs".into()).or_default().extend(logs);
    pair.found.retain(|at, examples| !examples.is_empty() && !known::open(at));
    pair.found.iter().map(|(at, examples)| format!("{at}\n{}\n", examples.join("\n"))).collect()
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Partitions whose log files are not the same byte for byte. Segments below the log's start go at once here, and with the
/// next look of retention there; and a file whose space was set aside ends in zeros there (`docs/compat.md`).
fn logs_differ(ours: &Path, theirs: &Path, topics: &[(String, usize)]) -> Vec<String> {
    let read = |dir: &Path, name: &str| {
        let paths =
            std::fs::read_dir(dir.join(name)).expect("a directory").map(|e| e.expect("an entry").path());
        let logs = paths.filter(|path| path.extension().is_some_and(|e| e == "log"));
        let named = |path: PathBuf| (path.file_name().map(ToOwned::to_owned), content(&path));
        logs.map(named).collect::<BTreeMap<_, _>>()
    };
    // Transactions' logs hold producer ids and times of markers.
    let plain = topics.iter().filter(|(name, _)| !name.starts_with(transactions::PREFIX));
    let names = plain.flat_map(|(name, count)| (0..*count).map(move |index| format!("{name}-{index}")));
    let compare = |name: String| {
        let (a, mut b) = (read(ours, &name), read(theirs, &name));
        if let Some((first, _)) = a.first_key_value() {
            b = b.split_off(first);
        }
        let at = a.iter().zip(&b).position(|(a, b)| a != b);
        let sizes = |all: &BTreeMap<_, Vec<u8>>| all.values().map(Vec::len).collect::<Vec<_>>();
        (a != b)
            .then(|| format!("logs of {name}: {:?} bytes, Kafka's {:?}, first {at:?}", sizes(&a), sizes(&b)))
    };
    names.filter_map(compare).collect()
}

/// A file without the space at its end that was only set aside.
fn content(path: &Path) -> Vec<u8> {
    let mut file = std::fs::File::open(path).expect("a log");
    let len = file.metadata().expect("a length").len();
    let mut bytes = Vec::new();
    file.by_ref().take(len.min(SET_ASIDE_FROM)).read_to_end(&mut bytes).expect("readable");
    if len >= SET_ASIDE_FROM {
        let whole =
            kafka_wire::record::batches(&bytes).map_while(Result::ok).map(|batch| batch.bytes().len());
        let whole = whole.sum::<usize>();
        assert!(bytes[whole..].iter().all(|byte| *byte == 0), "{} holds more than batches", path.display());
        bytes.truncate(whole);
    }
    bytes
}
