//! `ketch store`: who the members of the store are, and how each fares, in etcdctl's columns.

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use store::external::{EndpointStatus, MemberChange, MemberList, Pool};
use store::raft::MemberInfo;

use crate::cli::DataDir;
use crate::reach::ReachArgs;
use crate::table::{human, table};

/// Flags of `ketch store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    reach: ReachArgs,
    /// How to print lists
    #[arg(short, long, value_name = "FORM", default_value = "simple", global = true)]
    write_out: WriteOut,
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// List the members, add, promote and remove them
    Members {
        #[command(subcommand)]
        command: Option<MembersCommand>,
    },
    /// Say how each member fares
    Status,
}

#[derive(Debug, Subcommand)]
enum MembersCommand {
    /// List the members
    List,
    /// Add a member that is not started yet (`ketch server --join` adds itself)
    Add {
        /// Where other members will reach it
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
        peer_urls: Vec<String>,
        /// It receives the log and does not vote
        #[arg(long)]
        learner: bool,
    },
    /// Let a learner that has caught up vote
    Promote {
        #[arg(value_name = "ID", value_parser = id)]
        id: u64,
    },
    /// Remove a member
    Remove {
        #[arg(value_name = "ID", value_parser = id)]
        id: u64,
    },
    /// Say where other members reach a member from now on
    Update {
        #[arg(value_name = "ID", value_parser = id)]
        id: u64,
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
        peer_urls: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WriteOut {
    Simple,
    Table,
    Json,
}

fn id(text: &str) -> Result<u64> {
    u64::from_str_radix(text, 16).map_err(|_| anyhow::anyhow!("a member's id is hexadecimal"))
}

/// Runs one `ketch store` command.
///
/// # Errors
/// When no member runs, or it refuses.
pub fn run(args: &StoreArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let pool = args.reach.pool(&args.data_dir)?;
        match &args.command {
            StoreCommand::Members { command } => {
                let change = command.as_ref().and_then(change);
                match change {
                    None => println!("{}", shown(&pool.members().await?, args.write_out)),
                    Some(change) => println!("{}", changed(&pool, change).await?),
                }
                Ok(())
            }
            StoreCommand::Status => status(args, &pool).await,
        }
    })
}

fn change(command: &MembersCommand) -> Option<MemberChange> {
    match command {
        MembersCommand::List => None,
        MembersCommand::Add { peer_urls, learner } => {
            Some(MemberChange::Add { peer_urls: peer_urls.clone(), learner: *learner })
        }
        MembersCommand::Promote { id } => Some(MemberChange::Promote { id: *id }),
        MembersCommand::Remove { id } => Some(MemberChange::Remove { id: *id }),
        MembersCommand::Update { id, peer_urls } => {
            Some(MemberChange::Update { id: *id, peer_urls: peer_urls.clone() })
        }
    }
}

/// Carries a change out: etcdctl's line about it.
async fn changed(pool: &Pool, change: MemberChange) -> Result<String> {
    let done = match &change {
        MemberChange::Add { .. } => "added to",
        MemberChange::Remove { .. } => "removed from",
        MemberChange::Promote { .. } => "promoted in",
        MemberChange::Update { .. } => "updated in",
    };
    let (cluster, id) = pool.change_members(change).await?;
    Ok(format!("Member {id:16x} {done} cluster {cluster:16x}"))
}

fn shown(list: &MemberList, form: WriteOut) -> String {
    const HEADS: [&str; 6] = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
    let row = |member: &MemberInfo| {
        let status = if member.name.is_empty() { "unstarted" } else { "started" };
        let (peers, clients) = (member.peer_urls.join(","), member.client_urls.join(","));
        let learner = member.is_learner.to_string();
        vec![format!("{:x}", member.id), status.to_owned(), member.name.clone(), peers, clients, learner]
    };
    let rows: Vec<_> = list.members.iter().map(row).collect();
    match form {
        WriteOut::Simple => lines(&rows),
        WriteOut::Table => table(&HEADS, &rows),
        WriteOut::Json => {
            let member = |member: &MemberInfo| {
                json!({
                    "ID": member.id, "name": member.name, "peerURLs": member.peer_urls,
                    "clientURLs": member.client_urls, "isLearner": member.is_learner,
                })
            };
            let members: Vec<_> = list.members.iter().map(member).collect();
            json!({ "header": { "cluster_id": list.cluster_id }, "members": members }).to_string()
        }
    }
}

fn lines(rows: &[Vec<String>]) -> String {
    rows.iter().map(|row| row.join(", ")).collect::<Vec<_>>().join("\n")
}

/// Asks every member that says where its clients find it; one that does not answer is told and the command fails.
async fn status(args: &StoreArgs, pool: &Pool) -> Result<()> {
    const HEADS: [&str; 16] = [
        "ENDPOINT",
        "ID",
        "VERSION",
        "STORAGE VERSION",
        "DB SIZE",
        "IN USE",
        "PERCENTAGE NOT IN USE",
        "QUOTA",
        "IS LEADER",
        "IS LEARNER",
        "RAFT TERM",
        "RAFT INDEX",
        "RAFT APPLIED INDEX",
        "ERRORS",
        "DOWNGRADE TARGET VERSION",
        "DOWNGRADE ENABLED",
    ];
    let (mut rows, mut silent) = (Vec::new(), Vec::new());
    for member in pool.members().await?.members {
        let Some(endpoint) = member.client_urls.first() else { continue };
        match args.reach.pool_at(endpoint, &args.data_dir)?.endpoint_status().await {
            Ok(status) => rows.push((endpoint.clone(), status)),
            Err(error) => silent.push(format!("{endpoint}: {error}")),
        }
    }
    match args.write_out {
        WriteOut::Json => {
            let rows: Vec<_> = rows.iter().map(|(endpoint, status)| in_json(endpoint, status)).collect();
            println!("{}", json!(rows));
        }
        form => {
            let rows: Vec<_> = rows.iter().map(|(endpoint, status)| cells(endpoint, status)).collect();
            println!("{}", if form == WriteOut::Table { table(&HEADS, &rows) } else { lines(&rows) });
        }
    }
    if silent.is_empty() { Ok(()) } else { bail!("no answer from {}", silent.join("; ")) }
}

fn cells(endpoint: &str, status: &EndpointStatus) -> Vec<String> {
    let idle = status.db_bytes.saturating_sub(status.db_bytes_in_use) * 100;
    vec![
        endpoint.to_owned(),
        format!("{:x}", status.member_id),
        status.version.clone(),
        status.storage_version.clone(),
        human(status.db_bytes),
        human(status.db_bytes_in_use),
        format!("{}%", idle / status.db_bytes.max(1)),
        human(status.quota_bytes),
        status.is_leader.to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
        status.downgrade_target.clone(),
        status.downgrade.to_string(),
    ]
}

fn in_json(endpoint: &str, status: &EndpointStatus) -> serde_json::Value {
    json!({
        "Endpoint": endpoint,
        "Status": {
            "header": { "member_id": status.member_id, "raft_term": status.raft_term },
            "version": status.version, "storageVersion": status.storage_version,
            "dbSize": status.db_bytes, "dbSizeInUse": status.db_bytes_in_use, "dbSizeQuota": status.quota_bytes,
            "isLeader": status.is_leader, "isLearner": status.is_learner,
            "raftIndex": status.raft_index, "raftTerm": status.raft_term,
            "raftAppliedIndex": status.raft_applied_index, "errors": status.errors,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_listed_as_etcdctl_lists_them() {
        let member = MemberInfo {
            id: 0x8211_f1d0_f64f_3269,
            name: "a".into(),
            peer_urls: vec!["https://a:2380".into()],
            client_urls: vec!["https://a:2379".into()],
            is_learner: false,
        };
        let late = MemberInfo {
            id: 0xab,
            name: String::new(),
            client_urls: Vec::new(),
            is_learner: true,
            ..member.clone()
        };
        let list = MemberList { cluster_id: 1, members: vec![member, late] };
        let all = [WriteOut::Simple, WriteOut::Table].map(|form| shown(&list, form)).join("\n");
        expect_test::expect![[r#"
            8211f1d0f64f3269, started, a, https://a:2380, https://a:2379, false
            ab, unstarted, , https://a:2380, , true
            +------------------+-----------+------+----------------+----------------+------------+
            |        ID        |  STATUS   | NAME |   PEER ADDRS   |  CLIENT ADDRS  | IS LEARNER |
            +------------------+-----------+------+----------------+----------------+------------+
            | 8211f1d0f64f3269 |   started |    a | https://a:2380 | https://a:2379 |      false |
            |               ab | unstarted |      | https://a:2380 |                |       true |
            +------------------+-----------+------+----------------+----------------+------------+"#]]
        .assert_eq(&all);
    }
}
