//! The same requests to Ketch and to a real Apache Kafka 4.3, answers compared field by field.
//!
//! Needs `KETCH_TEST_KAFKA_CLASSPATH`, which `cargo xtask test` sets; without it the test says so and passes.
//!
//! What the script cannot produce: several connections at once, fetches that wait, members of groups, transactions.

mod batches;
#[path = "../common/mod.rs"]
mod common;
mod known;
mod script;
mod side;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use common::Served;
use common::kafka::{ALIKE, RealKafka, SET_BY_TEST, class_path};
use script::{Planned, Script};
use side::Side;

/// Requests of a run; `KETCH_TEST_DIFFERENTIAL_STEPS` asks for more.
const STEPS: usize = 1_200;
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
        known::normalise(planned.step.key, &mut ours, &mut theirs);
        let mut found = tree::differences(&ours, &theirs);
        found.retain(|difference| !known::stated(planned.step.key, difference));
        found
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
    let root = tempfile::tempdir().expect("a directory");
    let kafka = RealKafka::start(root.path(), &class_path, &ALIKE[..SET_BY_TEST]);
    let mut options = common::options(&root.path().join("ketch"));
    options.properties.extend(ALIKE.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let served = Served::with(options, testkit::MemStore::shared()).await;
    let mut pair =
        Pair { ours: Side::new(served.handle.addr()), theirs: Side::new(kafka.addr), found: BTreeMap::new() };

    let now_ms = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64;
    let seed = number("KETCH_TEST_DIFFERENTIAL_SEED", 43);
    let mut script = Script::new(seed as u64, now_ms);
    for planned in script.opening() {
        pair.run(&planned).await;
    }
    for _ in 0..number("KETCH_TEST_DIFFERENTIAL_STEPS", STEPS) {
        pair.run(&script.next()).await;
    }
    let logs = logs_differ(&root.path().join("ketch"), &kafka.dir, &pair.ours.learn().await);
    served.stop().await;
    pair.found.entry("logs".into()).or_default().extend(logs);
    pair.found.retain(|at, examples| !examples.is_empty() && !known::open(at));
    let shown = pair.found.iter().map(|(at, examples)| format!("{at}\n{}\n", examples.join("\n")));
    let shown: String = shown.collect();
    assert!(shown.is_empty(), "seed {seed}\n{shown}");
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// Partitions whose log files are not the same byte for byte.
fn logs_differ(ours: &std::path::Path, theirs: &std::path::Path, topics: &[(String, usize)]) -> Vec<String> {
    let read = |dir: &std::path::Path, name: &str| {
        let mut files: Vec<_> = std::fs::read_dir(dir.join(name))
            .expect("a partition's directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        files.sort();
        files.iter().flat_map(|path| std::fs::read(path).expect("a log")).collect::<Vec<u8>>()
    };
    let names =
        topics.iter().flat_map(|(name, count)| (0..*count).map(move |index| format!("{name}-{index}")));
    let compare = |name: String| {
        let (a, b) = (read(ours, &name), read(theirs, &name));
        let at = a.iter().zip(&b).position(|(a, b)| a != b);
        (a != b).then(|| format!("log of {name}: {} bytes, Kafka's {}, first at {at:?}", a.len(), b.len()))
    };
    names.filter_map(compare).collect()
}
