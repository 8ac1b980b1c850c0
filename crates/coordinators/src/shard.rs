//! A shard: the groups of one partition of `__consumer_offsets`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_wire::internal::decode_key;
use kafka_wire::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_wire::records::OffsetCommitKey;
use kafka_wire::{DecodeError, ErrorCode};

use crate::desk::{Batch, Desk, Effects, Pending, Response, Then, WriteId};
use crate::group::{Group, State};
use crate::log::{Fact, read};
use crate::offsets::{Committed, GroupOffsets};
use crate::options::Options;
use crate::timers::Timer;
use crate::transactional::Waiting;

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// The client id of the request's header; member ids begin with it.
    pub id: String,
    /// The address it comes from, as tools show it: `/127.0.0.1`.
    pub host: String,
}

/// See the crate.
#[derive(Debug)]
pub struct Shard {
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) offsets: BTreeMap<String, GroupOffsets>,
    /// Offsets of transactions that have not ended.
    pub(crate) waiting: Waiting,
    pub(crate) desk: Desk,
    /// Offsets replayed so far.
    order: u64,
}

impl Shard {
    /// A shard that has replayed nothing. Member ids come from `seed`: pass one that no other life of any shard had.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            groups: BTreeMap::new(),
            offsets: BTreeMap::new(),
            waiting: Waiting::default(),
            desk: Desk::new(options, seed),
            order: 0,
        }
    }

    /// Takes over what a record of the log says. Record types of other kinds of groups are passed over.
    pub fn replay(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), DecodeError> {
        match read(key, value)? {
            Fact::Offset { group, topic, partition, value } => {
                self.replay_offset(group, topic, partition, value)
            }
            Fact::Group { group, value: None } => {
                self.groups.remove(&group);
            }
            Fact::Group { group, value: Some(value) } => {
                self.groups.insert(group.clone(), Group::from_record(&group, value));
            }
            Fact::Other => {}
        }
        Ok(())
    }

    fn replay_offset(&mut self, group: String, topic: String, partition: i32, value: Option<Committed>) {
        match value {
            Some(mut committed) => {
                committed.order = self.next_order();
                // A group of offsets alone has no record of its own.
                let now_ms = self.desk.now_ms;
                self.groups.entry(group.clone()).or_insert_with(|| Group::empty(&group, now_ms));
                self.offsets.entry(group).or_default().entry(topic).or_default().insert(partition, committed);
            }
            None => self.forget_offset(&group, &topic, partition),
        }
    }

    /// A number larger than that of every offset before.
    pub(crate) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    fn forget_offset(&mut self, group: &str, topic: &str, partition: i32) {
        self.waiting.forget(&(group.to_owned(), topic.to_owned(), partition));
        let Some(topics) = self.offsets.get_mut(group) else { return };
        if let Some(partitions) = topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
        }
        if topics.is_empty() {
            self.offsets.remove(group);
        }
    }

    /// All records were replayed: the members that were found have a session's time to show themselves.
    pub fn loaded(&mut self, now_ms: i64) -> Effects {
        self.desk.now_ms = now_ms;
        for group in self.groups.values_mut() {
            for member in group.members.keys() {
                group.renew_session(&mut self.desk, member);
            }
            if group.members.len() > self.desk.options.group_size_max {
                group.prepare_rebalance(&mut self.desk);
            }
        }
        self.watch_for_expiry();
        self.desk.take()
    }

    /// The partition is given up: everybody who waits is sent to the next coordinator.
    pub fn unload(&mut self) -> Effects {
        let error_code = ErrorCode::NotCoordinator.code();
        for pending in self.desk.take_all_pending() {
            if let Then::Reply(token, reply) | Then::Deleted { reply: Some((token, reply)), .. } =
                pending.then
            {
                self.desk.release(token, reply, Err(ErrorCode::NotCoordinator));
            }
        }
        for member in self.groups.values_mut().flat_map(|g| g.members.values_mut()) {
            if let Some(token) = member.awaiting_join.take() {
                let member_id = member.id.clone();
                let response = JoinGroupResponse { error_code, member_id, ..Default::default() };
                self.desk.reply(token, Response::JoinGroup(response));
            }
            if let Some(token) = member.awaiting_sync.take() {
                let response = SyncGroupResponse { error_code, ..Default::default() };
                self.desk.reply(token, Response::SyncGroup(response));
            }
        }
        self.desk.take()
    }

    /// A write is durable, or failed with an error as an append gives it. Unknown ids do nothing.
    pub fn complete(&mut self, now_ms: i64, id: WriteId, result: Result<(), ErrorCode>) -> Effects {
        self.desk.now_ms = now_ms;
        if let Some(pending) = self.desk.take_pending(id) {
            if result.is_ok() {
                self.apply(&pending);
            }
            self.then(pending.then, result);
            self.watch_for_expiry();
        }
        self.desk.take()
    }

    /// Replays what was written, but for metadata of groups that live: theirs is ahead of the log.
    fn apply(&mut self, pending: &Pending) {
        match pending.batch {
            Batch::Plain => {}
            Batch::Transactional { author, .. } => {
                for record in &pending.records {
                    self.replay_in_transaction(author.producer_id, &record.key, record.value.as_ref())
                        .expect("a shard reads what it wrote");
                }
                return;
            }
            Batch::Marker { author, commit, .. } => return self.replay_end(author.producer_id, commit),
        }
        for record in &pending.records {
            let is_live = matches!(
                read(&record.key, record.value.as_ref()),
                Ok(Fact::Group { value: Some(_), ref group }) if self.groups.contains_key(group)
            );
            if !is_live {
                self.replay(&record.key, record.value.as_ref()).expect("a shard reads what it wrote");
            }
        }
    }

    fn then(&mut self, then: Then, result: Result<(), ErrorCode>) {
        match then {
            Then::Nothing => {}
            Then::Reply(token, response) => self.desk.release(token, response, result),
            Then::Assign { group, generation, assignment } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.assigned(&mut self.desk, generation, &assignment, result);
                }
            }
            Then::Rejoined { group, revert } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.static_rejoined(&mut self.desk, &revert, result);
                }
            }
            Then::Deleted { groups, reply } => {
                for group in groups.iter().filter(|_| result.is_err()) {
                    if let Some(group) = self.groups.get_mut(group) {
                        group.transition(&self.desk, State::Empty);
                    }
                }
                if let Some((token, response)) = reply {
                    self.desk.release(token, response, result);
                }
            }
        }
    }

    /// Does what is due. Call it when [`Shard::next_deadline`] has passed; calling it earlier does nothing.
    pub fn poll(&mut self, now_ms: i64) -> Effects {
        self.desk.now_ms = now_ms;
        while let Some(timer) = self.desk.timers.take_due(now_ms) {
            self.fire(timer);
        }
        self.watch_for_expiry();
        self.desk.take()
    }

    fn fire(&mut self, timer: Timer) {
        let desk = &mut self.desk;
        match timer {
            Timer::Cleanup => self.expire_offsets(),
            Timer::Join(group) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.join_timed_out(desk);
                }
            }
            Timer::Sync(group) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.sync_timed_out(desk);
                }
            }
            Timer::Session(group, member) => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.session_ended(desk, &member);
                }
            }
        }
    }

    /// The clock of `now_ms` was set, by so much: what is waited for is as far away as it was. Times in records are left
    /// alone, and with them when offsets expire.
    pub fn clock_set(&mut self, by_ms: i64) {
        self.desk.timers.shift(by_ms);
    }

    /// When to call [`Shard::poll`], milliseconds on the clock of `now_ms`; None while nothing can become due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<i64> {
        self.desk.timers.next_deadline()
    }

    /// A group's state; None where there is no such group.
    #[must_use]
    pub fn state(&self, group: &str) -> Option<State> {
        self.groups.get(group).map(|g| g.state)
    }

    pub(crate) fn group_or_new(&mut self, id: &str) -> (&mut Group, &mut Desk) {
        self.watch_from_now();
        let now_ms = self.desk.now_ms;
        let group = self.groups.entry(id.to_owned()).or_insert_with(|| Group::empty(id, now_ms));
        (group, &mut self.desk)
    }

    /// Groups whose offsets are on their way to the log.
    pub(crate) fn busy_groups(&self) -> BTreeSet<String> {
        let key = |key| decode_key::<OffsetCommitKey>(key).ok().map(|k| k.group);
        self.desk.pending_keys().filter_map(key).collect()
    }

    /// While there are groups, offsets are looked through now and then; an empty shard sleeps.
    fn watch_for_expiry(&mut self) {
        if !self.groups.is_empty() {
            self.watch_from_now();
        }
    }

    fn watch_from_now(&mut self) {
        if !self.desk.timers.is_set(&Timer::Cleanup) {
            let at = self.desk.now_ms.saturating_add(self.desk.options.offsets_check_interval_ms);
            self.desk.timers.schedule(Timer::Cleanup, at);
        }
    }
}
