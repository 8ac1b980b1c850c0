//! The pod network: links, addresses, Services and names, on one host.
//!
//! ```text
//! prepare() ── unreachable routes, bridge with the gateway address, base of the nftables table
//!
//! kubelet ── attach/adopt/detach ─▶ pods ── rtnetlink ─▶ veth pairs, /32 routes
//!
//! informers ── Services, EndpointSlices ─▶ proxy ── rules() ── nft -f - ─▶ table ketch-<id>
//!                                            │  └─ /32 routes on lo, one a ClusterIP
//!                                            └─ zone ─▶ dns server on the gateway address
//! ```
//!
//! The kernel holds the truth: a pod's link carries its address in its name and the pod's uid in its alias, the
//! table holds the interfaces whose forwarding was switched on. Nothing is kept in files, and `down` needs the
//! eight digits only. Everything that takes a rule or an answer to decide is a pure function ([`rules`], [`Zone`]).

mod address;
mod conntrack;
mod dns;
mod ground;
mod netlink;
mod nft;
mod objects;
mod pods;
mod proxy;
mod room;
mod rules;

pub use address::{Addresses, Cidr, CidrError};
pub use dns::{Answer, Verdict, Zone};
pub use ground::{Prepared, down, prepare};
pub use objects::{Addrs, ensure_services};
pub use room::{Handle, Options, Service};
pub use rules::{Base, Protocol, Ruleset, rules};

/// Why the network cannot run on this host, as a line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("network: off, {0}")]
pub struct Missing(pub String);

/// Why a step of the network failed, and so what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host lacks something: leave the network off and say so.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Another data directory's node part holds this network namespace: stop that one first.
    #[error("another node part (id {0}) holds this network namespace; stop it first with 'ketch down'")]
    Occupied(String),
    /// The kernel refused a link, an address or a route.
    #[error("{action}: {source}")]
    Netlink {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// `nft` refused a transaction; nothing of it was applied.
    #[error("nft: {0}")]
    Nft(String),
    /// A file, socket or child process failed.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Something needed has gone, such as a pod's namespace.
    #[error("{0} is gone")]
    Gone(String),
    /// Every address of the node's range is taken.
    #[error("no free pod address in {0}")]
    Exhausted(Cidr),
    /// The option is not what it has to be.
    #[error("{0}")]
    Options(String),
}

impl Error {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink { action, source }
    }
}

/// Whether this host can run the network: root, the right to administer networks, and `nft`.
///
/// # Errors
/// What is missing first, as a line for people.
pub fn available() -> Result<(), Missing> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Missing("it needs root".into()));
    }
    if !may_administer(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        return Err(Missing("it needs the capability CAP_NET_ADMIN".into()));
    }
    if nft::program().is_none() {
        return Err(Missing("install nftables (apt-get install nftables)".into()));
    }
    Ok(())
}

/// Reads the effective capabilities from the text of /proc/self/status; without the line, lets the kernel decide.
fn may_administer(status: &str) -> bool {
    const CAP_NET_ADMIN: u32 = 12;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_none_or(|bits| bits >> CAP_NET_ADMIN & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        let check = |status: &str, expect: bool| assert_eq!(may_administer(status), expect, "{status}");
        check("Name:\tx\nCapEff:\t000001ffffffffff\n", true);
        check("CapEff:\t0000000000001000", true);
        check("CapEff:\t00000000a80425fb", false);
        check("", true);
    }

    #[test]
    fn what_is_missing_reads_well() {
        let text = Missing("install nftables (apt-get install nftables)".into()).to_string();
        assert_eq!(text, "network: off, install nftables (apt-get install nftables)");
    }
}
