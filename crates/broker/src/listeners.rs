//! Listeners by name, each with its own security and address for clients.
//!
//! ```text
//! listeners                       INTERNAL://10.0.0.1:9092,PUBLIC://0.0.0.0:9093     else the options' addresses, PLAINTEXT
//! listener.security.protocol.map  INTERNAL:PLAINTEXT,PUBLIC:SSL                      PLAINTEXT and SSL stand for themselves
//! advertised.listeners            PUBLIC://kafka.example:443                         else the address that was dialled
//! ssl.keystore...                 keys and certificates (see `keystore`); listener.name.public.ssl.keystore... for one listener
//! ```

use std::sync::Arc;

use base::disk::Disk;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::Server;
use crate::keystore::Stores;
use crate::{Error, Options};

/// How a listener speaks.
#[derive(Clone)]
pub(crate) enum Security {
    Plaintext,
    Ssl(Arc<ServerConfig>),
}

/// A listener.
#[derive(Clone)]
pub(crate) struct Listener {
    pub name: String,
    pub security: Security,
    /// Host and port told to its clients; None tells the address they dialled.
    pub advertised: Option<(String, u16)>,
    /// Host and port to bind.
    pub bind: (String, u16),
}

impl Listener {
    /// What it needs for TLS.
    pub(crate) fn tls(&self) -> Option<&Arc<ServerConfig>> {
        match &self.security {
            Security::Plaintext => None,
            Security::Ssl(config) => Some(config),
        }
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Config(text.into()))
}

/// The listeners that options and configurations ask for.
pub(crate) fn of(options: &Options, server: &Server) -> Result<Vec<Listener>, Error> {
    let given = |name: &str| server.statics().get(name).map(|value| value.trim().to_owned());
    let mut listeners = match given("listeners") {
        Some(text) => named(&text, options, server)?,
        None => {
            let plain = |(index, addr): (usize, &std::net::SocketAddr)| Listener {
                name: "PLAINTEXT".into(),
                security: Security::Plaintext,
                advertised: options.advertised.get(index).cloned().flatten(),
                bind: (addr.ip().to_string(), addr.port()),
            };
            options.listen.iter().enumerate().map(plain).collect()
        }
    };
    if listeners.is_empty() {
        return wrong("no address to listen on");
    }
    for (name, host, port) in endpoints(&given("advertised.listeners").unwrap_or_default())? {
        if host == "0.0.0.0" || host == "[::]" || host.is_empty() || port == 0 {
            return wrong(format!("advertised.listeners cannot use {host}:{port}: clients cannot reach it"));
        }
        let Some(listener) = listeners.iter_mut().find(|listener| listener.name == name) else {
            return wrong(format!("advertised.listeners names {name}, which is not among listeners"));
        };
        listener.advertised = Some((host, port));
    }
    Ok(listeners)
}

fn named(text: &str, options: &Options, server: &Server) -> Result<Vec<Listener>, Error> {
    let map = server.text("listener.security.protocol.map").unwrap_or_default();
    let protocol_of = |name: &str| {
        let mut pairs = map.split(',').filter_map(|pair| pair.trim().split_once(':'));
        pairs
            .find(|(listener, _)| listener.eq_ignore_ascii_case(name))
            .map(|(_, protocol)| protocol.to_owned())
    };
    let mut listeners: Vec<Listener> = Vec::new();
    for (name, host, port) in endpoints(text)? {
        if listeners.iter().any(|known| known.name == name) {
            return wrong(format!("each listener must have a different name, listeners: {text}"));
        }
        let security = match protocol_of(&name).as_deref() {
            Some("PLAINTEXT") => Security::Plaintext,
            Some("SSL") => Security::Ssl(Arc::new(ssl(&name, &*options.disk, server)?)),
            Some(other) => {
                return wrong(format!("listener {name}: {other} is not served, PLAINTEXT and SSL are"));
            }
            None => return wrong(format!("no security protocol defined for listener {name}")),
        };
        let host = if host.is_empty() { "0.0.0.0".to_owned() } else { host };
        listeners.push(Listener { name, security, advertised: None, bind: (host, port) });
    }
    Ok(listeners)
}

/// `NAME://host:port`, several with commas between them.
fn endpoints(text: &str) -> Result<Vec<(String, String, u16)>, Error> {
    let one = |text: &str| {
        let (name, address) = text.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((name.to_ascii_uppercase(), host.to_owned(), port.parse().ok()?))
    };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            one(part).map_or_else(|| wrong(format!("{part} is no listener like NAME://host:port")), Ok)
        })
        .collect()
}

/// TLS of a listener, from `ssl.` configurations or those with the listener's own prefix.
fn ssl(listener: &str, disk: &dyn Disk, server: &Server) -> Result<ServerConfig, Error> {
    let get = |key: &str| {
        let own = format!("listener.name.{}.{key}", listener.to_ascii_lowercase());
        server.statics().get(&own).cloned().or_else(|| server.statics().get(key).cloned())
    };
    let bad = |what: &str, error: &dyn std::fmt::Display| {
        Error::Config(format!("listener {listener}: {what}: {error}"))
    };
    let stores = Stores { disk, get: &get };
    let wrong = |error: String| Error::Config(format!("listener {listener}: {error}"));
    let (chain, key) = stores.identity().map_err(wrong)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = versions(&get("ssl.enabled.protocols").unwrap_or_else(|| "TLSv1.2,TLSv1.3".into()));
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| bad("ssl.enabled.protocols", &error))?;
    let auth = get("ssl.client.auth").unwrap_or_else(|| "none".into());
    let builder = if auth == "none" {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in stores.trusted().map_err(wrong)? {
            roots.add(certificate).map_err(|error| bad("truststore", &error))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = if auth == "required" { verifier } else { verifier.allow_unauthenticated() };
        builder.with_client_cert_verifier(verifier.build().map_err(|error| bad("truststore", &error))?)
    };
    builder.with_single_cert(chain, key).map_err(|error| bad("certificates", &error))
}

fn versions(text: &str) -> Vec<&'static SupportedProtocolVersion> {
    let known = [("TLSv1.2", &rustls::version::TLS12), ("TLSv1.3", &rustls::version::TLS13)];
    let named = |name: &str| text.split(',').any(|word| word.trim() == name);
    known.into_iter().filter(|(name, _)| named(name)).map(|(_, version)| version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Values;

    fn parse(pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let values: Values = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let server = Server::new(values)?;
        let listeners = of(&Options::new("/none", vec![]), &server).map_err(|error| error.to_string())?;
        Ok(listeners
            .iter()
            .map(|l| format!("{} {}:{} {:?}", l.name, l.bind.0, l.bind.1, l.advertised))
            .collect())
    }

    #[test]
    fn names_addresses_and_what_is_wrong_with_them() {
        let two = ("listeners", "plaintext://:1,IN://[::1]:2");
        let map = ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,IN:PLAINTEXT");
        let advertised = ("advertised.listeners", "IN://here:3");
        assert_eq!(
            parse(&[two, map, advertised]),
            Ok(vec!["PLAINTEXT 0.0.0.0:1 None".into(), "IN ::1:2 Some((\"here\", 3))".into()])
        );
        let wrong = |pairs: &[(&str, &str)], part: &str| {
            let error = parse(pairs).expect_err("wrong");
            assert!(error.contains(part), "{error}");
        };
        wrong(&[], "no address");
        wrong(&[two], "no security protocol defined for listener IN");
        wrong(&[("listeners", "PLAINTEXT://a:1,PLAINTEXT://b:1")], "different name");
        wrong(&[("listeners", "SASL_SSL://a:1")], "not served");
        wrong(&[("listeners", "nothing")], "no listener");
        wrong(&[("listeners", "SSL://a:1")], "needs ssl.keystore");
        wrong(&[("listeners", "SSL://a:1"), ("ssl.keystore.location", "/no/store")], "/no/store");
        wrong(&[two, map, ("advertised.listeners", "IN://0.0.0.0:3")], "cannot reach");
        wrong(&[two, map, ("advertised.listeners", "OUT://a:3")], "not among listeners");
    }
}
