//! Links, addresses and routes by rtnetlink.
//!
//! ```text
//! open() ─▶ (connection, handle);  drive(connection, work) polls both, so that no task outlives the work
//! open_in(netns) ─▶ the same, the socket made by a thread that entered `netns`: a netlink socket stays in the
//!                   namespace it was made in, so the work itself runs anywhere
//! ```

use crate::{Cidr, Error};
use futures::TryStreamExt;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::fs::File;
use std::future::Future;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The mark on every route of ours, by which `down` finds them (an unassigned number of /etc/iproute2/rt_protos).
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(0x4b);
/// Worse than any route of the host's for the same range; specific routes win by length anyway.
const UNREACHABLE_METRIC: u32 = 1 << 24;

pub type Rt = rtnetlink::Handle;

/// A link as far as we look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alias: String,
}

type Connection =
    rtnetlink::proto::Connection<rtnetlink::packet_route::RouteNetlinkMessage, rtnetlink::sys::TokioSocket>;

/// A socket in the caller's namespace.
pub fn open() -> Result<(Connection, Rt), Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::io("open a netlink socket"))?;
    Ok((connection, handle))
}

/// A socket in the namespace of the open file.
pub async fn open_in(netns: &File) -> Result<(Connection, Rt), Error> {
    let netns = netns.try_clone().map_err(Error::io("hold the pod's network namespace"))?;
    let runtime = tokio::runtime::Handle::current();
    let (send, receive) = tokio::sync::oneshot::channel();
    let enter = move || {
        let _runtime = runtime.enter();
        setns(&netns, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::io("enter the pod's network namespace")(errno.into()))?;
        open()
    };
    // The thread ends in the pod's namespace, so it is nobody else's.
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || send.send(enter()).ok())
        .map_err(Error::io("start a thread"))?;
    receive.await.unwrap_or_else(|_| Err(Error::Gone("the thread in the pod's namespace".into())))
}

/// Runs `work` while serving its connection.
pub async fn drive<T>(
    connection: Connection,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        result = work => result,
        () = connection => Err(Error::Gone("the netlink socket".into())),
    }
}

/// Whether the kernel answered with this error number.
fn is(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}

/// Takes some error numbers as success.
fn unless(result: Result<(), rtnetlink::Error>, fine: &[i32], action: &str) -> Result<(), Error> {
    match result {
        Err(error) if fine.iter().any(|errno| is(&error, *errno)) => Ok(()),
        other => other.map_err(Error::netlink(action)),
    }
}

/// The link's number, None without such a link.
pub async fn link_index(rt: &Rt, name: &str) -> Result<Option<u32>, Error> {
    match rt.link().get().match_name(name).execute().try_next().await {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(error) if is(&error, libc::ENODEV) => Ok(None),
        Err(source) => Err(Error::netlink(format!("look for link {name}"))(source)),
    }
}

/// All links.
pub async fn links(rt: &Rt) -> Result<Vec<Link>, Error> {
    let all: Vec<LinkMessage> =
        rt.link().get().execute().try_collect().await.map_err(Error::netlink("list links"))?;
    Ok(all.iter().map(described).collect())
}

fn described(message: &LinkMessage) -> Link {
    let mut link = Link { index: message.header.index, name: String::new(), alias: String::new() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            _ => {}
        }
    }
    link
}

/// Makes the bridge unless it is there, and brings it up.
pub async fn add_bridge(rt: &Rt, name: &str) -> Result<u32, Error> {
    let added = rt.link().add(LinkBridge::new(name).up().build()).execute().await;
    unless(added, &[libc::EEXIST], &format!("make bridge {name}"))?;
    set_up(rt, name, None).await?;
    link_index(rt, name).await?.ok_or_else(|| Error::Gone(format!("bridge {name}")))
}

/// Makes a pair of links: `name` here, up, and `eth0` in the other namespace, still down (it cannot be up before the
/// pair is whole).
pub async fn add_veth(rt: &Rt, name: &str, netns: BorrowedFd<'_>) -> Result<(), Error> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new().name("eth0").setns_by_fd(netns.as_raw_fd()).build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(name)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    rt.link().add(pair).execute().await.map_err(Error::netlink(format!("make link {name}")))
}

/// Brings a link up and, if given, sets its alias.
pub async fn set_up(rt: &Rt, name: &str, alias: Option<&str>) -> Result<(), Error> {
    let mut message = LinkUnspec::new_with_name(name).up();
    if let Some(alias) = alias {
        message = message.alias(alias);
    }
    rt.link().set(message.build()).execute().await.map_err(Error::netlink(format!("bring link {name} up")))
}

/// Removes a link; none is fine.
pub async fn delete_link(rt: &Rt, name: &str) -> Result<(), Error> {
    let message = LinkUnspec::new_with_name(name).build();
    let deleted = rt.link().del_with_message(message).execute().await;
    unless(deleted, &[libc::ENODEV], &format!("remove link {name}"))
}

/// Gives a link an address without a connected network.
pub async fn add_address(rt: &Rt, link: u32, ip: Ipv4Addr) -> Result<(), Error> {
    let added = rt.address().add(link, ip.into(), 32).execute().await;
    unless(added, &[libc::EEXIST], &format!("add address {ip}"))
}

async fn add_route(rt: &Rt, route: RouteMessage, action: &str) -> Result<(), Error> {
    rt.route().add(route).replace().execute().await.map_err(Error::netlink(action))
}

fn to(range: Cidr) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.base(), range.prefix())
        .protocol(ROUTE_PROTOCOL)
}

/// Refuses the range at once instead of letting it leave by the default route.
pub async fn add_unreachable(rt: &Rt, range: Cidr) -> Result<(), Error> {
    let route = to(range).kind(RouteType::Unreachable).priority(UNREACHABLE_METRIC).build();
    add_route(rt, route, &format!("add unreachable route to {range}")).await
}

/// A route to one address on a link, from `source` where given.
pub async fn add_host_route(rt: &Rt, ip: Ipv4Addr, link: u32, source: Option<Ipv4Addr>) -> Result<(), Error> {
    let mut route = to(Cidr::new(ip, 32)).output_interface(link).scope(RouteScope::Link);
    if let Some(source) = source {
        route = route.pref_source(source);
    }
    add_route(rt, route.build(), &format!("add route to {ip}")).await
}

/// Removes the route [`add_host_route`] made; none is fine.
pub async fn delete_host_route(rt: &Rt, ip: Ipv4Addr, link: u32) -> Result<(), Error> {
    let route = to(Cidr::new(ip, 32)).output_interface(link).scope(RouteScope::Link).build();
    let deleted = rt.route().del(route).execute().await;
    unless(deleted, &[libc::ESRCH], &format!("remove route to {ip}"))
}

/// Everything else goes to the gateway.
pub async fn add_default_route(rt: &Rt, gateway: Ipv4Addr, link: u32) -> Result<(), Error> {
    let route = to(Cidr::new(Ipv4Addr::UNSPECIFIED, 0)).gateway(gateway).output_interface(link).build();
    add_route(rt, route, "add the default route").await
}

async fn routes(rt: &Rt) -> Result<Vec<RouteMessage>, Error> {
    let mut ask = RouteMessage::default();
    ask.header.address_family = AddressFamily::Inet;
    rt.route().get(ask).execute().try_collect().await.map_err(Error::netlink("list routes"))
}

/// The links by which the default routes of the host lead out.
pub async fn uplinks(rt: &Rt) -> Result<Vec<u32>, Error> {
    let all = routes(rt).await?;
    let default =
        all.iter().filter(|r| r.header.destination_prefix_length == 0 && r.header.kind == RouteType::Unicast);
    Ok(default.flat_map(|r| r.attributes.iter()).filter_map(output).collect())
}

const fn output(attribute: &RouteAttribute) -> Option<u32> {
    if let RouteAttribute::Oif(index) = attribute { Some(*index) } else { None }
}

const fn destination(attribute: &RouteAttribute) -> Option<Ipv4Addr> {
    if let RouteAttribute::Destination(RouteAddress::Inet(ip)) = attribute { Some(*ip) } else { None }
}

/// The addresses that have a route of ours on this link.
pub async fn host_routes_on(rt: &Rt, link: u32) -> Result<Vec<Ipv4Addr>, Error> {
    let all = routes(rt).await?;
    let ours = all.iter().filter(|r| {
        r.header.protocol == ROUTE_PROTOCOL && r.attributes.iter().any(|a| output(a) == Some(link))
    });
    Ok(ours.filter_map(|r| r.attributes.iter().find_map(destination)).collect())
}

/// Removes every route of ours.
pub async fn delete_routes(rt: &Rt) -> Result<(), Error> {
    for route in routes(rt).await?.into_iter().filter(|r| r.header.protocol == ROUTE_PROTOCOL) {
        unless(rt.route().del(route).execute().await, &[libc::ESRCH], "remove a route")?;
    }
    Ok(())
}
