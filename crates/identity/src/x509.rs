//! Certificate to principal: the common name is the user, organizations are groups.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::UserInfo;

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the certificate cannot be parsed: {0}")]
    Malformed(String),
    #[error("the certificate has no common name")]
    NoCommonName,
}

/// The user that a client certificate (DER) stands for. The chain must have been verified by TLS before.
///
/// # Errors
/// When the certificate cannot be parsed or names nobody.
pub fn principal(der: &[u8]) -> Result<UserInfo, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| Error::Malformed(e.to_string()))?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok());
    let name = name.filter(|cn| !cn.is_empty()).ok_or(Error::NoCommonName)?;
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    Ok(UserInfo::new(name, &groups))
}
