//! Reaching the etcd port of what runs in a data directory, or of any Ketch or etcd.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use base::task::Tasks;
use clap::Args;
use store::external::{External, Options, Pool, RootsAndKey};

use crate::cli::DataDir;
use crate::files::Endpoints;

/// Where, whom to trust and what to show.
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// URL of the etcd port [default: that of the Ketch in the data directory]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Authority that signed the server's certificate [default: pki/etcd/ca.crt in the data directory]
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Certificate to show [default: pki/etcd/client.crt in the data directory]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key [default: pki/etcd/client.key in the data directory]
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl ReachArgs {
    /// A channel, not connected yet.
    ///
    /// # Errors
    /// When nothing runs in the data directory and no endpoint is named, or a certificate cannot be used.
    pub fn pool(&self, data_dir: &DataDir) -> Result<Pool> {
        let endpoint = self.endpoint(data_dir)?;
        let tls = self.tls_for(&endpoint, data_dir)?;
        Ok(Pool::new(&[endpoint], tls)?)
    }

    /// The same for another address of the same cluster.
    ///
    /// # Errors
    /// As [`ReachArgs::pool`].
    pub fn pool_at(&self, endpoint: &str, data_dir: &DataDir) -> Result<Pool> {
        Ok(Pool::new(&[endpoint.to_owned()], self.tls_for(endpoint, data_dir)?)?)
    }

    /// The store behind the port, which has answered.
    ///
    /// # Errors
    /// As [`ReachArgs::pool`], and when it does not answer.
    pub async fn store(&self, data_dir: &DataDir, tasks: &Tasks) -> Result<External> {
        let endpoint = self.endpoint(data_dir)?;
        let tls = self.tls_for(&endpoint, data_dir)?;
        Ok(External::connect(&Options { endpoints: vec![endpoint], tls }, tasks).await?)
    }

    fn endpoint(&self, data_dir: &DataDir) -> Result<String> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        let dir = data_dir.resolve()?;
        let etcd = Endpoints::read(&dir).and_then(|endpoints| endpoints.etcd);
        etcd.with_context(|| {
            format!("nothing with an etcd port runs in {}; name one by --endpoint", dir.display())
        })
    }

    fn tls_for(&self, endpoint: &str, data_dir: &DataDir) -> Result<Option<Arc<rustls::ClientConfig>>> {
        if !endpoint.starts_with("https://") {
            return Ok(None);
        }
        let own = |name: &str| -> Result<PathBuf> { Ok(data_dir.resolve()?.join("pki/etcd").join(name)) };
        let ca = self.cacert.clone().map_or_else(|| own("ca.crt"), Ok)?;
        let client = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            // A stranger's authority means a stranger's server: our certificate says nothing there.
            _ if self.cacert.is_some() => None,
            _ => Some((own("client.crt")?, own("client.key")?)),
        };
        let client = client.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        Ok(Some(RootsAndKey { ca: &ca, client }.config()?))
    }
}
