//! Certificates of servers and clients.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A leaf is renewed when less than this is left of it.
const RENEW_BEFORE_S: i64 = 30 * 86_400;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
    Both,
}

/// The names a serving certificate answers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

impl Names {
    /// The API server's names: those of its Service, localhost, the host and its addresses.
    #[must_use]
    pub fn api_server(cluster_domain: &str, service_ip: IpAddr, host: &str, addresses: &[IpAddr]) -> Self {
        let service = "kubernetes.default.svc";
        let mut dns: Vec<String> = ["kubernetes", "kubernetes.default", service].map(String::from).to_vec();
        dns.push(format!("{service}.{cluster_domain}"));
        dns.push("localhost".into());
        if !host.is_empty() && host.parse::<IpAddr>().is_err() {
            dns.push(host.into());
        }
        let mut names = Self { dns, addresses: vec![service_ip] };
        names.add_loopback();
        names.addresses.extend(addresses);
        names.addresses.sort_unstable();
        names.addresses.dedup();
        names
    }

    pub(crate) fn add_loopback(&mut self) {
        self.addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    }
}

/// A certificate with its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl Leaf {
    /// Whether this certificate still does: same authority, same subject, enough life, every name.
    pub(crate) fn serves(
        &self,
        authority_key_id: &[u8],
        common_name: &str,
        organizations: &[&str],
        names: &Names,
        now_s: i64,
    ) -> bool {
        let Some(der) = der(&self.certificate_pem) else { return false };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return false };
        let subject = certificate.subject();
        let is_user = subject.iter_common_name().next().and_then(|n| n.as_str().ok()) == Some(common_name);
        let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
        let fresh = certificate.validity().not_after.timestamp() - now_s > RENEW_BEFORE_S;
        is_user
            && groups == organizations
            && fresh
            && signed_by(&certificate, authority_key_id)
            && has_names(&certificate, names)
    }
}

fn der(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

fn signed_by(certificate: &X509Certificate<'_>, key_id: &[u8]) -> bool {
    certificate.extensions().iter().any(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(a) => {
            a.key_identifier.as_ref().is_some_and(|k| k.0 == key_id)
        }
        _ => false,
    })
}

fn has_names(certificate: &X509Certificate<'_>, names: &Names) -> bool {
    let present = certificate.subject_alternative_name().ok().flatten();
    let present = present.map_or(&[][..], |san| &san.value.general_names);
    let has_dns = |name: &String| present.iter().any(|g| matches!(g, GeneralName::DNSName(n) if n == name));
    let has_ip =
        |ip: &IpAddr| present.iter().any(|g| matches!(g, GeneralName::IPAddress(b) if *b == octets(*ip)));
    names.dns.iter().all(has_dns) && names.addresses.iter().all(has_ip)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The subject key identifier of an authority's certificate.
pub(crate) fn subject_key_id(pem: &str) -> Option<Vec<u8>> {
    let der = der(pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}
