//! Scripts of join, sync, heartbeat and commit, and a seeded crowd.

use std::collections::BTreeMap;

use base::random::Random;
use expect_test::{Expect, expect};
use kafka_wire::ErrorCode;

use crate::world::{Args, World};
use crate::{Options, State, partition_for};

fn check(script: &str, expect: Expect) {
    expect.assert_eq(&World::script(Options::default(), script));
}

#[test]
fn groups_are_placed_as_java_places_them() {
    // What `Utils.abs(group.hashCode()) % 50` of the Java client gives; the third hashes to the least integer.
    let java =
        [("", 0), ("a", 47), ("polygenelubricants", 0), ("my-group", 12), ("größe", 7), ("orders-😀", 15)];
    for (group, partition) in java {
        assert_eq!(partition_for(group, 50), partition, "{group}");
    }
}

#[test]
fn two_members_rebalance_and_one_leaves() {
    check(
        "join a
         join a
         wait 1000
         join b
         join b
         wait 6000
         sync b
         sync a
         heartbeat a
         commit a offset=5
         leave b
         heartbeat a
         join a
         sync a
         offsets
         describe
         leave a
         describe",
        expect![[r#"
            join a
                a: joined MEMBER_ID_REQUIRED a#1
                log: group generation 0  leader - members []
            join a
            wait 1000
            join b
                b: joined MEMBER_ID_REQUIRED b#2
            join b
            wait 6000
                a: joined a#1 generation 1 range leader a#1 ["a#1", "b#2"]
                b: joined b#2 generation 1 range leader a#1 []
            sync b
            sync a
                log: group generation 1 range leader a#1 members ["a#1", "b#2"]
                a: synced NONE "p0"
                b: synced NONE "p1"
            heartbeat a
                a: heartbeat NONE
            commit a offset=5
                log: offset t-0 5 "x"
                a: committed ["NONE"]
            leave b
                b: left NONE ["NONE"]
            heartbeat a
                a: heartbeat REBALANCE_IN_PROGRESS
            join a
                a: joined a#1 generation 2 range leader a#1 ["a#1"]
            sync a
                log: group generation 2 range leader a#1 members ["a#1"]
                a: synced NONE "p0"
            offsets
                t-0 = 5
            describe
                NONE Stable "consumer" "range" ["a#1"]
            leave a
                a: left NONE ["NONE"]
                log: group generation 3  leader - members []
            describe
                NONE Empty "consumer" "" []
        "#]],
    );
}

#[test]
fn a_silent_member_is_removed_and_a_late_one_too() {
    check(
        "join a v=3
         join b v=3
         wait 10000
         sync a
         sync b
         wait 5000
         heartbeat a
         wait 6000
         heartbeat a
         join a v=3
         sync a
         join c v=3
         wait 30001
         describe",
        expect![[r#"
            join a v=3
                log: group generation 0  leader - members []
            join b v=3
            wait 10000
                a: joined a#1 generation 1 range leader a#1 ["a#1", "b#2"]
                b: joined b#2 generation 1 range leader a#1 []
            sync a
                log: group generation 1 range leader a#1 members ["a#1", "b#2"]
                a: synced NONE "p0"
            sync b
                b: synced NONE "p1"
            wait 5000
            heartbeat a
                a: heartbeat NONE
            wait 6000
            heartbeat a
                a: heartbeat REBALANCE_IN_PROGRESS
            join a v=3
                a: joined a#1 generation 2 range leader a#1 ["a#1"]
            sync a
                log: group generation 2 range leader a#1 members ["a#1"]
                a: synced NONE "p0"
            join c v=3
            wait 30001
                c: joined c#3 generation 3 range leader c#3 ["c#3"]
                log: group generation 4  leader - members []
            describe
                NONE Empty "consumer" "" []
        "#]],
    );
}

#[test]
fn static_members_come_back_without_a_rebalance() {
    check(
        "join a instance=one
         wait 10000
         sync a
         forget a
         join a instance=one
         sync a
         heartbeat a instance=one
         forget a
         fail-next
         join a instance=one
         forget a
         join a instance=one v=8
         join x instance=one member=one-unknown
         leave admin member= instance=one
         describe",
        expect![[r#"
            join a instance=one
                log: group generation 0  leader - members []
            wait 10000
                a: joined one#1 generation 1 range leader one#1 ["one#1"]
            sync a
                log: group generation 1 range leader one#1 members ["one#1"]
                a: synced NONE "p0"
            forget a
            join a instance=one
                log: group generation 1 range leader one#2 members ["one#2"]
                a: joined one#2 generation 1 range leader one#2 ["one#2"] skip
            sync a
                a: synced NONE "p0"
            heartbeat a instance=one
                a: heartbeat NONE
            forget a
            fail-next
            join a instance=one
                a: joined COORDINATOR_NOT_AVAILABLE -
            forget a
            join a instance=one v=8
                log: group generation 1 range leader one#3 members ["one#3"]
                a: joined one#3 generation 1 range leader one#2 []
            join x instance=one member=one-unknown
                x: joined FENCED_INSTANCE_ID one#4
            leave admin member= instance=one
                admin: left NONE ["NONE"]
                log: group generation 2  leader - members []
            describe
                NONE Empty "consumer" "" []
        "#]],
    );
}

#[test]
fn a_static_member_that_comes_back_too_early_or_changed_rebalances() {
    check(
        "join a instance=one
         join b instance=two protocols=range,rr
         wait 10000
         forget b
         join b instance=two protocols=rr
         join b instance=two protocols=range,rr
         sync a
         join a instance=one
         sync a
         sync b
         leave a instance=one
         join b instance=two
         sync b
         forget b
         join b instance=two protocols=rr,range
         join b instance=two protocols=range,rr
         sync b
         forget b
         join b instance=two protocols=rr,range",
        expect![[r#"
            join a instance=one
                log: group generation 0  leader - members []
            join b instance=two protocols=range,rr
            wait 10000
                a: joined one#1 generation 1 range leader one#1 ["one#1", "two#2"]
                b: joined two#2 generation 1 range leader one#1 []
            forget b
            join b instance=two protocols=rr
                b: joined INCONSISTENT_GROUP_PROTOCOL -
            join b instance=two protocols=range,rr
            sync a
                a: synced REBALANCE_IN_PROGRESS ""
            join a instance=one
                a: joined one#1 generation 2 range leader one#1 ["one#1", "two#3"]
                b: joined two#3 generation 2 range leader one#1 []
            sync a
                log: group generation 2 range leader one#1 members ["one#1", "two#3"]
                a: synced NONE "p0"
            sync b
                b: synced NONE "p1"
            leave a instance=one
                a: left NONE ["NONE"]
            join b instance=two
                b: joined two#3 generation 3 range leader two#3 ["two#3"]
            sync b
                log: group generation 3 range leader two#3 members ["two#3"]
                b: synced NONE "p0"
            forget b
            join b instance=two protocols=rr,range
                b: joined two#4 generation 4 rr leader two#4 ["two#4"]
            join b instance=two protocols=range,rr
                b: joined two#4 generation 5 range leader two#4 ["two#4"]
            sync b
                log: group generation 5 range leader two#4 members ["two#4"]
                b: synced NONE "p0"
            forget b
            join b instance=two protocols=rr,range
                b: joined two#5 generation 6 rr leader two#5 ["two#5"]
        "#]],
    );
}

#[test]
fn the_first_rebalance_waits_for_more_members_up_to_their_timeout() {
    check(
        "join a v=3 rebalance=7000
         wait 2000
         join b v=3 rebalance=7000
         wait 3000
         join c v=3 rebalance=7000
         wait 1999
         describe
         wait 1
         describe",
        expect![[r#"
            join a v=3 rebalance=7000
                log: group generation 0  leader - members []
            wait 2000
            join b v=3 rebalance=7000
            wait 3000
            join c v=3 rebalance=7000
            wait 1999
            describe
                NONE PreparingRebalance "consumer" "" ["a#1", "b#2", "c#3"]
            wait 1
                a: joined a#1 generation 1 range leader a#1 ["a#1", "b#2", "c#3"]
                b: joined b#2 generation 1 range leader a#1 []
                c: joined c#3 generation 1 range leader a#1 []
            describe
                NONE CompletingRebalance "consumer" "" ["a#1", "b#2", "c#3"]
        "#]],
    );
}

#[test]
fn errors_are_those_of_kafka() {
    check(
        "join a session=10
         join a type=
         join a member=nobody
         heartbeat a
         sync a
         leave a
         commit a generation=3
         commit a generation=3 v=8
         delete-offset
         delete-group
         describe
         join a v=3
         join b v=3 type=connect
         join b v=3 protocols=other
         wait 10000
         heartbeat a generation=7
         sync a generation=7
         sync a type=connect
         commit a
         commit a simple=1
         sync a
         commit a generation=9
         commit a metadata=4097
         commit a simple=1
         delete-group
         delete-offset topic=t
         delete-offset topic=other",
        expect![[r#"
            join a session=10
                a: joined INVALID_SESSION_TIMEOUT -
            join a type=
                a: joined INCONSISTENT_GROUP_PROTOCOL -
                log: group generation 0  leader - members []
            join a member=nobody
                a: joined UNKNOWN_MEMBER_ID nobody#1
            heartbeat a
                a: heartbeat UNKNOWN_MEMBER_ID
            sync a
                a: synced UNKNOWN_MEMBER_ID ""
            leave a
                a: left NONE ["UNKNOWN_MEMBER_ID"]
            commit a generation=3
                a: committed ["UNKNOWN_MEMBER_ID"]
            commit a generation=3 v=8
                a: committed ["UNKNOWN_MEMBER_ID"]
            delete-offset
                admin: deleted NONE ["NONE"]
            delete-group
                log: group gone
                admin: deleted ["NONE"]
            describe
                GROUP_ID_NOT_FOUND Dead "" "" []
            join a v=3
                log: group generation 0  leader - members []
            join b v=3 type=connect
                b: joined INCONSISTENT_GROUP_PROTOCOL -
            join b v=3 protocols=other
                b: joined INCONSISTENT_GROUP_PROTOCOL -
            wait 10000
                a: joined a#2 generation 1 range leader a#2 ["a#2"]
            heartbeat a generation=7
                a: heartbeat ILLEGAL_GENERATION
            sync a generation=7
                a: synced ILLEGAL_GENERATION ""
            sync a type=connect
                a: synced INCONSISTENT_GROUP_PROTOCOL ""
            commit a
                a: committed ["REBALANCE_IN_PROGRESS"]
            commit a simple=1
                a: committed ["UNKNOWN_MEMBER_ID"]
            sync a
                log: group generation 1 range leader a#2 members ["a#2"]
                a: synced NONE "p0"
            commit a generation=9
                a: committed ["ILLEGAL_GENERATION"]
            commit a metadata=4097
                a: committed ["OFFSET_METADATA_TOO_LARGE"]
            commit a simple=1
                a: committed ["UNKNOWN_MEMBER_ID"]
            delete-group
                admin: deleted ["NON_EMPTY_GROUP"]
            delete-offset topic=t
                admin: deleted NONE ["GROUP_SUBSCRIBED_TO_TOPIC"]
            delete-offset topic=other
                admin: deleted NONE ["NONE"]
        "#]],
    );
}

#[test]
fn a_write_that_fails_begins_the_rebalance_anew() {
    check(
        "join a v=3
         wait 10000
         fail-next
         sync a
         describe
         join a
         sync a
         fail-next
         commit a offset=1
         offsets",
        expect![[r#"
            join a v=3
                log: group generation 0  leader - members []
            wait 10000
                a: joined a#1 generation 1 range leader a#1 ["a#1"]
            fail-next
            sync a
                a: synced COORDINATOR_NOT_AVAILABLE ""
            describe
                NONE PreparingRebalance "consumer" "" ["a#1"]
            join a
                a: joined a#1 generation 2 range leader a#1 ["a#1"]
            sync a
                log: group generation 2 range leader a#1 members ["a#1"]
                a: synced NONE "p0"
            fail-next
            commit a offset=1
                a: committed ["COORDINATOR_NOT_AVAILABLE"]
            offsets
        "#]],
    );
}

#[test]
fn a_member_that_joins_while_the_assignment_is_written_wins() {
    check(
        "join a v=3
         wait 10000
         hold
         sync a
         join b v=3
         release
         join a
         sync b
         sync a
         describe",
        expect![[r#"
            join a v=3
                log: group generation 0  leader - members []
            wait 10000
                a: joined a#1 generation 1 range leader a#1 ["a#1"]
            hold
            sync a
            join b v=3
                a: synced REBALANCE_IN_PROGRESS ""
            release
                log: group generation 1 range leader a#1 members ["a#1"]
            join a
                a: joined a#1 generation 2 range leader a#1 ["a#1", "b#2"]
                b: joined b#2 generation 2 range leader a#1 []
            sync b
            sync a
                log: group generation 2 range leader a#1 members ["a#1", "b#2"]
                a: synced NONE "p0"
                b: synced NONE "p1"
            describe
                NONE Stable "consumer" "range" ["a#1", "b#2"]
        "#]],
    );
}

#[test]
fn a_restart_keeps_members_and_offsets() {
    check(
        "join a v=3
         wait 10000
         sync a
         commit a offset=42
         restart
         describe
         heartbeat a
         commit a offset=43
         offsets
         wait 11000
         describe",
        expect![[r#"
            join a v=3
                log: group generation 0  leader - members []
            wait 10000
                a: joined a#1 generation 1 range leader a#1 ["a#1"]
            sync a
                log: group generation 1 range leader a#1 members ["a#1"]
                a: synced NONE "p0"
            commit a offset=42
                log: offset t-0 42 "x"
                a: committed ["NONE"]
            restart
            describe
                NONE Stable "consumer" "range" ["a#1"]
            heartbeat a
                a: heartbeat NONE
            commit a offset=43
                log: offset t-0 43 "x"
                a: committed ["NONE"]
            offsets
                t-0 = 43
            wait 11000
                log: group generation 2  leader - members []
            describe
                NONE Empty "consumer" "" []
        "#]],
    );
}

#[test]
fn offsets_expire_a_week_after_the_group_is_empty() {
    check(
        "join a v=3
         wait 10000
         sync a
         commit a offset=42
         commit a offset=1 topic=unused
         wait 9000
         leave a
         wait 604000000
         offsets
         wait 2000000
         offsets
         describe",
        expect![[r#"
            join a v=3
                log: group generation 0  leader - members []
            wait 10000
                a: joined a#1 generation 1 range leader a#1 ["a#1"]
            sync a
                log: group generation 1 range leader a#1 members ["a#1"]
                a: synced NONE "p0"
            commit a offset=42
                log: offset t-0 42 "x"
                a: committed ["NONE"]
            commit a offset=1 topic=unused
                log: offset unused-0 1 "x"
                a: committed ["NONE"]
            wait 9000
            leave a
                a: left NONE ["NONE"]
                log: group generation 2  leader - members []
            wait 604000000
            offsets
                t-0 = 42
                unused-0 = 1
            wait 2000000
                log: offset t-0 gone
                log: offset unused-0 gone
                log: group gone
            offsets
            describe
                GROUP_ID_NOT_FOUND Dead "" "" []
        "#]],
    );
}

#[test]
fn consumers_without_membership_keep_offsets_too() {
    check(
        "commit a simple=1 offset=7
         describe
         commit a simple=1 offset=8 topic=u v=4 retention=1000
         offsets
         delete-offset topic=u
         wait 700000000
         describe
         commit a simple=1 offset=9
         delete-group
         describe
         offsets",
        expect![[r#"
            commit a simple=1 offset=7
                log: offset t-0 7 "x"
                a: committed ["NONE"]
            describe
                NONE Empty "" "" []
            commit a simple=1 offset=8 topic=u v=4 retention=1000
                log: offset u-0 8 "x"
                a: committed ["NONE"]
            offsets
                t-0 = 7
                u-0 = 8
            delete-offset topic=u
                log: offset u-0 gone
                admin: deleted NONE ["NONE"]
            wait 700000000
                log: offset t-0 gone
                log: group gone
            describe
                GROUP_ID_NOT_FOUND Dead "" "" []
            commit a simple=1 offset=9
                log: offset t-0 9 "x"
                a: committed ["NONE"]
            delete-group
                log: offset t-0 gone
                log: group gone
                admin: deleted ["NONE"]
            describe
                GROUP_ID_NOT_FOUND Dead "" "" []
            offsets
        "#]],
    );
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut world = World::new(Options::default(), 1);
    world.commit("a", &Args(&["simple=1"]));
    world.group = "h".into();
    world.join("b", &Args(&["v=3"]));
    let list = |states: &[&str], types: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let groups = world.shard.list(&owned(states), &owned(types));
        groups
            .iter()
            .map(|g| format!("{} {} {}", g.group_id, g.group_state, g.group_type))
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&[], &[]), ["g Empty classic", "h PreparingRebalance classic"]);
    assert_eq!(list(&["empty"], &["Classic"]), ["g Empty classic"]);
    assert!(list(&["Stable"], &[]).is_empty() && list(&[], &["consumer"]).is_empty());
}

#[test]
fn a_full_group_turns_members_away() {
    let options = Options { group_size_max: 1, ..Options::default() };
    let out = World::script(options, "join a v=3\nwait 10000\nsync a\njoin b v=3\nheartbeat a");
    assert!(out.contains("b: joined GROUP_MAX_SIZE_REACHED -"), "{out}");
    assert!(out.ends_with("a: heartbeat NONE\n"), "{out}");
}

/// A crowd of clients that join, leave, vanish and commit at random while writes are slow or fail; then it is quiet,
/// and everybody who is left must have an assignment of the same generation. Returns all that happened.
///
/// What it cannot produce: several groups, members without a common protocol, two clients of one instance id.
fn crowd(seed: u64) -> String {
    let mut random = Random::from_seed(seed);
    let options = Options { initial_rebalance_delay_ms: random.below(4000) as i32, ..Options::default() };
    let mut world = World::new(options, seed);
    let mut crowd = Crowd::default();
    let clients = 1 + random.below(8);
    crowd.statics = random.below(3) == 0;
    for _ in 0..120 + random.below(200) {
        let name = format!("c{}", random.below(clients));
        world.hold = random.below(4) == 0;
        world.fail = (random.below(12) == 0).then_some(ErrorCode::RequestTimedOut);
        match random.below(20) {
            // It vanishes; when it comes back it may have forgotten who it was.
            0 => {
                crowd.alive.remove(&name);
                if crowd.statics || random.below(2) == 0 {
                    world.clients.remove(&name);
                }
            }
            1 if crowd.alive.remove(&name).is_some() => world.leave(&name, &crowd.args(&name)),
            2..6 => drop(crowd.alive.entry(name).or_default()),
            // What was announced but not written is forgotten, generations too; members notice and join again.
            6 => {
                world.restart();
                (crowd.last_generation, crowd.leaders) = (0, BTreeMap::new());
            }
            7..9 => world.commit(&name, &Args(&[])),
            _ => {}
        }
        world.wait(random.below(2500) as i64);
        crowd.act(&mut world);
    }
    (world.hold, world.fail) = (false, None);
    world.settle(crate::Effects::default());
    for _ in 0..90 {
        world.wait(1000);
        crowd.act(&mut world);
    }
    crowd.check_quiet(&mut world, seed);
    world.out
}

#[derive(Default)]
struct Crowd {
    /// Clients that act, with what each waits for.
    alive: BTreeMap<String, Waits>,
    leaders: BTreeMap<i32, String>,
    seen: usize,
    last_generation: i32,
    /// Half of the clients are static members.
    statics: bool,
}

#[derive(Default, PartialEq, Debug, Clone, Copy)]
enum Waits {
    #[default]
    Nothing,
    Join,
    Sync,
    Heartbeat,
    Member,
}

impl Crowd {
    fn args(&self, name: &str) -> Args<'static> {
        match (self.statics, name) {
            (true, "c0") => Args(&["session=9000", "instance=i0"]),
            (true, "c2") => Args(&["session=9000", "instance=i2", "protocols=rr,range"]),
            (true, "c4") => Args(&["session=9000", "instance=i4", "protocols=range,rr"]),
            (_, "c1") => Args(&["session=9000", "protocols=range,rr", "v=3"]),
            _ => Args(&["session=9000"]),
        }
    }

    fn act(&mut self, world: &mut World) {
        self.read_answers(world);
        let names: Vec<String> = self.alive.keys().cloned().collect();
        for name in names {
            match self.alive[&name] {
                Waits::Nothing => {
                    self.alive.insert(name.clone(), Waits::Join);
                    world.join(&name, &self.args(&name));
                }
                Waits::Member => {
                    self.alive.insert(name.clone(), Waits::Heartbeat);
                    world.heartbeat(&name, &self.args(&name));
                }
                _ => {}
            }
            self.read_answers(world);
        }
    }

    fn read_answers(&mut self, world: &mut World) {
        loop {
            let lines: Vec<String> = world.out[self.seen..].lines().map(str::to_owned).collect();
            self.seen = world.out.len();
            if lines.is_empty() {
                return;
            }
            for line in lines {
                if let Some((name, answer)) = line.trim().split_once(": ") {
                    self.answer(world, name, answer);
                }
            }
        }
    }

    fn answer(&mut self, world: &mut World, name: &str, answer: &str) {
        let words: Vec<&str> = answer.split(' ').collect();
        if words[0] == "joined" && words.get(2) == Some(&"generation") {
            self.check_generation(words[3].parse().expect("a number"), words[6]);
        }
        let Some(waits) = self.alive.get(name).copied() else { return };
        let next = match (words[0], waits) {
            ("joined", Waits::Join) if words.get(2) == Some(&"generation") => Waits::Sync,
            ("joined", Waits::Join) => Waits::Nothing,
            ("synced", Waits::Sync) if words[1] == "NONE" => Waits::Member,
            ("heartbeat", Waits::Heartbeat) if words[1] == "NONE" => Waits::Member,
            ("synced", Waits::Sync) | ("heartbeat", Waits::Heartbeat) => Waits::Nothing,
            _ => return,
        };
        let lost = ["UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_INSTANCE_ID"];
        if lost.iter().any(|error| answer.contains(error)) {
            world.clients.remove(name);
        }
        self.alive.insert(name.to_owned(), next);
        if next == Waits::Sync {
            world.sync(name, &self.args(name));
        }
    }

    /// Generations do not go back, and each has one leader; a static one may have got a new id meanwhile.
    fn check_generation(&mut self, generation: i32, leader: &str) {
        let leader = if leader.starts_with('i') { &leader[..2] } else { leader };
        assert!(generation >= self.last_generation, "{generation} after {}", self.last_generation);
        self.last_generation = generation;
        let known = self.leaders.entry(generation).or_insert_with(|| leader.to_owned());
        assert_eq!(known, leader, "generation {generation} has two leaders");
    }

    fn check_quiet(&self, world: &mut World, seed: u64) {
        assert!(world.waiting.is_empty(), "seed {seed}: requests without an answer: {:?}", world.waiting);
        let state = world.shard.state("g");
        if self.alive.is_empty() {
            assert!(matches!(state, None | Some(State::Empty)), "seed {seed}: {state:?}");
            return;
        }
        assert_eq!(state, Some(State::Stable), "seed {seed}\n{}", world.out);
        let generation = self.alive.keys().next().map(|name| world.known(name).generation);
        for (name, waits) in &self.alive {
            assert_eq!(*waits, Waits::Member, "seed {seed}: {name} is stuck\n{}", world.out);
            assert_eq!(Some(world.known(name).generation), generation, "seed {seed}: {name}");
        }
        assert_eq!(
            world.shard.describe(6, "g").members.len(),
            self.alive.len(),
            "seed {seed}\n{}",
            world.out
        );
    }
}

#[test]
fn a_crowd_settles_whatever_happens() {
    for seed in 0..120 {
        crowd(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..20 {
        assert_eq!(crowd(seed), crowd(seed));
    }
    assert_ne!(crowd(1), crowd(2));
}
