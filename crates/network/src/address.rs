//! Ranges of IPv4 addresses, and who has which address of the node's range.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range in CIDR form; the host bits of its base are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

/// The text is not an IPv4 range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an IPv4 range such as 10.42.0.0/16")]
pub struct CidrError(String);

impl Cidr {
    /// The range of `prefix` bits that holds `address`.
    #[must_use]
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix > 32 { 32 } else { prefix };
        let base = u32::from_be_bytes(address.octets());
        Self { base: base & mask(prefix), prefix }
    }

    /// Its first address, the network's own.
    #[must_use]
    pub const fn base(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    /// The number of leading bits that all addresses share.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How many addresses it has, network and broadcast included.
    #[must_use]
    pub const fn size(&self) -> u64 {
        1 << (32 - self.prefix)
    }

    /// The address `n` places after the base; None beyond the range.
    #[must_use]
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        (u64::from(n) < self.size()).then(|| Ipv4Addr::from_bits(self.base + n))
    }

    /// Whether the address lies in the range.
    #[must_use]
    pub const fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.base
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix: u8 = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(wrong)?;
        Ok(Self::new(address.parse().map_err(|_| wrong())?, prefix))
    }
}

/// Which pod (by uid) has which address. The first address is the gateway's; the network's and the broadcast
/// address are never given.
///
/// A freed address comes round last, so that late packets and caches do not reach the next pod.
#[derive(Debug)]
pub struct Addresses {
    range: Cidr,
    by_uid: BTreeMap<String, Ipv4Addr>,
    taken: BTreeMap<Ipv4Addr, String>,
    next: u32,
}

/// The place of the first address a pod can get: after the network's own and the gateway's.
const FIRST: u32 = 2;

impl Addresses {
    /// All free.
    #[must_use]
    pub const fn new(range: Cidr) -> Self {
        Self { range, by_uid: BTreeMap::new(), taken: BTreeMap::new(), next: FIRST }
    }

    /// The pod's address: the one it has, else the next free one; None when all are taken.
    pub fn allocate(&mut self, uid: &str) -> Option<Ipv4Addr> {
        if let Some(known) = self.by_uid.get(uid) {
            return Some(*known);
        }
        // The last address is the broadcast address.
        let end = u32::try_from(self.range.size() - 1).unwrap_or(u32::MAX);
        let places = (self.next..end).chain(FIRST..self.next.min(end));
        let mut free = places.filter_map(|n| Some((n, self.range.nth(n)?)));
        let (place, ip) = free.find(|(_, ip)| !self.taken.contains_key(ip))?;
        self.next = place + 1;
        self.reserve(uid, ip);
        Some(ip)
    }

    /// Notes that the pod has this address; false when another pod has it.
    pub fn reserve(&mut self, uid: &str, ip: Ipv4Addr) -> bool {
        if self.taken.get(&ip).is_some_and(|other| other != uid) {
            return false;
        }
        if let Some(old) = self.by_uid.insert(uid.to_owned(), ip) {
            self.taken.remove(&old);
        }
        self.taken.insert(ip, uid.to_owned());
        true
    }

    /// The pod's address, if it has one.
    #[must_use]
    pub fn of(&self, uid: &str) -> Option<Ipv4Addr> {
        self.by_uid.get(uid).copied()
    }

    /// Frees the pod's address.
    pub fn release(&mut self, uid: &str) {
        if let Some(ip) = self.by_uid.remove(uid) {
            self.taken.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_printed() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(text.parse::<Cidr>().ok().map(|c| c.to_string()).as_deref(), expect, "{text}");
        };
        check("10.42.0.0/16", Some("10.42.0.0/16"));
        check("10.42.7.9/24", Some("10.42.7.0/24"));
        check("0.0.0.0/0", Some("0.0.0.0/0"));
        check("1.2.3.4/32", Some("1.2.3.4/32"));
        check("1.2.3.4/33", None);
        check("1.2.3.4", None);
        check("fd00::/8", None);
        let range: Cidr = "10.42.0.0/16".parse().expect("a range");
        assert!(range.contains(Ipv4Addr::new(10, 42, 255, 255)));
        assert!(!range.contains(Ipv4Addr::new(10, 43, 0, 0)));
        assert_eq!(range.nth(65536), None);
    }

    #[test]
    fn addresses_are_given_once_and_freed_ones_come_last() {
        let mut addresses = Addresses::new("10.42.0.0/29".parse().expect("a range"));
        let last = |a: Option<Ipv4Addr>| a.map(|a| a.octets()[3]);
        assert_eq!(last(addresses.allocate("a")), Some(2));
        assert_eq!(last(addresses.allocate("b")), Some(3));
        assert_eq!(last(addresses.allocate("a")), Some(2), "asked again");
        addresses.release("a");
        assert_eq!(last(addresses.allocate("c")), Some(4));
        assert!(addresses.reserve("d", Ipv4Addr::new(10, 42, 0, 5)));
        assert!(!addresses.reserve("e", Ipv4Addr::new(10, 42, 0, 5)));
        assert_eq!(last(addresses.allocate("f")), Some(6));
        assert_eq!(last(addresses.allocate("g")), Some(2), "the freed one");
        assert_eq!(addresses.allocate("h"), None, "7 is the broadcast address");
        addresses.release("nobody");
    }
}
