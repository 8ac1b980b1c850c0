//! A certificate authority with its files.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::leaf::{self, Leaf, Names, Usage};
use crate::{Error, files};

/// Authorities live ten years, as kubeadm's.
const AUTHORITY_LIFE_S: i64 = 10 * 365 * 86_400;
/// Leaves live one year, as kubeadm's; they are renewed at start.
const LEAF_LIFE_S: i64 = 365 * 86_400;
/// Certificates are valid from a little before they were made: clocks differ.
const BACKDATE_S: i64 = 300;

pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    key_id: Vec<u8>,
}

impl Authority {
    /// Loads `<dir>/<file>.{crt,key}` or makes them.
    pub(crate) fn open(dir: &Path, file: &str, common_name: &str, now_s: i64) -> Result<Self, Error> {
        let (crt, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
        match (files::read(&crt)?, files::read(&key)?) {
            (Some(crt_pem), Some(key_pem)) => {
                Self::load(crt_pem, &key_pem).map_err(|reason| Error::Unusable { path: crt, reason })
            }
            (Some(_), None) => Err(Error::Unusable { path: crt, reason: "its key is missing".into() }),
            // The key is written first, so a lone key is what a crash left.
            (None, _) => Self::make(&crt, &key, common_name, now_s),
        }
    }

    fn load(pem: String, key_pem: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| e.to_string())?;
        let key_id = leaf::subject_key_id(&pem).ok_or("it is not an authority's certificate")?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|e| e.to_string())?;
        Ok(Self { pem, issuer, key_id })
    }

    fn make(crt: &Path, key_path: &Path, common_name: &str, now_s: i64) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = params(common_name, &[], now_s, AUTHORITY_LIFE_S);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        files::write_durable(key_path, &key.serialize_pem(), files::Mode::Private)?;
        files::write_durable(crt, &pem, files::Mode::Public)?;
        Self::load(pem, &key.serialize_pem())
            .map_err(|reason| Error::Unusable { path: crt.to_owned(), reason })
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The leaf kept under `<dir>/<file>.{crt,key}`, issued anew when it is absent, old, or lacks a name.
    #[allow(clippy::too_many_arguments, reason = "one private call, every value distinct in kind")]
    pub(crate) fn leaf(
        &self,
        dir: &Path,
        file: &str,
        common_name: &str,
        organizations: &[&str],
        names: &Names,
        usage: Usage,
        now_s: i64,
    ) -> Result<Leaf, Error> {
        let (crt, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
        if let (Some(certificate_pem), Some(key_pem)) = (files::read(&crt)?, files::read(&key)?) {
            let leaf = Leaf { certificate_pem, key_pem };
            if leaf.serves(&self.key_id, common_name, organizations, names, now_s) {
                return Ok(leaf);
            }
        }
        let leaf = self.issue(common_name, organizations, names, usage, now_s)?;
        files::write(&key, &leaf.key_pem, files::Mode::Private)?;
        files::write(&crt, &leaf.certificate_pem, files::Mode::Public)?;
        Ok(leaf)
    }

    fn issue(
        &self,
        common_name: &str,
        organizations: &[&str],
        names: &Names,
        usage: Usage,
        now_s: i64,
    ) -> Result<Leaf, Error> {
        let key = KeyPair::generate()?;
        let mut params = params(common_name, organizations, now_s, LEAF_LIFE_S);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages(usage);
        params.use_authority_key_identifier_extension = true;
        for name in &names.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(names.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        let certificate: Certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn usages(usage: Usage) -> Vec<ExtendedKeyUsagePurpose> {
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    match usage {
        Usage::Server => vec![server],
        Usage::Client => vec![client],
        Usage::Both => vec![server, client],
    }
}

fn params(common_name: &str, organizations: &[&str], now_s: i64, life_s: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |s: i64| epoch + Duration::from_secs(u64::try_from(s).unwrap_or(0));
    params.not_before = at(now_s - BACKDATE_S);
    params.not_after = at(now_s + life_s);
    params.distinguished_name = DistinguishedName::new();
    // One attribute holds one value; a set of groups is a repeated attribute, which the map below cannot express,
    // so certificates of ours carry at most one organization.
    if let Some(organization) = organizations.first() {
        params.distinguished_name.push(DnType::OrganizationName, *organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}
