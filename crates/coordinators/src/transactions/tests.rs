//! Tables of answers, and a seeded world: clients, partitions and a coordinator that crashes, with what must hold always.
//!
//! What the world cannot produce: partitions that fail, records of the log that are lost though they were durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base::random::Random;
use kafka_wire::ErrorCode;
use kafka_wire::messages::{EndTxnRequest, InitProducerIdRequest};

use super::state::Transaction;
use super::{Filter, Marked, Options, Partitions, Response, Shard, State, VERSION, VERSION_OLD};
use crate::desk::{Effects, LogRecord, Markers, Token, Write};

const TIMEOUT_MS: i32 = 1_000;

fn partitions(all: &[(&str, i32)]) -> Partitions {
    let mut found = Partitions::new();
    for (topic, partition) in all {
        found.entry((*topic).to_owned()).or_default().insert(*partition);
    }
    found
}

/// A shard whose writes succeed at once, and the markers that it asked for.
struct Desk {
    shard: Shard,
    now_ms: i64,
    markers: Vec<Markers>,
    records: Vec<LogRecord>,
    next_id: i64,
    hold: bool,
    held: VecDeque<Write>,
    answers: Vec<Response>,
}

impl Desk {
    fn new() -> Self {
        Self {
            shard: Shard::new(Options::default()),
            now_ms: 1_000_000,
            markers: Vec::new(),
            records: Vec::new(),
            next_id: 100,
            hold: false,
            held: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    fn stock(&mut self) {
        if self.shard.wants_id() {
            self.shard.give_id(self.next_id);
            self.next_id += 1;
        }
    }

    fn settle(&mut self, effects: Effects<Response>) {
        self.answers.extend(effects.replies.into_iter().map(|(_, response)| response));
        self.markers.extend(effects.markers);
        self.held.extend(effects.writes);
        while !self.hold && !self.held.is_empty() {
            let write = self.held.pop_front().unwrap();
            self.records.extend(write.records.clone());
            let effects = self.shard.complete(self.now_ms, write.id, Ok(()));
            self.settle(effects);
        }
    }

    fn answer(&mut self) -> Response {
        assert_eq!(self.answers.len(), 1, "{:?}", self.answers);
        self.answers.remove(0)
    }

    fn init(&mut self, expected: Option<(i64, i16)>) -> (ErrorCode, i64, i16) {
        self.stock();
        let (producer_id, producer_epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some("x".into()),
            transaction_timeout_ms: TIMEOUT_MS,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        let effects = self.shard.init_producer_id(self.now_ms, Token(1), &request);
        self.settle(effects);
        let Response::InitProducerId(r) = self.answer() else { panic!("another answer") };
        (ErrorCode::from_i16(r.error_code).unwrap(), r.producer_id, r.producer_epoch)
    }

    fn add(&mut self, who: (i64, i16), version: i16) -> ErrorCode {
        let (all, who) = (partitions(&[("t", 0)]), ("x", who.0, who.1));
        let effects = self.shard.add_partitions(self.now_ms, Token(1), who, &all, version);
        self.settle(effects);
        let Response::AddPartitions(code) = self.answer() else { panic!("another answer") };
        code
    }

    fn end(
        &mut self,
        (producer_id, producer_epoch): (i64, i16),
        committed: bool,
        version: i16,
    ) -> (ErrorCode, i64, i16) {
        self.stock();
        let request = EndTxnRequest { transactional_id: "x".into(), producer_id, producer_epoch, committed };
        let effects = self.shard.end(self.now_ms, Token(1), version, &request);
        self.settle(effects);
        let Response::EndTxn(r) = self.answer() else { panic!("another answer") };
        (ErrorCode::from_i16(r.error_code).unwrap(), r.producer_id, r.producer_epoch)
    }

    /// All markers are written.
    fn mark(&mut self) {
        for of in std::mem::take(&mut self.markers) {
            let effects = self.shard.marked(self.now_ms, &Marked::from(&of));
            self.settle(effects);
        }
    }

    fn state(&self) -> State {
        self.shard.entries["x"].now.state
    }

    /// Puts the id into a state, as a log would.
    fn set(&mut self, change: impl FnOnce(&mut Transaction)) {
        change(&mut self.shard.entries.get_mut("x").unwrap().now);
    }
}

/// The table of the class `TransactionCoordinator`: what each state answers to an end of version 2, repeated or the next.
#[test]
fn ends_of_version_2() {
    use ErrorCode::{ConcurrentTransactions, InvalidTxnState, None, ProducerFenced};
    let table = [
        (State::Empty, false, [ProducerFenced, None]),
        (State::Empty, true, [ProducerFenced, InvalidTxnState]),
        (State::Ongoing, false, [ProducerFenced, None]),
        (State::Ongoing, true, [ProducerFenced, None]),
        (State::PrepareCommit, true, [ConcurrentTransactions, ProducerFenced]),
        (State::PrepareAbort, false, [ConcurrentTransactions, ProducerFenced]),
        (State::CompleteAbort, false, [None, None]),
        (State::CompleteAbort, true, [InvalidTxnState, InvalidTxnState]),
        (State::CompleteCommit, false, [InvalidTxnState, None]),
        (State::CompleteCommit, true, [None, InvalidTxnState]),
    ];
    for (state, commit, expect) in table {
        for (current, expect) in expect.into_iter().enumerate() {
            let mut desk = Desk::new();
            let (_, id, _) = desk.init(Option::None);
            desk.set(|t| (t.state, t.epoch) = (state, 5));
            let epoch = 4 + current as i16;
            let told = desk.end((id, epoch), commit, 5);
            let shown = format!("{state:?}, commit {commit}, epoch {epoch}");
            assert_eq!(told.0, expect, "{shown}");
            match (told.0, current) {
                (None, 0) => assert_eq!((told.1, told.2), (id, 5), "{shown}"),
                (None, _) => assert_eq!((told.1, told.2), (id, 6), "{shown}"),
                _ => assert_eq!((told.1, told.2), (-1, -1), "{shown}"),
            }
        }
    }
}

#[test]
fn ends_of_version_0() {
    use ErrorCode::{ConcurrentTransactions, InvalidTxnState, None};
    let table = [
        (State::Empty, [InvalidTxnState, InvalidTxnState]),
        (State::Ongoing, [None, None]),
        (State::PrepareCommit, [ConcurrentTransactions, ConcurrentTransactions]),
        (State::CompleteCommit, [InvalidTxnState, None]),
        (State::CompleteAbort, [None, InvalidTxnState]),
    ];
    for (state, expect) in table {
        for (commit, expect) in [false, true].into_iter().zip(expect) {
            let mut desk = Desk::new();
            let (_, id, epoch) = desk.init(Option::None);
            desk.set(|t| t.state = state);
            assert_eq!(desk.end((id, epoch), commit, 3), (expect, -1, -1), "{state:?} {commit}");
            assert_eq!(desk.end((id, epoch + 1), commit, 3).0, ErrorCode::ProducerFenced);
            assert_eq!(desk.end((id + 1, epoch), commit, 3).0, ErrorCode::InvalidProducerIdMapping);
        }
    }
}

#[test]
fn a_transaction_goes_through_its_states() {
    for version in [VERSION, VERSION_OLD] {
        let (new, end) = (version == VERSION, if version == VERSION { 5 } else { 3 });
        let mut desk = Desk::new();
        let (_, id, epoch) = desk.init(None);
        assert_eq!((id, epoch), (100, 0));
        assert_eq!(desk.add((id, 0), version), ErrorCode::None);
        assert_eq!(desk.state(), State::Ongoing);
        assert_eq!(desk.end((id, 0), true, end).0, ErrorCode::None);
        assert_eq!(desk.state(), State::PrepareCommit);
        let markers = desk.markers[0].clone();
        assert_eq!((markers.commit, markers.version), (true, version));
        assert_eq!((markers.epoch, markers.partitions), (i16::from(new), partitions(&[("t", 0)])));
        assert_eq!(desk.add((id, markers.epoch), version), ErrorCode::ConcurrentTransactions);
        desk.mark();
        assert_eq!(desk.state(), State::CompleteCommit);
        assert_eq!(desk.add((id, markers.epoch), version), ErrorCode::None);
        // A new instance: the transaction is aborted, the epochs go on.
        assert_eq!(desk.init(None), (ErrorCode::ConcurrentTransactions, -1, -1));
        assert_eq!((desk.state(), desk.markers[0].commit), (State::PrepareAbort, false));
        assert_eq!(desk.init(None).0, ErrorCode::ConcurrentTransactions);
        desk.mark();
        let (_, same, next) = desk.init(None);
        assert_eq!((same, next), (id, markers.epoch + 2));
        assert_eq!(desk.add((id, markers.epoch), version), ErrorCode::ProducerFenced);
        // What is in the log is what is in memory.
        let mut loaded = Shard::new(Options::default());
        for record in &desk.records {
            loaded.replay(&record.key, record.value.as_ref()).unwrap();
        }
        let same = |shard: &Shard| Transaction { last_epoch: -1, ..shard.entries["x"].now.clone() };
        assert_eq!(same(&loaded), same(&desk.shard));
    }
}

/// A cluster at an older transaction version: an end of the coordinator's own raises the epoch by one and is of that version,
/// no other producer id follows, and version 0 writes what older brokers read. Clients' ends are as they ask.
#[test]
fn older_versions_of_the_cluster() {
    for (level, value_version) in [(0, 0), (1, 1), (VERSION, 1)] {
        for by_time in [false, true] {
            let mut desk = Desk::new();
            desk.shard.set_version(level);
            let (_, id, epoch) = desk.init(None);
            assert_eq!(desk.add((id, epoch), VERSION_OLD), ErrorCode::None);
            if by_time {
                let effects = desk.shard.poll(desk.shard.next_deadline().unwrap());
                desk.settle(effects);
            } else {
                assert_eq!(desk.init(None).0, ErrorCode::ConcurrentTransactions);
            }
            let markers = &desk.markers[0];
            assert_eq!((markers.version, markers.epoch, markers.commit), (level, epoch + 1, false));
            desk.mark();
            assert_eq!(desk.state(), State::CompleteAbort);
            assert_eq!(desk.end((id, epoch), true, 3).0, ErrorCode::ProducerFenced);
            assert_eq!(desk.init(None), (ErrorCode::None, id, epoch + 2));
            for record in &desk.records {
                let value = record.value.as_ref().unwrap();
                assert_eq!(value[..2], [0, value_version], "a value of version {level}");
            }
            let mut loaded = Shard::new(Options::default());
            desk.records.iter().for_each(|r| loaded.replay(&r.key, r.value.as_ref()).unwrap());
            let read = &loaded.entries["x"].now;
            assert_eq!((read.producer_id, read.epoch, read.state), (id, epoch + 2, State::Empty));
        }
        let mut desk = Desk::new();
        desk.shard.set_version(level);
        let (_, id, _) = desk.init(None);
        desk.set(|t| t.epoch = i16::MAX - 1);
        assert_eq!(desk.add((id, i16::MAX - 1), VERSION_OLD), ErrorCode::None);
        desk.stock();
        assert_eq!(desk.init(None).0, ErrorCode::ConcurrentTransactions);
        let now = &desk.shard.entries["x"].now;
        assert_eq!((now.producer_id, now.epoch, now.next_producer_id >= 0), (id, i16::MAX, level == VERSION));
        // The next session has another id in any case.
        desk.mark();
        assert!(desk.init(None).1 > id);
        // A client that knows version 2 and has not heard of the change yet.
        let mut desk = Desk::new();
        desk.shard.set_version(level);
        let (_, id, epoch) = desk.init(None);
        assert_eq!(desk.add((id, epoch), VERSION), ErrorCode::None);
        assert_eq!(desk.end((id, epoch), true, 5), (ErrorCode::None, id, epoch + 1));
        assert_eq!(desk.markers[0].version, VERSION);
    }
}

#[test]
fn a_producer_raises_its_own_epoch() {
    let mut desk = Desk::new();
    let (_, id, epoch) = desk.init(None);
    assert_eq!(desk.init(Some((id, epoch))), (ErrorCode::None, id, 1));
    // It did not hear the answer.
    assert_eq!(desk.init(Some((id, epoch))), (ErrorCode::None, id, 1));
    assert_eq!(desk.init(None), (ErrorCode::None, id, 2));
    assert_eq!(desk.init(Some((id, 1))).0, ErrorCode::ProducerFenced);
    assert_eq!(desk.init(Some((id + 1, 2))).0, ErrorCode::ProducerFenced);
}

#[test]
fn epochs_that_are_used_up_lead_to_another_id() {
    // At the next session.
    let mut desk = Desk::new();
    let (_, id, _) = desk.init(None);
    desk.set(|t| t.epoch = i16::MAX - 1);
    let (_, other, epoch) = desk.init(None);
    assert!(other > id && epoch == 0);
    // At an end of version 2, and at the repetition of it.
    let mut desk = Desk::new();
    let (_, id, _) = desk.init(None);
    desk.set(|t| t.epoch = i16::MAX - 1);
    assert_eq!(desk.add((id, i16::MAX - 1), VERSION), ErrorCode::None);
    let (_, other, epoch) = desk.end((id, i16::MAX - 1), true, 5);
    assert!(other > id && epoch == 0);
    assert_eq!((desk.markers[0].producer_id, desk.markers[0].epoch), (id, i16::MAX));
    desk.mark();
    assert_eq!(desk.end((id, i16::MAX - 1), true, 5), (ErrorCode::None, other, 0));
    assert_eq!(desk.add((other, 0), VERSION), ErrorCode::None);
    // By a fence.
    let mut desk = Desk::new();
    let (_, id, _) = desk.init(None);
    desk.set(|t| t.epoch = i16::MAX - 1);
    assert_eq!(desk.add((id, i16::MAX - 1), VERSION), ErrorCode::None);
    desk.stock();
    assert_eq!(desk.init(None).0, ErrorCode::ConcurrentTransactions);
    desk.mark();
    let (code, other, epoch) = desk.init(None);
    assert!(code == ErrorCode::None && other > id && epoch == 1);
    // Without an id to go on with, the client comes again.
    let mut desk = Desk::new();
    let request = InitProducerIdRequest {
        transactional_id: Some("x".into()),
        transaction_timeout_ms: 5,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let effects = desk.shard.init_producer_id(0, Token(1), &request);
    let Response::InitProducerId(told) = &effects.replies[0].1 else { panic!("another answer") };
    assert_eq!(told.error_code, ErrorCode::CoordinatorLoadInProgress.code());
}

#[test]
fn what_lasts_too_long_is_aborted_and_what_nobody_uses_goes() {
    let mut desk = Desk::new();
    let (_, id, epoch) = desk.init(None);
    assert_eq!(desk.add((id, epoch), VERSION), ErrorCode::None);
    let deadline = desk.shard.next_deadline().unwrap();
    assert_eq!(deadline, desk.now_ms + i64::from(TIMEOUT_MS) + 1);
    desk.now_ms = deadline;
    let effects = desk.shard.poll(deadline);
    desk.settle(effects);
    assert_eq!((desk.state(), desk.markers[0].epoch), (State::PrepareAbort, epoch + 1));
    assert_eq!(desk.shard.next_deadline(), None);
    desk.mark();
    assert_eq!(desk.end((id, epoch), true, 5).0, ErrorCode::InvalidTxnState);
    assert_eq!(desk.end((id, epoch), false, 5), (ErrorCode::None, id, epoch + 1));
    let deadline = desk.shard.next_deadline().unwrap();
    assert_eq!(deadline, desk.now_ms + Options::default().expiration_ms);
    let effects = desk.shard.poll(deadline);
    desk.settle(effects);
    assert!(desk.shard.entries.is_empty() && desk.records.last().unwrap().value.is_none());
    assert_eq!(desk.add((id, epoch + 1), VERSION), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(desk.shard.next_deadline(), None);
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let mut desk = Desk::new();
    let (_, id, epoch) = desk.init(None);
    desk.hold = true;
    let who = ("x", id, epoch);
    let effects = desk.shard.add_partitions(desk.now_ms, Token(1), who, &partitions(&[("t", 0)]), VERSION);
    desk.settle(effects);
    assert!(desk.answers.is_empty());
    let busy = desk.shard.add_partitions(desk.now_ms, Token(2), who, &partitions(&[("t", 1)]), VERSION);
    assert_eq!(busy.replies[0].1, Response::AddPartitions(ErrorCode::ConcurrentTransactions));
    let write = desk.held.pop_front().unwrap();
    let effects = desk.shard.complete(desk.now_ms, write.id, Err(ErrorCode::KafkaStorageError));
    assert_eq!(effects.replies[0].1, Response::AddPartitions(ErrorCode::NotCoordinator));
    assert_eq!(desk.state(), State::Empty);
    desk.hold = false;
    assert_eq!(desk.add((id, epoch), VERSION), ErrorCode::None);
    // The end of a transaction that cannot be written is tried again.
    desk.hold = true;
    desk.now_ms = desk.shard.next_deadline().unwrap();
    let effects = desk.shard.poll(desk.now_ms);
    desk.settle(effects);
    let write = desk.held.pop_front().unwrap();
    drop(desk.shard.complete(desk.now_ms, write.id, Err(ErrorCode::KafkaStorageError)));
    assert_eq!(desk.state(), State::Ongoing);
    let again = desk.shard.next_deadline().unwrap();
    assert_eq!(again, desk.now_ms + Options::default().retry_ms);
    (desk.hold, desk.now_ms) = (false, again);
    let effects = desk.shard.poll(again);
    desk.settle(effects);
    assert_eq!((desk.state(), desk.markers.len()), (State::PrepareAbort, 1));
}

#[test]
fn lists_and_descriptions() {
    let mut desk = Desk::new();
    let (_, id, epoch) = desk.init(None);
    assert_eq!(desk.add((id, epoch), VERSION), ErrorCode::None);
    let described = desk.shard.describe("x");
    assert_eq!((&*described.transaction_state, described.topics[0].partitions.len()), ("Ongoing", 1));
    assert_eq!(desk.shard.describe("y").error_code, ErrorCode::TransactionalIdNotFound.code());
    let now_ms = desk.now_ms + 500;
    let count = |filter: Filter| desk.shard.list(&filter, |_| true, now_ms).found.len();
    let all = || Filter { duration_ms: -1, ..Default::default() };
    assert_eq!(count(all()), 1);
    assert_eq!(count(Filter { states: vec!["Empty".into()], ..all() }), 0);
    assert_eq!(count(Filter { producer_ids: vec![id], ..all() }), 1);
    assert_eq!(count(Filter { duration_ms: 500, ..all() }), 0);
    assert_eq!(count(Filter { duration_ms: 499, ..all() }), 1);
    let filter = Filter { states: vec!["Ongoing".into(), "Odd".into()], ..all() };
    assert_eq!(filter.unknown_states(), ["Odd"]);
}

/// A partition: what of each producer is open in it, and how transactions ended.
#[derive(Default)]
struct Part {
    epochs: BTreeMap<i64, i16>,
    open: BTreeMap<i64, (i16, BTreeSet<u64>)>,
    /// How often a marker of a producer came: what was verified before one is not verified after it.
    markers: BTreeMap<i64, u64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Doing {
    Nothing,
    Init,
    Add { part: usize, seen: u64 },
    End { commit: bool },
}

/// A producer; two share each transactional id.
struct Producer {
    id: String,
    new: bool,
    session: Option<(i64, i16)>,
    /// The transaction it is in, and whether anything was written.
    tag: Option<u64>,
    doing: Doing,
}

struct World {
    random: Random,
    shard: Shard,
    /// The cluster's transaction version; where it varies, clients hear late that it has changed, or never.
    level: i16,
    varies: bool,
    now_ms: i64,
    log: Vec<LogRecord>,
    writes: VecDeque<Write>,
    /// Markers that are on their way, with the partitions that still wait for them.
    markings: Vec<(Markers, Vec<i32>)>,
    parts: Vec<Part>,
    producers: Vec<Producer>,
    waiting: BTreeMap<Token, usize>,
    next_token: u64,
    next_id: i64,
    next_tag: u64,
    /// How each transaction ended where it did.
    ends: BTreeMap<u64, bool>,
    told: BTreeMap<u64, bool>,
    sessions: BTreeSet<(i64, i16)>,
}

const PARTS: usize = 3;

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let producer = |n: usize, new| Producer {
            id: format!("id{}", n / 2),
            new,
            session: None,
            tag: None,
            doing: Doing::Nothing,
        };
        let producers = (0..6).map(|n| producer(n, random.below(2) == 0)).collect();
        Self {
            random,
            shard: Shard::new(Options { retry_ms: 50, ..Default::default() }),
            level: VERSION,
            varies: seed % 2 == 1,
            now_ms: 1,
            log: Vec::new(),
            writes: VecDeque::new(),
            markings: Vec::new(),
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            producers,
            waiting: BTreeMap::new(),
            next_token: 0,
            next_id: 10,
            next_tag: 0,
            ends: BTreeMap::new(),
            told: BTreeMap::new(),
            sessions: BTreeSet::new(),
        }
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn settle(&mut self, effects: Effects<Response>) {
        self.writes.extend(effects.writes);
        for markers in effects.markers {
            let all = markers.partitions["t"].iter().copied().collect();
            self.markings.push((markers, all));
        }
        for (token, response) in effects.replies {
            if let Some(who) = self.waiting.remove(&token) {
                self.answered(who, response);
            }
        }
    }

    fn answered(&mut self, who: usize, response: Response) {
        let doing = std::mem::replace(&mut self.producers[who].doing, Doing::Nothing);
        match (doing, response) {
            (Doing::Init, Response::InitProducerId(r)) if r.error_code == 0 => {
                let session = (r.producer_id, r.producer_epoch);
                assert!(self.sessions.insert(session), "{session:?} was handed out before");
                (self.producers[who].session, self.producers[who].tag) = (Some(session), None);
            }
            (Doing::Init, Response::InitProducerId(_)) => {}
            (Doing::Add { part, seen }, Response::AddPartitions(ErrorCode::None)) => {
                self.append(who, part, seen)
            }
            (Doing::Add { .. }, Response::AddPartitions(ErrorCode::ConcurrentTransactions)) => {}
            (Doing::Add { .. }, Response::AddPartitions(_)) => self.producers[who].session = None,
            (Doing::End { commit }, Response::EndTxn(r)) => {
                match ErrorCode::from_i16(r.error_code).unwrap() {
                    ErrorCode::None => {
                        if let Some(tag) = self.producers[who].tag.take() {
                            self.told.insert(tag, commit);
                        }
                        if self.producers[who].new {
                            let session = (r.producer_id, r.producer_epoch);
                            self.sessions.insert(session);
                            self.producers[who].session = Some(session);
                        }
                    }
                    ErrorCode::ConcurrentTransactions => {}
                    _ => self.producers[who].session = None,
                }
            }
            (doing, response) => panic!("{response:?} to {doing:?}"),
        }
    }

    /// What the partition does with a batch that its coordinator agreed to.
    fn append(&mut self, who: usize, part: usize, seen: u64) {
        let producer = &mut self.producers[who];
        let Some((id, epoch)) = producer.session else { return };
        let part = &mut self.parts[part];
        let current = part.epochs.get(&id).copied().unwrap_or(-1);
        let open = part.open.get(&id).is_some_and(|(of, _)| *of == epoch);
        let verified = part.markers.get(&id).copied().unwrap_or(0) == seen;
        if epoch < current || !(open || verified) {
            producer.session = None;
            return;
        }
        part.epochs.insert(id, epoch);
        let tag = *producer.tag.get_or_insert_with(|| {
            self.next_tag += 1;
            self.next_tag
        });
        part.open.entry(id).or_insert_with(|| (epoch, BTreeSet::new())).1.insert(tag);
    }

    fn act(&mut self, who: usize) {
        if self.producers[who].doing != Doing::Nothing {
            return;
        }
        if self.shard.wants_id() && !self.chance(5) {
            self.shard.give_id(self.next_id);
            self.next_id += 1;
        }
        self.next_token += 1;
        let token = Token(self.next_token);
        self.waiting.insert(token, who);
        let (id, new) = (self.producers[who].id.clone(), self.producers[who].new);
        let Some((producer_id, producer_epoch)) = self.producers[who].session.filter(|_| !self.chance(40))
        else {
            self.producers[who].doing = Doing::Init;
            let request = InitProducerIdRequest {
                transactional_id: Some(id),
                transaction_timeout_ms: TIMEOUT_MS,
                producer_id: -1,
                producer_epoch: -1,
                ..Default::default()
            };
            let effects = self.shard.init_producer_id(self.now_ms, token, &request);
            return self.settle(effects);
        };
        let effects = if self.chance(3) {
            let committed = self.producers[who].tag.is_some() && !self.chance(3);
            self.producers[who].doing = Doing::End { commit: committed };
            let request = EndTxnRequest { transactional_id: id, producer_id, producer_epoch, committed };
            self.shard.end(self.now_ms, token, if new { 5 } else { 3 }, &request)
        } else {
            let part = self.random.below(PARTS as u64) as usize;
            let seen = self.parts[part].markers.get(&producer_id).copied().unwrap_or(0);
            self.producers[who].doing = Doing::Add { part, seen };
            let version = if new { VERSION } else { VERSION_OLD };
            let all = partitions(&[("t", part as i32)]);
            self.shard.add_partitions(self.now_ms, token, (&id, producer_id, producer_epoch), &all, version)
        };
        self.settle(effects);
    }

    fn write_done(&mut self) {
        let Some(write) = self.writes.pop_front() else { return };
        let result = if self.chance(20) { Err(ErrorCode::KafkaStorageError) } else { Ok(()) };
        if result.is_ok() {
            self.log.extend(write.records.clone());
        }
        let effects = self.shard.complete(self.now_ms, write.id, result);
        self.settle(effects);
    }

    /// One marker comes to its partition.
    fn marker_done(&mut self) {
        if self.markings.is_empty() {
            return;
        }
        let at = self.random.below(self.markings.len() as u64) as usize;
        let (markers, left) = &mut self.markings[at];
        let part = &mut self.parts[left.pop().expect("one waits") as usize];
        let (id, epoch, commit) = (markers.producer_id, markers.epoch, markers.commit);
        let current = part.epochs.get(&id).copied().unwrap_or(-1);
        let again = epoch == current && !part.open.contains_key(&id);
        let valid = if markers.version >= VERSION { epoch > current || again } else { epoch >= current };
        assert!(valid, "a marker of epoch {epoch} is refused at {current}");
        part.epochs.insert(id, epoch);
        *part.markers.entry(id).or_default() += 1;
        for tag in part.open.remove(&id).into_iter().flat_map(|(_, tags)| tags) {
            let before = self.ends.insert(tag, commit);
            assert!(before.is_none_or(|before| before == commit), "transaction {tag} ends both ways");
        }
        if self.markings[at].1.is_empty() {
            let (of, _) = self.markings.swap_remove(at);
            let effects = self.shard.marked(self.now_ms, &Marked::from(&of));
            self.settle(effects);
        }
    }

    /// The coordinator ends and another takes over; what was written may or may not have become durable.
    fn crash(&mut self) {
        while !self.writes.is_empty() && self.chance(2) {
            let write = self.writes.pop_front().unwrap();
            self.log.extend(write.records);
        }
        self.writes.clear();
        self.markings.clear();
        for (_, who) in std::mem::take(&mut self.waiting) {
            // It heard nothing: a producer that wants to go on begins anew.
            (self.producers[who].doing, self.producers[who].session) = (Doing::Nothing, None);
        }
        self.shard = Shard::new(Options { retry_ms: 50, ..Default::default() });
        self.shard.set_version(self.level);
        for record in &self.log {
            self.shard.replay(&record.key, record.value.as_ref()).unwrap();
        }
        let effects = self.shard.loaded(self.now_ms);
        self.settle(effects);
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0 => self.crash(),
            1 if self.varies => {
                self.level = self.random.below(3) as i16;
                self.shard.set_version(self.level);
            }
            1..=3 => {
                self.now_ms += self.random.below(600) as i64;
                let effects = self.shard.poll(self.now_ms);
                self.settle(effects);
            }
            4..=40 => self.write_done(),
            41..=60 => self.marker_done(),
            _ => {
                let who = self.random.below(self.producers.len() as u64) as usize;
                self.act(who);
            }
        }
    }

    /// Nobody does anything more: everything comes to an end.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.write_done();
            self.marker_done();
            if self.writes.is_empty() && self.markings.is_empty() {
                self.now_ms += i64::from(TIMEOUT_MS);
                if self.shard.wants_id() {
                    self.shard.give_id(self.next_id);
                    self.next_id += 1;
                }
                let effects = self.shard.poll(self.now_ms);
                self.settle(effects);
                if self.shard.entries.values().all(|entry| entry.now.state.is_idle()) {
                    return;
                }
            }
        }
        panic!("something never ends: {:?}", self.shard.entries);
    }

    fn check(&self) {
        for part in &self.parts {
            assert!(part.open.is_empty(), "open for ever: {:?}", part.open);
        }
        for (tag, commit) in &self.told {
            if let Some(end) = self.ends.get(tag) {
                assert_eq!(end, commit, "transaction {tag} ended otherwise than its producer was told");
            }
        }
        // The log: per id, producer ids and their epochs only rise.
        let mut last: BTreeMap<String, (i64, i16)> = BTreeMap::new();
        for record in &self.log {
            let Some((id, Some(t))) = super::log::read(&record.key, record.value.as_ref()).unwrap() else {
                continue;
            };
            let now = (t.producer_id, t.epoch);
            let before = last.insert(id.clone(), now);
            assert!(before.is_none_or(|before| before <= now), "{id}: {before:?} and then {now:?}");
        }
    }
}

#[test]
fn seeded_worlds() {
    let (mut committed, mut aborted) = (0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..1_500 {
            world.step();
        }
        world.finish();
        world.check();
        committed += world.ends.values().filter(|commit| **commit).count();
        aborted += world.ends.values().filter(|commit| !**commit).count();
    }
    assert!(committed > 1_000 && aborted > 1_000, "{committed} committed, {aborted} aborted");
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = || {
        let mut world = World::new(7);
        (0..1_500).for_each(|_| world.step());
        world.log
    };
    assert_eq!(run(), run());
}
