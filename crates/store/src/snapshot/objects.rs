//! A bucket of an S3-compatible object store, as a place for snapshots.
//!
//! Requests are `object_store`'s; they go over hyper and rustls, whose provider is the one the rest of the process has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore as _, ObjectStoreExt as _, WriteMultipart};
use rustls::RootCertStore;
use tokio::io::AsyncWriteExt as _;

use super::schedule::Pieces;
use super::{Snapshot, SnapshotError};

/// Bytes of a part: S3 takes at most 10,000 parts, and at least 5 MiB in each but the last.
const PART_BYTES: usize = 16 * 1024 * 1024;
/// Parts on their way at once, each of which is held in memory.
const PARTS: usize = 2;
/// How long one request may take, a part on a slow line included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A bucket and a prefix in it.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<AmazonS3>,
    prefix: String,
}

impl Objects {
    /// `s3://bucket/prefix`. Where the store is and with which keys stands in `settings`, the environment as a rule, under
    /// the names other programs use: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_ALLOW_HTTP`...
    ///
    /// # Errors
    /// When the URL is none, or the settings hold nothing usable.
    pub fn parse(
        url: &str,
        settings: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SnapshotError> {
        let wrong = || SnapshotError::Refused(format!("'{url}' is no place such as s3://bucket/prefix"));
        let place = url.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(wrong());
        }
        let mut builder = AmazonS3Builder::new();
        for (name, value) in settings.into_iter().filter(|(name, _)| name.starts_with("AWS_")) {
            // There are others of that name, for other programs.
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder.with_bucket_name(bucket).with_http_connector(Hyper).build().map_err(refused)?;
        Ok(Self { store: Arc::new(store), prefix: prefix.trim_matches('/').to_owned() })
    }

    /// Fetches an object into a file.
    ///
    /// # Errors
    /// When it is not there, or the disk refuses.
    pub async fn fetch(&self, name: &str, into: &std::path::Path) -> Result<(), SnapshotError> {
        let mut pieces = self.store.get(&self.path(name)).await.map_err(refused)?.into_stream();
        let mut file = tokio::fs::File::create(into).await?;
        while let Some(piece) = pieces.try_next().await.map_err(refused)? {
            file.write_all(&piece).await?;
        }
        file.sync_all().await.map_err(SnapshotError::from)
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    /// The names that are there, without the prefix.
    ///
    /// # Errors
    /// When the object store refuses or does not answer.
    pub async fn list(&self) -> Result<Vec<String>, SnapshotError> {
        let prefix = Path::from(self.prefix.as_str());
        let listed = self.store.list(Some(&prefix));
        let names = listed.try_filter_map(|object| {
            // What lies deeper is somebody else's.
            let direct = object.location.prefix_matches(&prefix)
                && object.location.parts().count() == prefix.parts().count() + 1;
            let name = object.location.filename().map(str::to_owned).filter(|_| direct);
            std::future::ready(Ok(name))
        });
        names.try_collect().await.map_err(refused)
    }

    pub(super) async fn put(&self, name: &str, snapshot: Snapshot) -> Result<(), SnapshotError> {
        let upload = self.store.put_multipart(&self.path(name)).await.map_err(refused)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut pieces = Pieces::of(snapshot);
        let fed = async {
            loop {
                let read =
                    tokio::task::spawn_blocking(move || pieces.next().map(|piece| (piece, pieces))).await;
                let (piece, rest) = read.unwrap_or_else(|join| Err(std::io::Error::other(join)))?;
                let Some(piece) = piece else { return Ok::<_, SnapshotError>(()) };
                pieces = rest;
                upload.wait_for_capacity(PARTS).await.map_err(refused)?;
                upload.put(Bytes::from(piece));
            }
        };
        match fed.await {
            Ok(()) => upload.finish().await.map(drop).map_err(refused),
            Err(error) => {
                // Parts that stay behind are the bucket's to expire.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        self.store.delete(&self.path(name)).await.map_err(refused)
    }
}

fn refused(error: object_store::Error) -> SnapshotError {
    SnapshotError::Refused(error.to_string())
}

/// Connects by hyper.
#[derive(Debug)]
struct Hyper;

impl HttpConnector for Hyper {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed =
            |source: rustls::Error| object_store::Error::Generic { store: "S3", source: source.into() };
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        // Certificates that cannot be read vouch for nobody; the rest do.
        roots.add_parsable_certificates(found.certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider);
        let tls = tls.with_safe_default_protocol_versions().map_err(failed)?;
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let in_the_clear = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let builder = if in_the_clear { builder.https_or_http() } else { builder.https_only() };
        let client = Client::builder(TokioExecutor::new()).build(builder.enable_http1().build());
        Ok(HttpClient::new(Requests(client)))
    }
}

#[derive(Debug)]
struct Requests(Client<HttpsConnector<Tcp>, HttpRequestBody>);

#[async_trait::async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(PATIENCE, self.0.request(request)).await;
        let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?;
        let answer = answer.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
            HttpError::new(kind, error)
        })?;
        Ok(answer.map(|body| {
            HttpResponseBody::new(body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)))
        }))
    }
}
