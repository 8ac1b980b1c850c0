//! A coordinator with clients around it, for tests: a log in memory, a clock that is moved, scripts in a few words.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use bytes::Bytes;
use kafka_wire::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::messages::leave_group_request::MemberIdentity;
use kafka_wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    OffsetDeleteRequest, SyncGroupRequest,
};
use kafka_wire::{ErrorCode, Message};

use crate::log::{Fact, read};
use crate::{Client, Effects, LogRecord, Options, Response, Shard, Token, Write};

/// What a client knows of its membership.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub member: String,
    pub generation: i32,
    pub joined: Option<JoinGroupResponse>,
}

pub(crate) struct World {
    pub shard: Shard,
    pub now_ms: i64,
    pub log: Vec<LogRecord>,
    pub clients: BTreeMap<String, Known>,
    /// Which client waits behind a token.
    pub waiting: BTreeMap<Token, String>,
    pub unfinished: VecDeque<Write>,
    /// Writes stay unfinished until they are asked for.
    pub hold: bool,
    pub fail: Option<ErrorCode>,
    pub options: Options,
    pub group: String,
    names: BTreeMap<String, String>,
    pub out: String,
    next_token: u64,
}

impl World {
    pub fn new(options: Options, seed: u64) -> Self {
        Self {
            shard: Shard::new(options.clone(), seed),
            now_ms: 0,
            log: Vec::new(),
            clients: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unfinished: VecDeque::new(),
            hold: false,
            fail: None,
            options,
            group: "g".into(),
            names: BTreeMap::new(),
            out: String::new(),
            next_token: 0,
        }
    }

    fn token(&mut self, client: &str) -> Token {
        self.next_token += 1;
        self.waiting.insert(Token(self.next_token), client.to_owned());
        Token(self.next_token)
    }

    /// `a-<uuid>` as `a#1`, in the order of appearance.
    pub fn short(&mut self, member: &str) -> String {
        let count = self.names.len() + 1;
        let prefix = member.split('-').next().unwrap_or_default();
        let fresh = format!("{prefix}#{count}");
        if member.is_empty() { "-".into() } else { self.names.entry(member.into()).or_insert(fresh).clone() }
    }

    /// Runs the effects until only what is parked is left.
    pub fn settle(&mut self, effects: Effects) {
        for (token, response) in effects.replies {
            let client = self.waiting.remove(&token).expect("a token is answered once");
            self.answered(&client, response);
        }
        self.unfinished.extend(effects.writes);
        while !self.hold && !self.unfinished.is_empty() {
            self.finish_write();
        }
    }

    pub fn finish_write(&mut self) {
        let Some(write) = self.unfinished.pop_front() else { return };
        let result = self.fail.take().map_or(Ok(()), Err);
        if result.is_ok() {
            for record in &write.records {
                self.note_record(record);
                self.log.push(record.clone());
            }
        }
        let effects = self.shard.complete(self.now_ms, write.id, result);
        self.settle(effects);
    }

    fn note_record(&mut self, record: &LogRecord) {
        let line = match read(&record.key, record.value.as_ref()).expect("reads") {
            Fact::Offset { topic, partition, value, .. } => {
                let value = value.map_or("gone".into(), |v| format!("{} {:?}", v.offset, v.metadata));
                format!("offset {topic}-{partition} {value}")
            }
            Fact::Group { value: None, .. } => "group gone".into(),
            Fact::Group { value: Some(v), .. } => {
                let members: Vec<String> = v.members.iter().map(|m| self.short(&m.member_id)).collect();
                let leader = self.short(&v.leader.unwrap_or_default());
                let protocol = v.protocol.unwrap_or_default();
                format!("group generation {} {protocol} leader {leader} members {members:?}", v.generation)
            }
            Fact::Other => "other".into(),
        };
        let _ = writeln!(self.out, "    log: {line}");
    }

    fn answered(&mut self, client: &str, response: Response) {
        let name = |code| ErrorCode::from_i16(code).unwrap_or_default().name();
        let line = match response {
            Response::JoinGroup(r) => self.joined(client, r),
            Response::SyncGroup(r) => {
                format!("synced {} {:?}", name(r.error_code), String::from_utf8_lossy(&r.assignment))
            }
            Response::Heartbeat(r) => format!("heartbeat {}", name(r.error_code)),
            Response::LeaveGroup(r) => {
                let each: Vec<_> = r.members.iter().map(|m| name(m.error_code)).collect();
                format!("left {} {each:?}", name(r.error_code))
            }
            Response::OffsetCommit(r) => {
                let codes = r.topics.iter().flat_map(|t| &t.partitions).map(|p| name(p.error_code));
                format!("committed {:?}", codes.collect::<Vec<_>>())
            }
            Response::TxnOffsetCommit(r) => {
                let codes = r.topics.iter().flat_map(|t| &t.partitions).map(|p| name(p.error_code));
                format!("committed in a transaction {:?}", codes.collect::<Vec<_>>())
            }
            Response::EndTransaction(code) => format!("ended {}", code.name()),
            Response::OffsetDelete(r) => {
                let codes = r.topics.iter().flat_map(|t| &t.partitions).map(|p| name(p.error_code));
                format!("deleted {} {:?}", name(r.error_code), codes.collect::<Vec<_>>())
            }
            Response::DeleteGroups(r) => {
                let codes: Vec<_> = r.iter().map(|r| name(r.error_code)).collect();
                format!("deleted {codes:?}")
            }
        };
        let _ = writeln!(self.out, "    {client}: {line}");
    }

    fn joined(&mut self, client: &str, r: JoinGroupResponse) -> String {
        let known = self.clients.entry(client.to_owned()).or_default();
        if r.error_code == 0 || r.error_code == ErrorCode::MemberIdRequired.code() {
            known.member = r.member_id.clone();
            known.generation = r.generation_id;
        }
        known.joined = (r.error_code == 0).then(|| r.clone());
        let member = self.short(&r.member_id);
        if r.error_code != 0 {
            return format!("joined {} {member}", ErrorCode::from_i16(r.error_code).unwrap_or_default());
        }
        let leader = self.short(&r.leader);
        let members: Vec<String> = r.members.iter().map(|m| self.short(&m.member_id)).collect();
        let skip = if r.skip_assignment { " skip" } else { "" };
        let protocol = r.protocol_name.unwrap_or_default();
        format!("joined {member} generation {} {protocol} leader {leader} {members:?}{skip}", r.generation_id)
    }

    pub fn known(&self, client: &str) -> Known {
        self.clients.get(client).cloned().unwrap_or_default()
    }

    pub fn join(&mut self, client: &str, args: &Args<'_>) {
        let token = self.token(client);
        let metadata = |p: &str| JoinGroupRequestProtocol {
            name: p.to_owned(),
            metadata: subscription(args.get("topic").unwrap_or("t")),
        };
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: args.number("session", 10_000),
            rebalance_timeout_ms: args.number("rebalance", 30_000),
            member_id: args.get("member").map_or_else(|| self.known(client).member, str::to_owned),
            group_instance_id: args.get("instance").map(str::to_owned),
            protocol_type: args.get("type").unwrap_or("consumer").to_owned(),
            protocols: args.get("protocols").unwrap_or("range").split(',').map(metadata).collect(),
            reason: None,
        };
        let who = Client { id: client.to_owned(), host: "/127.0.0.1".into() };
        let effects = self.shard.join(self.now_ms, token, &who, args.number("v", 9) as i16, &request);
        self.settle(effects);
    }

    /// The leader gives each member `p<its place>`.
    pub fn sync(&mut self, client: &str, args: &Args<'_>) {
        let (token, known) = (self.token(client), self.known(client));
        let members = known.joined.map(|j| j.members).unwrap_or_default();
        let give = |(i, member_id): (usize, String)| SyncGroupRequestAssignment {
            member_id,
            assignment: Bytes::from(format!("p{i}")),
        };
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: args.number("generation", known.generation),
            member_id: known.member,
            group_instance_id: args.get("instance").map(str::to_owned),
            protocol_type: args.get("type").map(str::to_owned),
            protocol_name: None,
            assignments: members.into_iter().map(|m| m.member_id).enumerate().map(give).collect(),
        };
        let effects = self.shard.sync(self.now_ms, token, &request);
        self.settle(effects);
    }

    pub fn heartbeat(&mut self, client: &str, args: &Args<'_>) {
        let (token, known) = (self.token(client), self.known(client));
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: args.number("generation", known.generation),
            member_id: known.member,
            group_instance_id: args.get("instance").map(str::to_owned),
        };
        let effects = self.shard.heartbeat(self.now_ms, token, &request);
        self.settle(effects);
    }

    pub fn leave(&mut self, client: &str, args: &Args<'_>) {
        let (token, known) = (self.token(client), self.known(client));
        let member_id = args.get("member").map_or(known.member, str::to_owned);
        let who = MemberIdentity {
            member_id: member_id.clone(),
            group_instance_id: args.get("instance").map(str::to_owned),
            reason: None,
        };
        let request = LeaveGroupRequest { group_id: self.group.clone(), member_id, members: vec![who] };
        let effects = self.shard.leave(self.now_ms, token, args.number("v", 5) as i16, &request);
        self.settle(effects);
        self.clients.remove(client);
    }

    pub fn commit(&mut self, client: &str, args: &Args<'_>) {
        let (token, known) = (self.token(client), self.known(client));
        let simple = args.get("simple").is_some();
        let partition = OffsetCommitRequestPartition {
            partition_index: args.number("partition", 0),
            committed_offset: i64::from(args.number("offset", 0)),
            committed_metadata: Some("x".repeat(args.number("metadata", 1) as usize)),
            ..Default::default()
        };
        let topic = args.get("topic").unwrap_or("t").to_owned();
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: args
                .number("generation", if simple { -1 } else { known.generation }),
            member_id: if simple { String::new() } else { known.member },
            retention_time_ms: i64::from(args.number("retention", -1)),
            topics: vec![OffsetCommitRequestTopic {
                name: topic,
                partitions: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let effects = self.shard.commit_offsets(self.now_ms, token, args.number("v", 9) as i16, &request);
        self.settle(effects);
    }

    fn delete_offset(&mut self, client: &str, args: &Args<'_>) {
        let token = self.token(client);
        let partitions = vec![OffsetDeleteRequestPartition { partition_index: args.number("partition", 0) }];
        let name = args.get("topic").unwrap_or("t").to_owned();
        let topics = vec![OffsetDeleteRequestTopic { name, partitions }];
        let request = OffsetDeleteRequest { group_id: self.group.clone(), topics };
        let effects = self.shard.delete_offsets(self.now_ms, token, &request);
        self.settle(effects);
    }

    /// Moves the clock from deadline to deadline.
    pub fn wait(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= until) {
            self.now_ms = self.now_ms.max(at);
            let effects = self.shard.poll(self.now_ms);
            self.settle(effects);
        }
        self.now_ms = until;
    }

    /// Another coordinator takes over from the log.
    pub fn restart(&mut self) {
        let effects = self.shard.unload();
        self.settle(effects);
        self.unfinished.clear();
        self.shard = Shard::new(self.options.clone(), 77 + self.now_ms as u64);
        for record in &self.log {
            self.shard.replay(&record.key, record.value.as_ref()).expect("replays");
        }
        let effects = self.shard.loaded(self.now_ms);
        self.settle(effects);
    }

    fn show_offsets(&mut self) {
        let request = OffsetFetchRequestGroup { group_id: self.group.clone(), ..Default::default() };
        let request = OffsetFetchRequestGroup { topics: None, ..request };
        for topic in self.shard.fetch_offsets(&request, false).topics {
            for p in topic.partitions {
                let _ =
                    writeln!(self.out, "    {}-{} = {}", topic.name, p.partition_index, p.committed_offset);
            }
        }
    }

    fn describe(&mut self) {
        let d = self.shard.describe(6, &self.group.clone());
        let members: Vec<String> = d.members.iter().map(|m| self.short(&m.member_id)).collect();
        let error = ErrorCode::from_i16(d.error_code).unwrap_or_default();
        let _ = writeln!(
            self.out,
            "    {error} {} {:?} {:?} {members:?}",
            d.group_state, d.protocol_type, d.protocol_data
        );
    }

    /// Runs a script, a command per line, and returns it with what happened.
    pub fn script(options: Options, script: &str) -> String {
        let mut world = Self::new(options, 1);
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let _ = writeln!(world.out, "{line}");
            world.command(line);
        }
        world.out
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let (verb, client) = (words[0], words.get(1).copied().unwrap_or_default());
        let args = Args(&words);
        match verb {
            "join" => self.join(client, &args),
            "sync" => self.sync(client, &args),
            "heartbeat" => self.heartbeat(client, &args),
            "leave" => self.leave(client, &args),
            "commit" => self.commit(client, &args),
            "delete-offset" => self.delete_offset("admin", &args),
            "delete-group" => {
                let token = self.token("admin");
                let effects = self.shard.delete_groups(self.now_ms, token, std::slice::from_ref(&self.group));
                self.settle(effects);
            }
            "wait" => self.wait(client.parse().expect("milliseconds")),
            "forget" => drop(self.clients.remove(client)),
            "restart" => self.restart(),
            "hold" => self.hold = true,
            "release" => {
                self.hold = false;
                self.settle(Effects::default());
            }
            "fail-next" => self.fail = Some(ErrorCode::NotEnoughReplicas),
            "offsets" => self.show_offsets(),
            "describe" => self.describe(),
            other => panic!("no command {other}"),
        }
    }
}

/// `key=value` words of a command.
pub(crate) struct Args<'a>(pub &'a [&'a str]);

impl Args<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }

    fn number(&self, key: &str, default: i32) -> i32 {
        self.get(key).map_or(default, |v| v.parse().expect("a number"))
    }
}

/// A consumer's metadata: version 0, one topic.
fn subscription(topic: &str) -> Bytes {
    let subscription = kafka_wire::records::ConsumerProtocolSubscription {
        topics: vec![topic.to_owned()],
        user_data: None,
        ..Default::default()
    };
    let body = subscription.to_bytes(0).expect("fits");
    Bytes::from([&[0, 0], &body[..]].concat())
}
