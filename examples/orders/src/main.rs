//! A small shop on a stream: producers write orders, consumers of one group add them up, a page shows the totals.
//!
//! ```text
//! orders produce ──▶ topic "orders" (6 partitions) ──▶ orders aggregate (one group)
//!                                                             │ sums of consecutive orders, then commit
//!                                                             ▼
//! browser ◀── orders page ◀─────────────────────── topic "order-totals"
//! ```
//!
//! Counting is at least once: an aggregator that dies between writing a sum and committing its offset leaves orders that
//! its successor adds up again. Every sum names the offsets it covers, so the page drops what it has already counted
//! and shows how many duplicates there were.

mod aggregate;
mod model;
mod page;
mod produce;
mod topics;

use std::net::ToSocketAddrs;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
orders COMMAND

  produce     write orders            ORDERS_PER_SECOND (default 200)
  aggregate   add them up in a group  GROUP (default order-aggregators)
  page        show the totals         LISTEN (default 0.0.0.0:8080)
  resolve N   look a name up and print its addresses

KAFKA_BOOTSTRAP names the broker (default kafka.ketch-system.svc:9092).
";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("produce") => produce::run(),
        Some("aggregate") => aggregate::run(),
        Some("page") => page::run(),
        Some("resolve") => resolve(args.get(1).context("resolve wants a name")?),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => bail!("unknown command '{other}'\n\n{HELP}"),
    }
}

/// Proves that names resolve inside a static image.
fn resolve(name: &str) -> Result<()> {
    for address in (name, 0).to_socket_addrs().with_context(|| format!("cannot resolve {name}"))? {
        println!("{}", address.ip());
    }
    Ok(())
}

/// A setting from the environment.
fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// The broker's address.
fn bootstrap() -> String {
    setting("KAFKA_BOOTSTRAP", "kafka.ketch-system.svc:9092")
}
