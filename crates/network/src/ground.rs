//! What lies under all pods: made before any room listens, removed last.
//!
//! ```text
//! prepare: refuse a second node part ─▶ unreachable routes ─▶ bridge + gateway address ─▶ base of the table
//!          ─▶ forwarding on the uplinks (those we switch on are in the table's set `forwarding`)
//! down:    forwarding back ─▶ pod links, bridge ─▶ routes ─▶ table
//! ```

use crate::room::Options;
use crate::rules::{Base, Ruleset};
use crate::{Error, netlink, nft};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What `prepare` found and made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The node's address as pods see it; listeners may bind to it from now on.
    pub gateway: Ipv4Addr,
    /// The interfaces whose forwarding this node part switched on.
    pub forwarding: BTreeSet<String>,
}

const BRIDGE_PREFIX: &str = "kt";
const TABLE_PREFIX: &str = "ketch-";
const FORWARDING_SET: &str = "forwarding";

/// The bridge's name.
pub fn bridge(id: &str) -> String {
    format!("{BRIDGE_PREFIX}{id}")
}

/// The table's name.
pub fn table(id: &str) -> String {
    format!("{TABLE_PREFIX}{id}")
}

/// What the names of all pod links begin with.
pub fn link_prefix(id: &str) -> String {
    format!("kv{id}")
}

/// Whether the text is an id: eight hexadecimal digits in lower case.
pub fn is_id(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The id in a name with this prefix, unless it is ours.
fn foreign<'a>(name: &'a str, prefix: &str, ours: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|id| is_id(id) && *id != ours)
}

/// Makes routes, gateway address and the base of the table. May be repeated; what is there stays.
///
/// # Errors
/// [`Error::Missing`] when the host cannot, [`Error::Occupied`] when another node part is here.
pub async fn prepare(options: &Options) -> Result<Prepared, Error> {
    options.validate()?;
    crate::available()?;
    let tables = nft::tables().await?;
    let gateway = options.gateway();
    let (connection, rt) = netlink::open()?;
    let uplinks = netlink::drive(connection, async {
        refuse_second(&rt, &tables, &options.data_dir_id).await?;
        netlink::add_unreachable(&rt, options.pod_cidr).await?;
        netlink::add_unreachable(&rt, options.service_cidr).await?;
        let bridge = netlink::add_bridge(&rt, &bridge(&options.data_dir_id)).await?;
        netlink::add_address(&rt, bridge, gateway).await?;
        let uplinks = netlink::uplinks(&rt).await?;
        let links = netlink::links(&rt).await?.into_iter();
        Ok(links.filter(|l| uplinks.contains(&l.index)).map(|l| l.name).collect::<Vec<_>>())
    })
    .await?;
    let forwarding = open_uplinks(options, &tables, uplinks).await?;
    Ok(Prepared { gateway, forwarding })
}

async fn refuse_second(rt: &netlink::Rt, tables: &[String], ours: &str) -> Result<(), Error> {
    let other = other_node(rt, tables, ours).await?;
    other.map_or(Ok(()), |id| Err(Error::Occupied(id)))
}

async fn other_node(rt: &netlink::Rt, tables: &[String], ours: &str) -> Result<Option<String>, Error> {
    let by_table = tables.iter().find_map(|name| foreign(name, TABLE_PREFIX, ours));
    if let Some(id) = by_table {
        return Ok(Some(id.to_owned()));
    }
    let links = netlink::links(rt).await?;
    Ok(links.iter().find_map(|link| foreign(&link.name, BRIDGE_PREFIX, ours)).map(str::to_owned))
}

/// Records first which interfaces we open, then opens them: a crash between the two leaves nothing open unrecorded.
async fn open_uplinks(
    options: &Options,
    tables: &[String],
    uplinks: Vec<String>,
) -> Result<BTreeSet<String>, Error> {
    let table = table(&options.data_dir_id);
    let exists = tables.contains(&table);
    let mut ours: BTreeSet<String> = BTreeSet::new();
    if exists {
        ours.extend(nft::interfaces(&table, FORWARDING_SET).await);
    }
    ours.extend(uplinks.into_iter().filter(|name| !forwards(name)));
    if exists {
        nft::apply(&Base::forwarding_text(&table, &ours)).await?;
    } else {
        let base = options.base(&ours);
        nft::apply(&base.full(&Ruleset::default())).await?;
    }
    for name in &ours {
        set_forwarding(name, true)?;
    }
    Ok(ours)
}

fn sysctl(link: &str, key: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/{key}")
}

fn forwards(link: &str) -> bool {
    std::fs::read_to_string(sysctl(link, "forwarding")).is_ok_and(|text| text.trim() == "1")
}

/// Lets packets that came in by this link be forwarded. A link that is gone is fine when closing.
fn set_forwarding(link: &str, on: bool) -> Result<(), Error> {
    set(link, "forwarding", on)
}

fn set(link: &str, key: &str, on: bool) -> Result<(), Error> {
    let path = sysctl(link, key);
    match std::fs::write(&path, if on { "1" } else { "0" }) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io(format!("write {path}"))),
    }
}

/// Switches on what a pod's link needs: forwarding, and packets of the host's own loopback (node ports on 127.0.0.1).
pub fn open_pod_link(link: &str) -> Result<(), Error> {
    set(link, "forwarding", true)?;
    set(link, "route_localnet", true)
}

/// Removes table, links, routes and rules of the data directory's node part, and closes what it had opened.
/// Succeeds when nothing is there.
///
/// # Errors
/// When the kernel or `nft` refuses; the rest has been tried up to there.
pub async fn down(data_dir_id: &str) -> Result<(), Error> {
    if !is_id(data_dir_id) {
        return Err(Error::Options(format!("{data_dir_id:?} is not an id of eight hexadecimal digits")));
    }
    let table = table(data_dir_id);
    let tables = if nft::program().is_some() { nft::tables().await? } else { Vec::new() };
    let ours = tables.contains(&table);
    if ours {
        for name in nft::interfaces(&table, FORWARDING_SET).await {
            set_forwarding(&name, false)?;
        }
    }
    let (connection, rt) = netlink::open()?;
    netlink::drive(connection, remove_links(&rt, data_dir_id, &tables)).await?;
    if ours { nft::apply(&format!("delete table ip {table}\n")).await } else { Ok(()) }
}

async fn remove_links(rt: &netlink::Rt, id: &str, tables: &[String]) -> Result<(), Error> {
    let (bridge, prefix) = (bridge(id), link_prefix(id));
    for link in netlink::links(rt).await? {
        if link.name == bridge || link.name.starts_with(&prefix) {
            netlink::delete_link(rt, &link.name).await?;
        }
    }
    // Routes carry no id, and there is one node part a namespace: they are ours unless another one is here.
    if other_node(rt, tables, id).await?.is_none() {
        netlink::delete_routes(rt).await?;
    }
    Ok(())
}
