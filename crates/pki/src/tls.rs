//! rustls configurations on the ring provider: TLS 1.2 and 1.3, h2 before http/1.1.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::{Error, Leaf};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca_pem: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(unreadable)?)?;
    }
    Ok(roots)
}

fn unreadable(error: rustls_pki_types::pem::Error) -> Error {
    Error::Tls(rustls::Error::General(error.to_string()))
}

type KeyMaterial = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn material(leaf: &Leaf) -> Result<KeyMaterial, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(leaf.certificate_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(unreadable)?;
    Ok((chain.map_err(unreadable)?, key))
}

/// A server. With `client_ca_pem` a client may show a certificate of that authority; without one it is not asked.
///
/// # Errors
/// When the PEM texts do not hold what they should.
pub fn server(leaf: &Leaf, client_ca_pem: Option<&str>) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match client_ca_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider())
                .allow_unauthenticated()
                .build()
                .map_err(|e| rustls::Error::General(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = material(leaf)?;
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = alpn();
    Ok(config)
}

/// A server that speaks only with clients that show a certificate of this authority.
///
/// # Errors
/// When the PEM texts do not hold what they should.
pub fn mutual_server(leaf: &Leaf, client_ca_pem: &str) -> Result<ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca_pem)?), provider())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let (chain, key) = material(leaf)?;
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    config.alpn_protocols = alpn();
    Ok(config)
}

/// A client that trusts one authority and may show a certificate.
///
/// # Errors
/// When the PEM texts do not hold what they should.
pub fn client(ca_pem: &str, leaf: Option<&Leaf>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots(ca_pem)?);
    let mut config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let (chain, key) = material(leaf)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    config.alpn_protocols = alpn();
    Ok(config)
}

/// A client that believes whoever answers. Only to fetch what is checked otherwise: an authority's certificate, whose
/// [`fingerprint`] is known.
///
/// # Errors
/// When rustls refuses its own defaults.
pub fn client_that_trusts_nobody() -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(Unverified(provider()));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = alpn();
    Ok(config)
}

/// SHA-256 of the first certificate in a PEM text, in hexadecimal.
///
/// # Errors
/// When there is none.
pub fn fingerprint(pem: &str) -> Result<String, Error> {
    let first = CertificateDer::pem_slice_iter(pem.as_bytes()).next();
    let certificate = first.ok_or_else(|| Error::Tls(rustls::Error::NoCertificatesPresented))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate.map_err(unreadable)?);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}
