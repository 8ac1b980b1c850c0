//! The crate `etcd-client` against an etcd port: `etcd-client-referee http://HOST:PORT`. Prints a line for each part, or fails.

use anyhow::{Context as _, Result, bail, ensure};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions, KvClientPrefix,
    LeaseTimeToLiveOptions, LockOptions, Permission, ProclaimOptions, PutOptions, ResignOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};

/// The refusal of a call as "code: text".
fn refusal<T>(done: Result<T, Error>) -> String {
    match done {
        Ok(_) => "not refused".to_owned(),
        Err(Error::GRpcStatus(status)) => format!("{:?}: {}", status.code(), status.message()),
        Err(other) => other.to_string(),
    }
}

fn expect(found: impl AsRef<str>, wanted: &str) -> Result<()> {
    ensure!(found.as_ref() == wanted, "{:?} instead of {wanted:?}", found.as_ref());
    Ok(())
}

async fn keys(client: &mut Client) -> Result<()> {
    client.put("k/a", "1", None).await?;
    let done = client.put("k/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    expect(done.prev_key().context("what was there")?.value_str()?, "1")?;
    let first = done.header().context("a header")?.revision() - 1;
    client.put("k/b", vec![0, 255], None).await?;
    let got = client.get("k/a", Some(GetOptions::new().with_revision(first))).await?;
    expect(got.kvs()[0].value_str()?, "1")?;
    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Descend).with_limit(1);
    let got = client.get("k/", Some(options)).await?;
    ensure!(got.kvs()[0].value() == [0, 255] && got.more() && got.count() == 2, "{got:?}");
    let got = client.get("k/", Some(GetOptions::new().with_prefix().with_count_only())).await?;
    ensure!(got.count() == 2 && got.kvs().is_empty(), "{got:?}");
    let got = client.get("", Some(GetOptions::new().with_all_keys().with_keys_only())).await?;
    ensure!(got.kvs().iter().all(|kv| kv.value().is_empty()) && got.count() == 2, "{got:?}");
    let mut below = KvClientPrefix::new(client.kv_client(), "k/".into());
    expect(below.get("a", None).await?.kvs()[0].key_str()?, "a")?;
    let gone = client.delete("k/", Some(DeleteOptions::new().with_prefix().with_prev_key())).await?;
    ensure!(gone.deleted() == 2 && gone.prev_kvs().len() == 2, "{gone:?}");
    client.compact(first, None).await?;
    let told = refusal(client.get("k/a", Some(GetOptions::new().with_revision(1))).await);
    expect(told, "OutOfRange: etcdserver: mvcc: required revision has been compacted")?;
    expect(refusal(client.put("", "x", None).await), "InvalidArgument: etcdserver: key is not provided")
}

async fn transactions(client: &mut Client) -> Result<()> {
    let absent = || Compare::version("t", CompareOp::Equal, 0);
    let txn = || {
        Txn::new()
            .when([absent()])
            .and_then([TxnOp::put("t", "1", None), TxnOp::txn(Txn::new().and_then([TxnOp::put("u", "1", None)]))])
            .or_else([TxnOp::get("t", None), TxnOp::delete("u", None)])
    };
    let done = client.txn(txn()).await?;
    ensure!(done.succeeded() && done.op_responses().len() == 2, "{done:?}");
    let done = client.txn(txn()).await?;
    let all = done.op_responses();
    let [TxnOpResponse::Get(got), TxnOpResponse::Delete(gone)] = &all[..] else { bail!("{all:?}") };
    ensure!(!done.succeeded() && got.kvs().len() == 1 && gone.deleted() == 1, "{all:?}");
    let twice = Txn::new().and_then([TxnOp::put("t", "1", None), TxnOp::put("t", "2", None)]);
    let told = refusal(client.txn(twice).await);
    expect(told, "InvalidArgument: etcdserver: duplicate key given in txn request")
}

async fn watches(client: &mut Client) -> Result<()> {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut watch = client.watch("w/", Some(options)).await?;
    let created = watch.message().await?.context("a watch")?;
    ensure!(created.created(), "{created:?}");
    client.put("w/a", "1", None).await?;
    client.put("other", "1", None).await?;
    client.delete("w/a", None).await?;
    let (mut seen, mut revision) = (Vec::new(), 0);
    while seen.len() < 2 {
        let message = watch.message().await?.context("events")?;
        for event in message.events() {
            let kv = event.kv().context("a key")?;
            ensure!(kv.mod_revision() > revision, "in order");
            revision = kv.mod_revision();
            seen.push((event.event_type() == EventType::Put, event.prev_kv().map(|kv| kv.value().to_vec())));
        }
    }
    ensure!(seen == [(true, None), (false, Some(b"1".to_vec()))], "{seen:?}");
    watch.request_progress().await?;
    let progress = watch.message().await?.context("progress")?;
    ensure!(progress.events().is_empty() && progress.header().is_some_and(|h| h.revision() >= revision));
    watch.watch("w/b", Some(WatchOptions::new().with_start_revision(1))).await?;
    loop {
        // Created first, then told that its beginning is compacted.
        let message = watch.message().await?.context("an end")?;
        if message.canceled() {
            ensure!(message.compact_revision() > 1, "{message:?}");
            break;
        }
    }
    watch.cancel(created.watch_id()).await?;
    let end = watch.message().await?.context("a cancel")?;
    ensure!(end.canceled() && end.watch_id() == created.watch_id(), "{end:?}");
    Ok(())
}

async fn leases(client: &mut Client) -> Result<()> {
    let id = client.lease_grant(600, None).await?.id();
    client.put("l/a", "1", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut alive) = client.lease_keep_alive(id).await?;
    keeper.keep_alive().await?;
    ensure!(alive.message().await?.context("an answer")?.ttl() == 600);
    let left = client.lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    ensure!(left.granted_ttl() == 600 && left.ttl() > 590 && left.keys() == [b"l/a".to_vec()], "{left:?}");
    ensure!(client.leases().await?.leases().iter().any(|lease| lease.id() == id));
    client.lease_revoke(id).await?;
    ensure!(client.get("l/a", None).await?.kvs().is_empty());
    expect(refusal(client.lease_revoke(id).await), "NotFound: etcdserver: requested lease not found")
}

async fn locks_and_elections(client: &mut Client) -> Result<()> {
    let lease = client.lease_grant(60, None).await?.id();
    let held = client.lock("m", Some(LockOptions::new().with_lease(lease))).await?;
    ensure!(held.key().starts_with(b"m/"), "{held:?}");
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("m", None).await });
    client.unlock(held.key()).await?;
    client.unlock(waiting.await??.key()).await?;
    let elected = client.campaign("e", "a", lease).await?;
    let leader = elected.leader().context("a leader")?.clone();
    let mut told = client.observe("e").await?;
    expect(told.message().await?.context("a leader")?.kv().context("a key")?.value_str()?, "a")?;
    client.proclaim("b", Some(ProclaimOptions::new().with_leader(leader.clone()))).await?;
    expect(told.message().await?.context("a change")?.kv().context("a key")?.value_str()?, "b")?;
    expect(client.leader("e").await?.kv().context("a key")?.value_str()?, "b")?;
    client.resign(Some(ResignOptions::new().with_leader(leader))).await?;
    expect(refusal(client.leader("e").await), "Unknown: election: no leader")
}

async fn the_server(client: &mut Client) -> Result<()> {
    let status = client.status().await?;
    ensure!(status.version().starts_with("3.6.") && status.leader() != 0, "{status:?}");
    let members = client.member_list().await?;
    ensure!(members.members().len() == 1 && members.members()[0].id() == status.leader(), "{members:?}");
    client.hash_kv(0).await?;
    client.defragment().await?;
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(piece) = snapshot.message().await? {
        bytes += piece.blob().len();
    }
    ensure!(bytes % 512 == 32, "a file and its hash: {bytes} bytes");
    Ok(())
}

/// Last: whoever comes after would need a password.
async fn users(client: &mut Client, endpoint: &str) -> Result<()> {
    client.user_add("root", "secret", None).await?;
    client.user_grant_role("root", "root").await?;
    client.role_add("r").await?;
    client.role_grant_permission("r", Permission::read_write("a/").with_prefix()).await?;
    client.user_add("ann", "pass", None).await?;
    client.user_grant_role("ann", "r").await?;
    client.auth_enable().await?;
    expect(refusal(client.get("a/x", None).await), "InvalidArgument: etcdserver: user name is empty")?;
    let options = ConnectOptions::new().with_user("ann", "pass");
    let mut ann = Client::connect([endpoint], Some(options)).await?;
    ann.put("a/x", "1", None).await?;
    expect(refusal(ann.put("b", "1", None).await), "PermissionDenied: etcdserver: permission denied")?;
    let options = ConnectOptions::new().with_user("root", "secret");
    let mut root = Client::connect([endpoint], Some(options)).await?;
    ensure!(root.user_list().await?.users() == ["ann", "root"]);
    root.auth_disable().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let endpoint = std::env::args().nth(1).context("name an endpoint")?;
    let mut client = Client::connect([&endpoint], None).await?;
    let say = |part: &str| println!("ok {part}");
    keys(&mut client).await.context("keys")?;
    say("keys");
    transactions(&mut client).await.context("transactions")?;
    say("transactions");
    watches(&mut client).await.context("watches")?;
    say("watches");
    leases(&mut client).await.context("leases")?;
    say("leases");
    locks_and_elections(&mut client).await.context("locks and elections")?;
    say("locks and elections");
    the_server(&mut client).await.context("the server")?;
    say("the server");
    users(&mut client, &endpoint).await.context("users")?;
    say("users");
    Ok(())
}
