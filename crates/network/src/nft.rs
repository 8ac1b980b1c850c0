//! nftables by its program: one transaction is one text on the standard input of `nft -f -`.

use crate::Error;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A transaction of ten thousand rules takes a second or two; longer means that it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where `nft` is: on the path, or where distributions put it when the path lacks the sbin directories.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|dir| dir.join("nft")).find(|file| file.is_file())
}

async fn run(arguments: &[&str], input: &str) -> Result<String, Error> {
    let program = program().ok_or_else(|| Error::Nft("not installed".into()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("start nft"))?;
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(mut pipe) = stdin.take() {
            // When nft stops reading, its own message says why.
            pipe.write_all(input.as_bytes()).await.ok();
        }
    };
    let both = async { futures::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(PATIENCE, both)
        .await
        .map_err(|_| Error::Nft("no answer in 20 s".into()))?
        .map_err(Error::io("run nft"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::Nft(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Applies a transaction: all of it or nothing.
pub async fn apply(transaction: &str) -> Result<(), Error> {
    run(&["-f", "-"], transaction).await.map(drop)
}

/// The names of the IPv4 tables.
pub async fn tables() -> Result<Vec<String>, Error> {
    let text = run(&["-j", "list", "tables", "ip"], "").await?;
    Ok(objects(&text, "table").filter_map(|t| t["name"].as_str().map(str::to_owned)).collect())
}

/// The names in the set of interface names; empty when there is no such set.
pub async fn interfaces(table: &str, set: &str) -> Vec<String> {
    let text = run(&["-j", "list", "set", "ip", table, set], "").await.unwrap_or_default();
    let elements = objects(&text, "set").filter_map(|s| s["elem"].as_array().cloned());
    elements.flatten().filter_map(|e| e.as_str().map(str::to_owned)).collect()
}

fn objects<'a>(text: &str, kind: &'a str) -> impl Iterator<Item = Value> + use<'a> {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let all = document["nftables"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter_map(move |entry| entry.get(kind).cloned())
}
