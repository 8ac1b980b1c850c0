//! The cluster's certificates: made on first start, laid out as kubeadm lays them out, reissued when they age.
//!
//! ```text
//! <dir>/ca.{crt,key}                 signs the API server's, every client's and every kubelet's certificate
//!       apiserver.{crt,key}          serving; reissued when a name is missing
//!       <client>.{crt,key}           admin, apiserver-kubelet-client, controller-manager, scheduler, node-<name>
//!       sa.{key,pub}                 signs service-account tokens
//!       front-proxy-ca.{crt,key}     for aggregated API servers
//!       etcd/{ca,server,client}.*    the store's own door
//! ```
//!
//! All keys are ECDSA P-256 in PKCS#8; files with keys have mode 0600, directories 0700.

mod authority;
mod files;
mod kubeconfig;
mod leaf;
pub mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;

use authority::Authority;
pub use kubeconfig::{kubeconfig, write_kubeconfig};
pub use leaf::{Leaf, Names, Usage};

/// Why certificates could not be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}; remove it with its key to have a new one made")]
    Unusable { path: PathBuf, reason: String },
    #[error("a certificate cannot be made: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("TLS cannot be configured: {0}")]
    Tls(#[from] rustls::Error),
}

/// A cluster's keys and certificates, backed by a directory.
pub struct Pki {
    dir: PathBuf,
    now_s: i64,
    ca: Authority,
    etcd_ca: Authority,
    front_proxy_ca: Authority,
    service_account: KeyPair,
}

/// The common name of members of the store among each other.
pub const PEER: &str = "etcd-peer";

/// What servers of one cluster share, names within the directory.
const SHARED: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "sa.key",
    "sa.pub",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "etcd/ca.crt",
    "etcd/ca.key",
];

/// Reads the authorities and keys that a new server of the cluster in `dir` must have. Secrets.
///
/// # Errors
/// When a file is not there.
pub fn shared(dir: &Path) -> Result<Vec<(String, String)>, Error> {
    let read = |name: &&str| {
        let path = dir.join(name);
        let text = files::read(&path)?;
        let text = text.ok_or_else(|| Error::Unusable { path, reason: "it is not there".to_owned() })?;
        Ok(((*name).to_owned(), text))
    };
    SHARED.iter().map(read).collect()
}

/// Writes what [`shared`] read elsewhere into an empty directory; names it does not know are left out.
///
/// # Errors
/// When a file cannot be written.
pub fn adopt(dir: &Path, shared: &[(String, String)]) -> Result<(), Error> {
    files::create_private_dir(&dir.join("etcd"))?;
    for (name, text) in shared.iter().filter(|(name, _)| SHARED.contains(&name.as_str())) {
        let mode = if name.ends_with(".key") { files::Mode::Private } else { files::Mode::Public };
        files::write_durable(&dir.join(name), text, mode)?;
    }
    Ok(())
}

impl Pki {
    /// Loads the authorities and the service-account key from `dir`, making what is absent. `now_s` is seconds since 1970.
    ///
    /// # Errors
    /// When a file cannot be read or written, or holds something else.
    pub fn open(dir: &Path, now_s: i64) -> Result<Self, Error> {
        files::create_private_dir(&dir.join("etcd"))?;
        Ok(Self {
            dir: dir.to_owned(),
            now_s,
            ca: Authority::open(dir, "ca", "kubernetes", now_s)?,
            etcd_ca: Authority::open(&dir.join("etcd"), "ca", "etcd-ca", now_s)?,
            front_proxy_ca: Authority::open(dir, "front-proxy-ca", "front-proxy-ca", now_s)?,
            service_account: open_service_account_key(dir)?,
        })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The cluster authority's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.ca.pem()
    }

    /// The authority of the store's door, PEM.
    #[must_use]
    pub fn etcd_ca_pem(&self) -> &str {
        self.etcd_ca.pem()
    }

    /// The authority for aggregated API servers, PEM.
    #[must_use]
    pub fn front_proxy_ca_pem(&self) -> &str {
        self.front_proxy_ca.pem()
    }

    /// The key that signs service-account tokens, PKCS#8 DER.
    #[must_use]
    pub fn service_account_key_der(&self) -> &[u8] {
        self.service_account.serialized_der()
    }

    /// The API server's serving certificate for these names; reissued when one is missing.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn api_server(&self, names: &Names) -> Result<Leaf, Error> {
        self.ca.leaf(&self.dir, "apiserver", "kube-apiserver", &[], names, Usage::Server, self.now_s)
    }

    /// A client certificate kept under `<dir>/<file>.{crt,key}`: `common_name` is the user, organizations are groups.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn client(&self, file: &str, common_name: &str, organizations: &[&str]) -> Result<Leaf, Error> {
        let names = Names::default();
        self.ca.leaf(&self.dir, file, common_name, organizations, &names, Usage::Client, self.now_s)
    }

    /// The administrator of the kubeconfig: `ketch-admin` in `system:masters`.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn admin(&self) -> Result<Leaf, Error> {
        self.client("admin", "ketch-admin", &["system:masters"])
    }

    /// What the API server shows to kubelets.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn kubelet_client(&self) -> Result<Leaf, Error> {
        self.client("apiserver-kubelet-client", "kube-apiserver-kubelet-client", &["system:masters"])
    }

    /// What the controller manager shows to the API server.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn controller_manager(&self) -> Result<Leaf, Error> {
        self.client("controller-manager", "system:kube-controller-manager", &[])
    }

    /// What the scheduler shows to the API server.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn scheduler(&self) -> Result<Leaf, Error> {
        self.client("scheduler", "system:kube-scheduler", &[])
    }

    /// What the agent of `node` shows to the API server.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn node(&self, node: &str) -> Result<Leaf, Error> {
        self.client("kubelet-client", &format!("system:node:{node}"), &["system:nodes"])
    }

    /// What the agent of `node` serves with on its own port.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn kubelet_server(&self, node: &str, addresses: &[IpAddr]) -> Result<Leaf, Error> {
        let mut names = Names { dns: vec![node.into(), "localhost".into()], addresses: addresses.to_vec() };
        names.add_loopback();
        let user = format!("system:node:{node}");
        self.ca.leaf(&self.dir, "kubelet", &user, &["system:nodes"], &names, Usage::Server, self.now_s)
    }

    /// What the store's door serves with.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn etcd_server(&self, names: &Names) -> Result<Leaf, Error> {
        let dir = self.dir.join("etcd");
        self.etcd_ca.leaf(&dir, "server", "etcd-server", &[], names, Usage::Both, self.now_s)
    }

    /// What people use with etcdctl.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn etcd_client(&self) -> Result<Leaf, Error> {
        let dir = self.dir.join("etcd");
        self.etcd_ca.leaf(&dir, "client", "etcd-client", &[], &Names::default(), Usage::Client, self.now_s)
    }

    /// What a member of the store shows other members, called or calling.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn etcd_peer(&self, names: &Names) -> Result<Leaf, Error> {
        let dir = self.dir.join("etcd");
        self.etcd_ca.leaf(&dir, "peer", PEER, &[], names, Usage::Both, self.now_s)
    }

    /// TLS of the store's peer port: who shows no certificate is let in, for the joining of new members, and must be
    /// told apart there.
    ///
    /// # Errors
    /// When the leaf is unusable.
    pub fn etcd_peer_config(&self, leaf: &Leaf) -> Result<rustls::ServerConfig, Error> {
        tls::server(leaf, Some(self.etcd_ca_pem()))
    }

    /// TLS for the store's door: a client must show a certificate of its authority.
    ///
    /// # Errors
    /// When the leaf is unusable.
    pub fn etcd_server_config(&self, leaf: &Leaf) -> Result<rustls::ServerConfig, Error> {
        tls::mutual_server(leaf, self.etcd_ca_pem())
    }

    /// TLS for a client of the store's door.
    ///
    /// # Errors
    /// When the leaf is unusable.
    pub fn etcd_client_config(&self, leaf: &Leaf) -> Result<rustls::ClientConfig, Error> {
        tls::client(self.etcd_ca_pem(), Some(leaf))
    }

    /// TLS for a server of the cluster: a client may show a certificate of the cluster authority.
    ///
    /// # Errors
    /// When the leaf is unusable.
    pub fn server_config(&self, leaf: &Leaf) -> Result<rustls::ServerConfig, Error> {
        tls::server(leaf, Some(self.ca_pem()))
    }

    /// TLS for a client of the cluster's servers.
    ///
    /// # Errors
    /// When the leaf is unusable.
    pub fn client_config(&self, leaf: Option<&Leaf>) -> Result<rustls::ClientConfig, Error> {
        tls::client(self.ca_pem(), leaf)
    }
}

fn open_service_account_key(dir: &Path) -> Result<KeyPair, Error> {
    let path = dir.join("sa.key");
    if let Some(pem) = files::read(&path)? {
        return KeyPair::from_pem(&pem).map_err(|e| Error::Unusable { path, reason: e.to_string() });
    }
    let key = KeyPair::generate()?;
    files::write_durable(&dir.join("sa.pub"), &key.public_key_pem(), files::Mode::Public)?;
    files::write_durable(&path, &key.serialize_pem(), files::Mode::Private)?;
    Ok(key)
}

#[cfg(test)]
mod tests;
