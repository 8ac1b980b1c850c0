//! `cargo xtask bench store [PART...] [--quick] [--seconds=N] [--rounds=N] [--tls] [--built]`: etcd 3.6 and Ketch's store behind its etcd port, one after the
//! other in one run, with the same client over eight connections, on the same disk, both durable before they answer.
//!
//! Parts: `puts` (and creates, gets, the empty echo), `watch`, `range`, `memory`, `members`, `compact`, `million`,
//! `embedded`; all of them without a name, less `compact` and `million` with `--quick`. Each figure is the median of the
//! rounds, which alternate between the two servers, and stands beside its bar. `--built` takes the programs of the last build.

mod servers;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::output;
use servers::{Figures, Kind, Programs, Servers, parse};

/// How much is measured.
struct Plan {
    seconds: u64,
    rounds: usize,
    watchers: usize,
    events: u64,
    ranges: u64,
}

const FULL: Plan = Plan { seconds: 20, rounds: 3, watchers: 10_000, events: 20, ranges: 10 };
const QUICK: Plan = Plan { seconds: 4, rounds: 1, watchers: 10_000, events: 5, ranges: 3 };
/// Seconds of a cluster's round, of a failover, of writing during a compaction, of embedded puts.
const CLUSTER_SECONDS: u64 = 10;
const FAILOVER_SECONDS: u64 = 6;
const COMPACT_SECONDS: u64 = 10;
const EMBEDDED_SECONDS: u64 = 5;
/// Thousands of keys that memory, ranges and starts are measured with; of the large state; of revisions compacted.
const KEYS_K: usize = 100;
const MANY_KEYS_K: usize = 1000;
const REVISIONS_K: usize = 1000;
/// Into a failover's round the leader is killed after this.
const LEADER_LIVES: Duration = Duration::from_secs(2);

/// After a load, until memory is read once more.
const REST: Duration = Duration::from_secs(3);

const OPTIONS: &str = "--quick, --seconds=N (of each line of `puts`), --rounds=N, --tls and --built";

type Part = fn(&Programs, &Plan) -> Result<()>;

/// Name, whether `--quick` leaves it out, and how it is run.
const PARTS: &[(&str, bool, Part)] = &[
    ("puts", false, puts),
    ("watch", false, watch),
    ("range", false, range),
    ("memory", false, memory),
    ("members", false, members),
    ("embedded", false, embedded),
    ("compact", true, compact),
    ("million", true, million),
];

/// `cargo xtask bench store`.
pub fn run(args: &[String]) -> Result<()> {
    let (flags, names): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.starts_with("--"));
    let (mut quick, mut tls, mut built) = (false, false, false);
    let (mut seconds, mut count) = (None, None);
    for flag in flags {
        match (flag.as_str(), flag.split_once('=')) {
            ("--quick", _) => quick = true,
            ("--tls", _) => tls = true,
            ("--built", _) => built = true,
            (_, Some(("--seconds", number))) => seconds = Some(number.parse()?),
            (_, Some(("--rounds", number))) => count = Some(number.parse()?),
            (other, _) => bail!("no option is called {other}; there are {OPTIONS}"),
        }
    }
    let known = |name: &&String| PARTS.iter().any(|(part, ..)| part == &name.as_str());
    if let Some(stranger) = names.iter().find(|name| !known(name)) {
        let parts: Vec<_> = PARTS.iter().map(|(name, ..)| *name).collect();
        bail!("no part is called {stranger}; there are: {}", parts.join(", "));
    }
    let plan = if quick { QUICK } else { FULL };
    let (seconds, rounds) = (seconds.unwrap_or(plan.seconds), count.unwrap_or(plan.rounds));
    let plan = Plan { seconds, rounds: rounds.max(1), ..plan };
    if !built {
        Programs::build()?;
    }
    let programs = Programs::find(tls)?;
    println!("{:<40} {:>30} {:>30}  ratio", if tls { "over TLS" } else { "in the clear" }, "etcd", "ketch");
    for (name, long, part) in PARTS {
        let named = names.iter().any(|asked| asked == name);
        if named || (names.is_empty() && !(quick && *long)) {
            part(&programs, &plan).with_context(|| format!("in the part {name}"))?;
        }
    }
    Ok(())
}

/// A line of the table: more is better when `rising`.
fn line(name: &str, unit: &str, [etcd, ketch]: [f64; 2], rising: bool, bar: f64) {
    let ratio = if rising { ketch / etcd } else { etcd / ketch };
    let met = if ratio >= bar { "met" } else { "MISSED" };
    println!("{name:<40} {etcd:>25.2} {unit:<4} {ketch:>25.2} {unit:<4} {ratio:>6.2}  bar {bar} {met}");
}

fn with_bar(name: &str, unit: &str, [etcd, ketch]: [f64; 2], most: f64) {
    let met = if ketch <= most { "met" } else { "MISSED" };
    println!(
        "{name:<40} {etcd:>25.2} {unit:<4} {ketch:>25.2} {unit:<4}         bar at most {most} {unit} {met}"
    );
}

fn info(name: &str, unit: &str, [etcd, ketch]: [f64; 2]) {
    println!("{name:<40} {etcd:>25.2} {unit:<4} {ketch:>25.2} {unit:<4} {:>6.2}", ketch / etcd);
}

/// Rounds on both, alternating; the median of each by rate.
fn rounds(
    pair: &[Servers; 2],
    count: usize,
    mut run: impl FnMut(&Servers) -> Result<Figures>,
) -> Result<[Figures; 2]> {
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..count {
        for (servers, found) in pair.iter().zip(&mut found) {
            found.push(run(servers)?);
        }
    }
    let median = |mut rounds: Vec<Figures>| {
        rounds.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        rounds.swap_remove(rounds.len() / 2)
    };
    Ok(found.map(median))
}

fn pair(programs: &Programs) -> Result<[Servers; 2]> {
    let [etcd, ketch] = Kind::BOTH;
    Ok([programs.alone(etcd)?, programs.alone(ketch)?])
}

fn pick(figures: &[Figures; 2], of: impl Fn(&Figures) -> f64) -> [f64; 2] {
    [of(&figures[0]), of(&figures[1])]
}

fn ms(of: impl Fn(&Figures) -> f64) -> impl Fn(&Figures) -> f64 {
    move |figures| of(figures) / 1e3
}

/// What is done, by how many clients, and the bars: rate, median, p99 (etcd's over ours; rate: ours over etcd's).
const RATES: &[(&str, usize, &str, [Option<f64>; 3])] = &[
    ("echo", 64, "empty echo, 64 clients", [None, None, None]),
    ("put", 1, "put of 1 KB, 1 client", [None, Some(1.3), Some(1.0)]),
    ("put", 64, "put of 1 KB, 64 clients", [Some(3.0), None, Some(2.0)]),
    ("put", 256, "put of 1 KB, 256 clients", [Some(3.0), None, Some(2.0)]),
    ("create", 64, "create of 4 KiB, 64 clients", [Some(3.0), None, None]),
    ("get", 64, "linearizable get, 64 clients", [Some(2.0), None, None]),
];

fn puts(programs: &Programs, plan: &Plan) -> Result<()> {
    let pair = pair(programs)?;
    for (workload, clients, name, [rate, p50, p99]) in RATES {
        let found =
            rounds(&pair, plan.rounds, |servers| programs.load(servers, workload, *clients, plan.seconds))?;
        let show = |what: &str, unit: &str, of: &dyn Fn(&Figures) -> f64, rising: bool, bar: Option<f64>| {
            let (name, values) = (format!("{name}{what}"), pick(&found, of));
            match bar {
                Some(bar) => line(&name, unit, values, rising, bar),
                None => info(&name, unit, values),
            }
        };
        show("", "/s", &|f| f.rate, true, *rate);
        show(": p50", "ms", &ms(|f| f.p50), false, *p50);
        show(": p99", "ms", &ms(|f| f.p99), false, *p99);
        // Half of etcd's a call counts where the transport is what bounds the rate.
        show(": server's CPU a call", "us", &|f| f.cpu_us, false, rate.map(|_| 2.0));
        show(": cores in use, client and server", "", &|f| f.cores, false, None);
    }
    Ok(())
}

fn watch(programs: &Programs, plan: &Plan) -> Result<()> {
    let pair = pair(programs)?;
    let found = rounds(&pair, 1, |servers| programs.load(servers, "watch", plan.watchers, plan.events))?;
    let name = format!("event to the last of {} watchers: p50", plan.watchers);
    line(&name, "ms", pick(&found, ms(|f| f.p50)), false, 3.0);
    info("the same: longest", "ms", pick(&found, ms(|f| f.longest)));
    info("the same: server's CPU an event", "ms", pick(&found, ms(|f| f.cpu_us)));
    Ok(())
}

fn range(programs: &Programs, plan: &Plan) -> Result<()> {
    let pair = pair(programs)?;
    rounds(&pair, 1, |servers| programs.load(servers, "fill", KEYS_K, 0))?;
    let found = rounds(&pair, 1, |servers| programs.load(servers, "range", 1, plan.ranges))?;
    line(&format!("range of {KEYS_K}k keys: p50"), "ms", pick(&found, ms(|f| f.p50)), false, 3.0);
    line("the same: server's CPU a range", "ms", pick(&found, ms(|f| f.cpu_us)), false, 2.0);
    info("the same: cores in use, client and server", "", pick(&found, |f| f.cores));
    Ok(())
}

fn memory(programs: &Programs, _: &Plan) -> Result<()> {
    let mut pair = pair(programs)?;
    let rss = |pair: &[Servers; 2]| Ok::<_, anyhow::Error>([pair[0].rss_mb()?, pair[1].rss_mb()?]);
    with_bar("RSS, idle", "MB", rss(&pair)?, 15.0);
    rounds(&pair, 1, |servers| programs.load(servers, "fill", KEYS_K, 0))?;
    info(&format!("RSS at the end of {KEYS_K}k puts of 1 KB"), "MB", rss(&pair)?);
    std::thread::sleep(REST);
    line("RSS a little later", "MB", rss(&pair)?, false, 3.0);
    let mut took = [0.0; 2];
    for (servers, took) in pair.iter_mut().zip(&mut took) {
        *took = servers.restart(programs)?.as_secs_f64() * 1e3;
    }
    with_bar(&format!("start to healthy, {KEYS_K}k keys"), "ms", took, 50.0);
    Ok(())
}

fn members(programs: &Programs, plan: &Plan) -> Result<()> {
    let [etcd, ketch] = Kind::BOTH;
    let mut pair = [programs.cluster(etcd)?, programs.cluster(ketch)?];
    let seconds = plan.seconds.min(CLUSTER_SECONDS);
    let found = rounds(&pair, plan.rounds, |servers| programs.load(servers, "put", 64, seconds))?;
    line("three members, put, 64 clients", "/s", pick(&found, |f| f.rate), true, 1.5);
    info("the same: p50", "ms", pick(&found, ms(|f| f.p50)));
    info("the same: p99", "ms", pick(&found, ms(|f| f.p99)));
    let mut gaps = [0.0; 2];
    for (servers, gap) in pair.iter_mut().zip(&mut gaps) {
        *gap = failover(programs, servers)?;
    }
    with_bar("leader killed: longest time without a put", "s", gaps, 1.5);
    Ok(())
}

/// Kills the leader under load; the longest time in seconds without an acknowledged put.
fn failover(programs: &Programs, servers: &mut Servers) -> Result<f64> {
    let leader: usize = output(&mut programs.client(servers, "leader", 1, 1))?.trim().parse()?;
    let mut client = programs.client(servers, "gaps", 16, FAILOVER_SECONDS);
    let client = client.stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(LEADER_LIVES);
    servers.members[leader].kill();
    let said = client.wait_with_output()?;
    let (_, figures) = parse(&String::from_utf8_lossy(&said.stdout))?;
    Ok(figures.longest / 1e6)
}

fn embedded(programs: &Programs, _: &Plan) -> Result<()> {
    let found = programs.embedded(64, EMBEDDED_SECONDS)?;
    let met = if found.rate >= 50_000.0 { "met" } else { "MISSED" };
    println!(
        "{:<40} {:>30} {:>25.0} /s            bar at least 50000 /s {met}",
        "embedded durable puts, 64 tasks", "", found.rate
    );
    Ok(())
}

fn compact(programs: &Programs, _: &Plan) -> Result<()> {
    let pair = pair(programs)?;
    rounds(&pair, 1, |servers| programs.load(servers, "revisions", REVISIONS_K, 0))?;
    let still = rounds(&pair, 1, |servers| programs.load(servers, "put", 1, COMPACT_SECONDS))?;
    info("longest put, 1 client, nothing compacted", "ms", pick(&still, ms(|f| f.longest)));
    let found = rounds(&pair, 1, |servers| programs.load(servers, "compact", 1, COMPACT_SECONDS))?;
    let name = format!("longest put, {REVISIONS_K}k revisions compacted");
    with_bar(&name, "ms", pick(&found, ms(|f| f.longest)), 50.0);
    Ok(())
}

fn million(programs: &Programs, _: &Plan) -> Result<()> {
    let mut pair = pair(programs)?;
    let found = rounds(&pair, 1, |servers| programs.load(servers, "fill-txn", MANY_KEYS_K, 0))?;
    info(&format!("{MANY_KEYS_K}k keys, 128 a transaction"), "/s", pick(&found, |f| f.rate));
    info("RSS with them", "MB", [pair[0].rss_mb()?, pair[1].rss_mb()?]);
    let found = rounds(&pair, 1, |servers| programs.load(servers, "put", 64, CLUSTER_SECONDS))?;
    info("put of 1 KB among them, 64 clients", "/s", pick(&found, |f| f.rate));
    let found = rounds(&pair, 1, |servers| programs.load(servers, "range", 1, 2))?;
    info("range of all", "ms", pick(&found, ms(|f| f.p50)));
    let mut took = [0.0; 2];
    for (servers, took) in pair.iter_mut().zip(&mut took) {
        *took = servers.restart(programs)?.as_secs_f64() * 1e3;
    }
    info("start to healthy with them", "ms", took);
    Ok(())
}
