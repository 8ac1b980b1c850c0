//! `ketch token`: what lets a server join. Kept in the store, so that every member knows it, and under a lease, so that
//! it goes by itself.
//!
//! ```text
//! printed   id.secret.fingerprint         6 and 32 of [a-z0-9], SHA-256 of the peer authority's certificate
//! stored    /ketch/tokens/<id> = {"sha256": of the secret, "until": seconds since 1970}
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use base::task::Tasks;
use clap::{Args, Subcommand};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use store_api::{Compare, LeaseId, Op, RangeRequest, Store, Txn};

use crate::cli::DataDir;
use crate::reach::ReachArgs;

const PREFIX: &str = "/ketch/tokens/";
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_CHARS: usize = 6;
const SECRET_CHARS: usize = 32;
/// Hexadecimal digits of a SHA-256.
const FINGERPRINT_CHARS: usize = 64;
/// How long a token is good for unless told otherwise: kubeadm's figure.
const LIFE: &str = "24h";
/// A token is a key to all of the cluster's secrets: none outlives a month.
const LIFE_S_MAX: u64 = 31 * 24 * 3600;

/// Flags of `ketch token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    reach: ReachArgs,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print a token for `ketch server --join`, which any member takes
    Create {
        /// How long it is good for, such as 30m or 24h
        #[arg(long, value_name = "TIME", default_value = LIFE, value_parser = crate::config::duration)]
        ttl: Duration,
    },
    /// List the tokens that are good
    List,
    /// Make a token worthless
    Delete {
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// `id.secret.fingerprint`
#[derive(Debug, Clone)]
pub struct Token {
    pub id: String,
    pub secret: String,
    pub ca_sha256: String,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, self.ca_sha256)
    }
}

impl Token {
    /// Reads what was printed.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.trim().split('.').map(str::to_owned);
        let (id, secret, ca_sha256) = (parts.next(), parts.next(), parts.next());
        match (id, secret, ca_sha256, parts.next()) {
            (Some(id), Some(secret), Some(ca_sha256), None)
                if is_word(&id, ID_CHARS)
                    && is_word(&secret, SECRET_CHARS)
                    && is_word(&ca_sha256, FINGERPRINT_CHARS) =>
            {
                Ok(Self { id, secret, ca_sha256 })
            }
            _ => bail!("not a token: make one with `ketch token create` where a member runs"),
        }
    }
}

fn is_word(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// What is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    sha256: String,
    until: u64,
}

fn sha256(secret: &str) -> String {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Characters nobody can guess.
fn secret(len: usize) -> Result<String> {
    // Above the last whole multiple some characters would be likelier.
    let whole = 256 / ALPHABET.len() * ALPHABET.len();
    let (random, mut text, mut bytes) = (SystemRandom::new(), String::new(), [0; 64]);
    while text.len() < len {
        random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < whole);
        text.extend(fair.take(len - text.len()).map(|byte| ALPHABET[byte % ALPHABET.len()] as char));
    }
    Ok(text)
}

/// Makes a token that is good for `ttl`.
async fn create(store: &dyn Store, ca_sha256: String, ttl: Duration) -> Result<Token> {
    let ttl_s = ttl.as_secs();
    if !(1..=LIFE_S_MAX).contains(&ttl_s) {
        bail!("--ttl: a token lives between a second and {} days", LIFE_S_MAX / 86_400);
    }
    let token = Token { id: secret(ID_CHARS)?, secret: secret(SECRET_CHARS)?, ca_sha256 };
    let kept = Kept { sha256: sha256(&token.secret), until: now_s() + ttl_s };
    let lease = store.lease_grant(LeaseId(0), ttl_s.cast_signed()).await?.id;
    let key = format!("{PREFIX}{}", token.id);
    let put =
        Op::Put { key: key.clone().into(), value: serde_json::to_vec(&kept)?.into(), lease, prev_kv: false };
    let txn = Txn { compare: vec![Compare::absent(key)], success: vec![put], ..Txn::default() };
    if !store.txn(txn).await?.succeeded {
        bail!("a token of this name is there by chance; try again");
    }
    Ok(token)
}

/// Whether a token with this id and secret is good now, as the whole cluster knows it.
///
/// # Errors
/// When the store does not answer.
pub async fn is_good(store: &dyn Store, id: &str, secret: &str) -> Result<bool> {
    if !is_word(id, ID_CHARS) {
        return Ok(false);
    }
    let found = store.range(RangeRequest::key(format!("{PREFIX}{id}"))).await?.kvs;
    let kept = found.first().and_then(|kv| serde_json::from_slice::<Kept>(&kv.value).ok());
    let Some(kept) = kept else { return Ok(false) };
    let same = identity::constant_time_eq(kept.sha256.as_bytes(), sha256(secret).as_bytes());
    // The lease ends it too; this holds while the store is late.
    Ok(same && now_s() < kept.until)
}

/// Runs one `ketch token` command.
///
/// # Errors
/// When no member runs, or it refuses.
pub fn run(args: &TokenArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tasks = Tasks::new();
        let store = args.reach.store(&args.data_dir, &tasks).await?;
        match &args.command {
            TokenCommand::Create { ttl } => {
                let ca = args.data_dir.resolve()?.join("pki").join("etcd").join("ca.crt");
                let pem = std::fs::read_to_string(&ca)
                    .with_context(|| format!("{}: has a server run there?", ca.display()))?;
                println!("{}", create(&store, pki::tls::fingerprint(&pem)?, *ttl).await?);
            }
            TokenCommand::List => list(&store).await?,
            TokenCommand::Delete { id } => {
                let txn = Txn { success: vec![Op::delete(format!("{PREFIX}{id}"))], ..Txn::default() };
                let there = store.range(RangeRequest::key(format!("{PREFIX}{id}"))).await?.count > 0;
                if !is_word(id, ID_CHARS) || !there {
                    bail!("there is no token '{id}'");
                }
                store.txn(txn).await?;
                println!("token {id} deleted");
            }
        }
        Ok(())
    })
}

async fn list(store: &dyn Store) -> Result<()> {
    println!("{:<8} SECONDS LEFT", "ID");
    for kv in store.range(RangeRequest::prefix(PREFIX)).await?.kvs {
        let id = String::from_utf8_lossy(&kv.key[PREFIX.len().min(kv.key.len())..]).into_owned();
        if let Ok(kept) = serde_json::from_slice::<Kept>(&kv.value)
            && now_s() < kept.until
        {
            println!("{id:<8} {}", kept.until - now_s());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_good_for_its_secret_and_its_time() {
        let store = testkit::MemStore::shared();
        let token = create(&*store, "a".repeat(FINGERPRINT_CHARS), Duration::from_secs(60)).await.unwrap();
        assert!(is_good(&*store, &token.id, &token.secret).await.unwrap());
        assert!(!is_good(&*store, &token.id, "wrong").await.unwrap());
        for id in ["../../x", "", "aaaaaa"] {
            assert!(!is_good(&*store, id, &token.secret).await.unwrap(), "{id}");
        }
        let stored = store.range(RangeRequest::prefix(PREFIX)).await.unwrap().kvs.remove(0);
        assert!(!String::from_utf8_lossy(&stored.value).contains(&token.secret), "only its hash is kept");
        let late = Kept { sha256: sha256(&token.secret), until: now_s() };
        let put = Op::put(format!("{PREFIX}{}", token.id), serde_json::to_vec(&late).unwrap());
        store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
        assert!(!is_good(&*store, &token.id, &token.secret).await.unwrap());
        for ttl in [0, LIFE_S_MAX + 1] {
            assert!(create(&*store, String::new(), Duration::from_secs(ttl)).await.is_err(), "{ttl}");
        }
    }

    #[test]
    fn a_token_is_read_as_it_is_printed() {
        let (id, secret) = (secret(ID_CHARS).unwrap(), secret(SECRET_CHARS).unwrap());
        let text = Token { id: id.clone(), secret, ca_sha256: "a".repeat(64) }.to_string();
        assert_eq!(Token::parse(&text).unwrap().id, id);
        assert!(Token::parse("a.b.c").is_err() && Token::parse(&format!("{text}.x")).is_err());
    }
}
