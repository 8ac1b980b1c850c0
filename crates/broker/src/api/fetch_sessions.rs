//! Fetch sessions (KIP-227): what a client reads is kept between its requests, so that each names only what changed.
//!
//! ```text
//! epoch  0, -1   everything is named: a session given is dropped; with 0 a new one is kept when there is a slot
//! epoch  n       the session's own count, or INVALID_FETCH_SESSION_EPOCH; what is named is added or changed,
//!                what is forgotten is removed, the rest is read as before
//! answer         only partitions with something to tell; those that gave records go to the end of the turn
//! ```
//! Slots are bounded (`max.incremental.fetch.session.cache.slots`). A new session takes the place of one that was idle
//! for long, or of one that is old enough and has no more partitions than itself; else it is declined with id 0, which
//! every client understands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use base::random::Random;
use kafka_wire::messages::fetch_request::FetchPartition;
use kafka_wire::messages::fetch_response::PartitionData;
use kafka_wire::{ErrorCode, Uuid};
use parking_lot::Mutex;

use crate::partition::Partition;

/// "No session".
pub(super) const NO_SESSION: i32 = 0;
/// Asks for a new session.
pub(super) const INITIAL_EPOCH: i32 = 0;
/// Asks for no session, or for the end of one.
pub(super) const FINAL_EPOCH: i32 = -1;

/// The topic of a partition as a request names it: by name, or from version 13 on by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// A partition as a request names it.
pub(super) type Key = (TopicKey, i32);

/// What a client wants of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub offset: i64,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub max_bytes: i32,
}

impl From<&FetchPartition> for Position {
    fn from(partition: &FetchPartition) -> Self {
        Self {
            offset: partition.fetch_offset,
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: partition.partition_max_bytes,
        }
    }
}

/// A partition to read, with what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub key: Key,
    pub position: Position,
    /// The topic's name once its id was resolved: tells a topic that is no more from one that never was.
    pub name: Option<Arc<str>>,
    /// Looked up before; look again when it is gone or deleted.
    pub known: Weak<Partition>,
}

/// A partition of a session, and what its client was told last.
#[derive(Debug)]
struct Cached {
    wanted: Wanted,
    high_watermark: i64,
    log_start: i64,
}

impl Cached {
    /// Notes an answer; whether it tells the client anything new.
    fn update(&mut self, data: &PartitionData) -> bool {
        let news = data.records.as_ref().is_some_and(|records| !records.is_empty())
            || data.high_watermark != self.high_watermark
            || data.log_start_offset != self.log_start
            || data.error_code != 0
            || data.diverging_epoch.end_offset >= 0;
        (self.high_watermark, self.log_start) = (data.high_watermark, data.log_start_offset);
        if data.error_code != 0 {
            // Once the error is over, that is news too.
            self.high_watermark = -1;
        }
        news
    }
}

/// One client's session.
#[derive(Debug)]
pub(super) struct Session {
    id: i32,
    by_id: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the next request must say.
    epoch: i32,
    /// Partitions by their turn.
    turns: BTreeMap<u64, Cached>,
    turn_of: HashMap<Key, u64>,
    next_turn: u64,
}

impl State {
    fn new() -> Self {
        Self { epoch: 1, turns: BTreeMap::new(), turn_of: HashMap::new(), next_turn: 0 }
    }

    fn push(&mut self, cached: Cached) {
        self.turn_of.insert(cached.wanted.key.clone(), self.next_turn);
        self.turns.insert(self.next_turn, cached);
        self.next_turn += 1;
    }

    fn change(&mut self, named: Vec<Wanted>, forgotten: &[Key]) {
        for wanted in named {
            match self.turn_of.get(&wanted.key).and_then(|turn| self.turns.get_mut(turn)) {
                Some(cached) => cached.wanted.position = wanted.position,
                None => self.push(Cached { wanted, high_watermark: -1, log_start: -1 }),
            }
        }
        for key in forgotten {
            if let Some(turn) = self.turn_of.remove(key) {
                self.turns.remove(&turn);
            }
        }
    }
}

/// How a request is read.
pub(super) enum Context {
    /// Once; nothing is kept.
    Sessionless,
    /// Once, and a session is asked for.
    Full { by_id: bool },
    /// As the session says; its epoch is the second once the request was taken in.
    Incremental(Arc<Session>, i32),
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: usize,
    evict_ms: i64,
    cache: Mutex<Cache>,
}

#[derive(Debug)]
struct Cache {
    sessions: HashMap<i32, Entry>,
    last_used: BTreeSet<(i64, i32)>,
    /// Sessions old enough to give way, by number of partitions.
    evictable: BTreeSet<(usize, i32)>,
    random: Random,
    evictions: u64,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    created_ms: i64,
    used_ms: i64,
    size: usize,
}

impl Sessions {
    pub(crate) fn new(slots: usize, evict_ms: i64) -> Self {
        let cache = Cache {
            sessions: HashMap::new(),
            last_used: BTreeSet::new(),
            evictable: BTreeSet::new(),
            random: Random::from_entropy(),
            evictions: 0,
        };
        Self { slots, evict_ms, cache: Mutex::new(cache) }
    }

    /// Sessions now, their partitions, and how many had to give way so far.
    pub(crate) fn counts(&self) -> (usize, usize, u64) {
        let cache = self.cache.lock();
        (cache.sessions.len(), cache.sessions.values().map(|entry| entry.size).sum(), cache.evictions)
    }

    /// Takes a request in: how it is read, and every partition to read.
    pub(super) fn open(
        &self,
        (id, epoch): (i32, i32),
        by_id: bool,
        named: Vec<Wanted>,
        forgotten: &[Key],
        now_ms: i64,
    ) -> Result<(Context, Vec<Wanted>), ErrorCode> {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if id != NO_SESSION {
                self.cache.lock().remove(id);
            }
            let context = if epoch == FINAL_EPOCH { Context::Sessionless } else { Context::Full { by_id } };
            return Ok((context, named));
        }
        let session = self.cache.lock().sessions.get(&id).map(|entry| entry.session.clone());
        let session = session.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut state = session.state.lock();
        if state.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        state.change(named, forgotten);
        state.epoch = next_epoch(state.epoch);
        let expected = state.epoch;
        let all: Vec<Wanted> = state.turns.values().map(|cached| cached.wanted.clone()).collect();
        drop(state);
        if all.is_empty() {
            self.cache.lock().remove(id);
            return Ok((Context::Sessionless, all));
        }
        self.cache.lock().touch(id, all.len(), now_ms, self.evict_ms);
        Ok((Context::Incremental(session, expected), all))
    }

    /// What of `answers` is told, and under which session's id.
    pub(super) fn close(
        &self,
        context: Context,
        wanted: Vec<Wanted>,
        answers: Vec<PartitionData>,
        now_ms: i64,
    ) -> Result<(i32, Vec<(Wanted, PartitionData)>), ErrorCode> {
        let both = wanted.into_iter().zip(answers);
        match context {
            Context::Sessionless => Ok((NO_SESSION, both.collect())),
            Context::Full { by_id } => {
                let both: Vec<_> = both.collect();
                Ok((self.create(by_id, &both, now_ms), both))
            }
            Context::Incremental(session, expected) => {
                let mut state = session.state.lock();
                if state.epoch != expected {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                Ok((session.id, both.filter_map(|(wanted, data)| told(&mut state, wanted, data)).collect()))
            }
        }
    }

    fn create(&self, by_id: bool, both: &[(Wanted, PartitionData)], now_ms: i64) -> i32 {
        let mut cache = self.cache.lock();
        if cache.sessions.len() >= self.slots && !cache.evict(both.len(), now_ms, self.evict_ms) {
            return NO_SESSION;
        }
        let mut state = State::new();
        for (wanted, data) in both {
            let mut cached = Cached { wanted: wanted.clone(), high_watermark: -1, log_start: -1 };
            cached.update(data);
            state.push(cached);
        }
        let id = cache.fresh_id();
        let session = Arc::new(Session { id, by_id, state: Mutex::new(state) });
        let entry = Entry { session, created_ms: now_ms, used_ms: now_ms, size: both.len() };
        cache.last_used.insert((now_ms, id));
        cache.sessions.insert(id, entry);
        id
    }
}

/// Notes an answer in the session; None when it would tell nothing new.
fn told(state: &mut State, wanted: Wanted, data: PartitionData) -> Option<(Wanted, PartitionData)> {
    let turn = *state.turn_of.get(&wanted.key)?;
    let cached = state.turns.get_mut(&turn)?;
    (cached.wanted.known, cached.wanted.name) = (wanted.known.clone(), wanted.name.clone());
    if !cached.update(&data) {
        return None;
    }
    // Who gave records goes to the end, so that a full answer serves another partition first next time.
    if data.records.as_ref().is_some_and(|records| !records.is_empty())
        && let Some(cached) = state.turns.remove(&turn)
    {
        state.push(cached);
    }
    Some((wanted, data))
}

impl Context {
    /// The id of the session that goes on, whatever is told.
    pub(super) fn session_id(&self) -> i32 {
        match self {
            Self::Incremental(session, _) => session.id,
            Self::Full { .. } | Self::Sessionless => NO_SESSION,
        }
    }
}

impl Cache {
    fn fresh_id(&mut self) -> i32 {
        loop {
            let id = 1 + self.random.below(i32::MAX as u64) as i32;
            if id > 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.last_used.remove(&(entry.used_ms, id));
            self.evictable.remove(&(entry.size, id));
        }
    }

    fn touch(&mut self, id: i32, size: usize, now_ms: i64, evict_ms: i64) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        self.last_used.remove(&(entry.used_ms, id));
        self.evictable.remove(&(entry.size, id));
        (entry.used_ms, entry.size) = (now_ms, size);
        self.last_used.insert((now_ms, id));
        if now_ms - entry.created_ms > evict_ms {
            self.evictable.insert((size, id));
        }
    }

    /// Makes room for a session of `size` partitions when one is worth less.
    fn evict(&mut self, size: usize, now_ms: i64, evict_ms: i64) -> bool {
        let stale = self.last_used.first().filter(|(used, _)| now_ms - used > evict_ms).map(|(_, id)| *id);
        let small = || self.evictable.first().filter(|(least, _)| *least < size).map(|(_, id)| *id);
        match stale.or_else(small) {
            Some(id) => {
                self.remove(id);
                self.evictions += 1;
                true
            }
            None => false,
        }
    }
}

/// Epochs count from 1 and begin again after the largest.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn wanted(topic: &str, partition: i32, offset: i64) -> Wanted {
        let position = Position { offset, leader_epoch: -1, last_fetched_epoch: -1, max_bytes: 100 };
        let key = (TopicKey::Name(topic.into()), partition);
        Wanted { key, position, name: None, known: Weak::new() }
    }

    fn data(high_watermark: i64, bytes: usize) -> PartitionData {
        let records = Some(Bytes::from(vec![0; bytes]));
        PartitionData { high_watermark, log_start_offset: 0, records, ..Default::default() }
    }

    /// A request that names everything; the id it gets.
    fn full(sessions: &Sessions, partitions: i32, now_ms: i64) -> i32 {
        let named = (0..partitions).map(|p| wanted("t", p, 0)).collect();
        let (context, all) = sessions.open((0, 0), false, named, &[], now_ms).unwrap();
        let answers = all.iter().map(|_| data(0, 0)).collect();
        sessions.close(context, all, answers, now_ms).unwrap().0
    }

    /// An incremental request whose partitions are answered by `answer`; which are told.
    fn next(
        sessions: &Sessions,
        at: (i32, i32),
        named: Vec<Wanted>,
        forgotten: &[Key],
        answer: impl Fn(i32) -> PartitionData,
    ) -> Result<Vec<i32>, ErrorCode> {
        let (context, all) = sessions.open(at, false, named, forgotten, 0)?;
        let answers = all.iter().map(|wanted| answer(wanted.key.1)).collect();
        let (_, told) = sessions.close(context, all, answers, 0)?;
        Ok(told.into_iter().map(|(wanted, _)| wanted.key.1).collect())
    }

    #[test]
    fn only_news_is_told_and_who_gave_records_comes_last() {
        let sessions = Sessions::new(10, 1000);
        let id = full(&sessions, 3, 0);
        assert!(id > 0);
        assert_eq!(next(&sessions, (id, 1), vec![], &[], |_| data(0, 0)), Ok(vec![]));
        let first_has_more = |p| if p == 0 { data(5, 10) } else { data(0, 0) };
        assert_eq!(next(&sessions, (id, 2), vec![], &[], first_has_more), Ok(vec![0]));
        let all_have_more = |_| data(7, 10);
        assert_eq!(next(&sessions, (id, 3), vec![], &[], all_have_more), Ok(vec![1, 2, 0]));
        let forgotten = [(TopicKey::Name("t".into()), 1)];
        let more = vec![wanted("t", 9, 0)];
        assert_eq!(next(&sessions, (id, 4), more, &forgotten, |_| data(8, 1)), Ok(vec![2, 0, 9]));
        // An error is told each time, and its end once.
        let error = |_| PartitionData { error_code: 1, ..data(8, 0) };
        assert_eq!(next(&sessions, (id, 5), vec![], &[], error), Ok(vec![2, 0, 9]));
        assert_eq!(next(&sessions, (id, 6), vec![], &[], |_| data(8, 0)), Ok(vec![2, 0, 9]));
        assert_eq!(next(&sessions, (id, 7), vec![], &[], |_| data(8, 0)), Ok(vec![]));
        assert_eq!(next(&sessions, (id, 7), vec![], &[], error), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(next(&sessions, (id + 1, 1), vec![], &[], error), Err(ErrorCode::FetchSessionIdNotFound));
        assert!(matches!(
            sessions.open((id, 8), true, vec![], &[], 0),
            Err(ErrorCode::FetchSessionTopicIdError)
        ));
        // Forgetting everything ends it; so does asking for its end.
        let everything = [0, 2, 9].map(|p| (TopicKey::Name("t".into()), p));
        assert_eq!(next(&sessions, (id, 8), vec![], &everything, error), Ok(vec![]));
        assert_eq!(sessions.counts(), (0, 0, 0));
        let id = full(&sessions, 2, 0);
        assert_eq!(next(&sessions, (id, -1), vec![], &[], error), Ok(vec![]));
        assert_eq!(sessions.counts(), (0, 0, 0));
    }

    #[test]
    fn a_full_cache_keeps_the_worthier_session() {
        let sessions = Sessions::new(2, 1000);
        let (small, large) = (full(&sessions, 1, 0), full(&sessions, 5, 0));
        assert_eq!(full(&sessions, 9, 500), NO_SESSION, "both are young");
        // Used lately, yet old: the smaller gives way to a larger one only.
        for id in [small, large] {
            sessions.open((id, 1), false, vec![], &[], 1500).ok().unwrap();
        }
        assert_eq!(full(&sessions, 1, 1500), NO_SESSION);
        assert!(full(&sessions, 2, 1600) > 0);
        assert!(sessions.open((small, 2), false, vec![], &[], 1500).is_err());
        // Idle for long: anybody takes its place.
        assert!(full(&sessions, 1, 2600) > 0);
        assert!(sessions.open((large, 2), false, vec![], &[], 2600).is_err());
        assert_eq!(sessions.counts(), (2, 3, 2));
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!((next_epoch(1), next_epoch(i32::MAX)), (2, 1));
    }
}
