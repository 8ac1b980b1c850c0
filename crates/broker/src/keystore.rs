//! Where listeners' keys and certificates come from: PEM, or stores as Java's keytool makes them.
//!
//! ```text
//! ssl.keystore.type=PEM     .location: a file with both; or .certificate.chain and .key. A key may be under ssl.key.password
//! ssl.keystore.type=PKCS12  .location, .password
//! ssl.keystore.type=JKS     .location, .password; the key under ssl.key.password, or else the store's
//! ```
//! The same of `ssl.truststore`. JKS is the default: as Java does, what is in the file decides between it and PKCS12.

mod jks;

use base::disk::Disk;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use pkcs8::der::Encode as _;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use jks::Jks;

const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// Keys of elliptic curves (id-ecPublicKey).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// Tags of DER.
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const PUBLIC_HALF: u8 = 0xa1;
/// How long lines of PEM are.
const PEM_LINE: usize = 64;

/// A listener's configurations and the disk they point to.
pub(crate) struct Stores<'a> {
    pub disk: &'a dyn Disk,
    pub get: &'a dyn Fn(&str) -> Option<String>,
}

/// A certificate chain with its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A store's content.
enum Content {
    Pem(Vec<u8>),
    Pkcs12(KeyStore),
    Jks(Jks),
}

impl Stores<'_> {
    fn get(&self, key: &str) -> Option<String> {
        (self.get)(key)
    }

    /// The certificates and the key that the listener shows.
    pub(crate) fn identity(&self) -> Result<Identity, String> {
        let inline = |key: &str| self.get(key).map(String::into_bytes);
        let stored = self.content("ssl.keystore")?;
        let (chain, key) = (inline("ssl.keystore.certificate.chain"), inline("ssl.keystore.key"));
        let pem = match stored {
            Some(Content::Pkcs12(store)) => return from_pkcs12(&store),
            Some(Content::Jks(store)) => return self.unlocked(&store),
            Some(Content::Pem(pem)) => Some(pem),
            None => None,
        };
        let (Some(chain), Some(key)) = (chain.or_else(|| pem.clone()), key.or(pem)) else {
            return Err("SSL needs ssl.keystore.location, or .certificate.chain and .key".into());
        };
        let chain = certificates(&chain)?;
        let key = private_key(&key, self.get("ssl.key.password").as_deref())?;
        let key = completed(key, &chain);
        Ok((chain, key))
    }

    /// The certificates that clients' are checked with.
    pub(crate) fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let stored = self.content("ssl.truststore")?;
        if let Some(pem) = self.get("ssl.truststore.certificates") {
            return certificates(pem.as_bytes());
        }
        match stored {
            None => Ok(Vec::new()),
            Some(Content::Pem(pem)) => certificates(&pem),
            Some(Content::Pkcs12(store)) => {
                let certificate = |(_, entry): (_, &KeyStoreEntry)| match entry {
                    KeyStoreEntry::Certificate(found) => Some(CertificateDer::from(found.as_der().to_vec())),
                    _ => None,
                };
                Ok(store.entries().filter_map(certificate).collect())
            }
            Some(Content::Jks(store)) => Ok(store.certificates),
        }
    }

    /// What the file of a store holds; None without a file.
    fn content(&self, store: &str) -> Result<Option<Content>, String> {
        let kind = self.get(&format!("{store}.type")).unwrap_or_else(|| "JKS".into()).to_ascii_uppercase();
        if !["PEM", "PKCS12", "JKS"].contains(&kind.as_str()) {
            return Err(format!("{store}.type {kind} is not served, PEM, PKCS12 and JKS are"));
        }
        let inline = ["certificate.chain", "key", "certificates"];
        if kind != "PEM" && inline.iter().any(|key| self.get(&format!("{store}.{key}")).is_some()) {
            return Err(format!("{store}.type must be PEM for certificates and keys in the configuration"));
        }
        let Some(path) = self.get(&format!("{store}.location")) else { return Ok(None) };
        let bytes = self.disk.read(path.as_ref()).map_err(|error| format!("{path}: {error}"))?;
        if kind == "PEM" {
            return Ok(Some(Content::Pem(bytes)));
        }
        let password = self.get(&format!("{store}.password"));
        if bytes.starts_with(&jks::MAGIC) {
            let read = Jks::read(&bytes, password.as_deref());
            let read =
                read.map_err(|error| format!("{path} is no JKS store under {store}.password: {error}"))?;
            return Ok(Some(Content::Jks(read)));
        }
        let password = password.unwrap_or_default();
        let read = KeyStore::from_pkcs12(&bytes, &password, Pkcs12ImportPolicy::Relaxed);
        let store =
            read.map_err(|error| format!("{path} is no PKCS12 store under {store}.password: {error}"))?;
        Ok(Some(Content::Pkcs12(store)))
    }

    /// The first key of a store of Java's own, with its certificates.
    fn unlocked(&self, store: &Jks) -> Result<Identity, String> {
        let entry = store.keys.first().ok_or("the keystore has no private key")?;
        let own = self.get("ssl.key.password").map(|password| ("ssl.key.password", password));
        let stores = || self.get("ssl.keystore.password").map(|password| ("ssl.keystore.password", password));
        let (under, password) =
            own.or_else(stores).ok_or("the key is under a password: set ssl.keystore.password")?;
        let key = entry.unlock(&password).map_err(|error| format!("keystore under {under}: {error}"))?;
        let key = completed(PrivatePkcs8KeyDer::from(key).into(), &entry.chain);
        Ok((entry.chain.clone(), key))
    }
}

/// A key of an elliptic curve with its public half, taken from the certificate where it is not there: Java leaves it out, and
/// ring wants it. Any other key as it is.
fn completed(key: PrivateKeyDer<'static>, chain: &[CertificateDer<'_>]) -> PrivateKeyDer<'static> {
    let PrivateKeyDer::Pkcs8(given) = &key else { return key };
    match chain.first().and_then(|leaf| with_public_half(given.secret_pkcs8_der(), leaf)) {
        Some(whole) => PrivatePkcs8KeyDer::from(whole).into(),
        None => key,
    }
}

/// `PrivateKeyInfo { 0, algorithm, OCTET STRING { ECPrivateKey { 1, secret, [1] public } } }` (RFC 5208, RFC 5915).
fn with_public_half(pkcs8: &[u8], leaf: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let info = PrivateKeyInfoRef::try_from(pkcs8).ok().filter(|info| info.algorithm.oid == EC)?;
    let (tag, fields, _) = element(info.private_key.as_bytes())?;
    let (version, _, rest) = element(fields)?;
    let (kind, secret, mut rest) = element(rest)?;
    if (tag, version, kind) != (SEQUENCE, INTEGER, OCTETS) {
        return None;
    }
    while let Some((tag, _, after)) = element(rest) {
        if tag == PUBLIC_HALF {
            return None;
        }
        rest = after;
    }
    let certificate = rustls::server::ParsedCertificate::try_from(leaf).ok()?;
    let public = certificate.subject_public_key_info();
    let public = SubjectPublicKeyInfoRef::try_from(public.as_ref()).ok()?;
    let public = [&[0][..], public.subject_public_key.as_bytes()?].concat();
    let key =
        [wrapped(INTEGER, &[1]), wrapped(OCTETS, secret), wrapped(PUBLIC_HALF, &wrapped(BITS, &public))];
    let key = wrapped(SEQUENCE, &key.concat());
    let whole = [wrapped(INTEGER, &[0]), info.algorithm.to_der().ok()?, wrapped(OCTETS, &key)];
    Some(wrapped(SEQUENCE, &whole.concat()))
}

/// The first element of some DER: tag, content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0x00..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(len)?;
    Some((tag, content, after))
}

fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut der = match len {
        0..=0x7f => vec![tag, len as u8],
        0x80..=0xff => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    der.extend_from_slice(content);
    der
}

fn from_pkcs12(store: &KeyStore) -> Result<Identity, String> {
    let (_, chain) = store.private_key_chain().ok_or("the keystore has no private key")?;
    let key = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
    let certificates = chain.certs().iter().map(|found| CertificateDer::from(found.as_der().to_vec()));
    let certificates: Vec<_> = certificates.collect();
    let key = completed(key.into(), &certificates);
    Ok((certificates, key))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>();
    found.map_err(|error| format!("certificates: {error}"))
}

/// The key in a PEM text; one under a password is PKCS#8 with PBES2, as Kafka wants it.
fn private_key(pem: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let Some(encrypted) = section(&String::from_utf8_lossy(pem), ENCRYPTED) else {
        return PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("key: {error}"));
    };
    let password = password.ok_or("the key is under a password: set ssl.key.password")?;
    let bad = |error: &dyn std::fmt::Display| format!("key under ssl.key.password: {error}");
    let (_, document) = SecretDocument::from_pem(&encrypted).map_err(|error| bad(&error))?;
    let locked = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| bad(&error))?;
    let open = locked.decrypt(password).map_err(|error| bad(&error))?;
    Ok(PrivatePkcs8KeyDer::from(open.as_bytes().to_vec()).into())
}

/// A section of a PEM text on its own, with lines as they should be: in properties it is often all one line.
fn section(pem: &str, label: &str) -> Option<String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, rest) = pem.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    let body: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let lines: Vec<_> = body.chunks(PEM_LINE).map(String::from_utf8_lossy).collect();
    Some(format!("{begin}\n{}\n{end}\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::disk::RealDisk;
    use p12_keystore::{Certificate, PrivateKey, PrivateKeyChain};
    use pkcs8::pkcs5::pbes2::Parameters;

    fn identity(pairs: &[(&str, &str)]) -> Result<Identity, String> {
        let find =
            |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        Stores { disk: &RealDisk, get: &find }.identity()
    }

    fn trusted(pairs: &[(&str, &str)]) -> Result<Vec<CertificateDer<'static>>, String> {
        let find =
            |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        Stores { disk: &RealDisk, get: &find }.trusted()
    }

    fn signed() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    #[test]
    fn keys_under_a_password() {
        let signed = signed();
        let der = signed.signing_key.serialize_der();
        let (salt, iv) = ([7; 16], [9; 16]);
        let params = Parameters::generate_pbkdf2_sha256_aes256cbc(1000, &salt, iv).unwrap();
        let locked =
            PrivateKeyInfoRef::try_from(&*der).unwrap().encrypt_with_params(params, "secret").unwrap();
        let locked = locked.to_pem(ENCRYPTED, pkcs8::LineEnding::LF).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("both.pem");
        std::fs::write(&file, format!("{}{}", &*locked, signed.cert.pem())).unwrap();
        let file = file.to_str().unwrap();
        let pem = [("ssl.keystore.type", "PEM"), ("ssl.keystore.location", file)];
        let (chain, key) = identity(&[&pem[..], &[("ssl.key.password", "secret")]].concat()).unwrap();
        assert_eq!((chain.len(), key.secret_der()), (1, &*der));
        assert!(identity(&pem).unwrap_err().contains("set ssl.key.password"));
        let error = identity(&[&pem[..], &[("ssl.key.password", "wrong")]].concat()).unwrap_err();
        assert!(error.starts_with("key under ssl.key.password"), "{error}");
        // All one line, as in a file of properties.
        let line = locked.replace('\n', " ");
        let chain = signed.cert.pem();
        let inline = [
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.key", &*line),
            ("ssl.keystore.certificate.chain", &*chain),
            ("ssl.key.password", "secret"),
        ];
        assert_eq!(identity(&inline).unwrap().1.secret_der(), &*der);
    }

    /// Java writes keys of elliptic curves without their public half.
    #[test]
    fn keys_without_their_public_half() {
        let signed = signed();
        let der = signed.signing_key.serialize_der();
        let info = PrivateKeyInfoRef::try_from(&*der).unwrap();
        let (_, fields, _) = element(info.private_key.as_bytes()).unwrap();
        let (_, _, rest) = element(fields).unwrap();
        let (_, secret, rest) = element(rest).unwrap();
        assert!(!rest.is_empty(), "this one has it");
        let half = wrapped(SEQUENCE, &[wrapped(INTEGER, &[1]), wrapped(OCTETS, secret)].concat());
        let algorithm = info.algorithm.to_der().unwrap();
        let java = [wrapped(INTEGER, &[0]), algorithm, wrapped(OCTETS, &half)].concat();
        let java = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(wrapped(SEQUENCE, &java)));
        let usable = |key: &PrivateKeyDer<'_>| rustls::crypto::ring::sign::any_supported_type(key).is_ok();
        assert!(!usable(&java));
        let chain = [signed.cert.der().clone()];
        assert!(usable(&completed(java, &chain)));
        // One that is whole stays as it is.
        let whole = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.clone()));
        assert_eq!(completed(whole, &chain).secret_der(), &*der);
    }

    #[test]
    fn pkcs12_stores() {
        let signed = signed();
        let der = signed.signing_key.serialize_der();
        let certificate = Certificate::from_der(signed.cert.der()).unwrap();
        let chain =
            PrivateKeyChain::new("broker", PrivateKey::from_der(&der).unwrap(), [certificate.clone()]);
        let mut store = KeyStore::new();
        store.add_entry("broker", KeyStoreEntry::PrivateKeyChain(chain));
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let file = write("keys.p12", &store.writer("secret").write().unwrap());
        let given = [("ssl.keystore.location", &*file), ("ssl.keystore.password", "secret")];
        // Without a type it is Java's default, which reads both.
        for kind in [&[][..], &[("ssl.keystore.type", "PKCS12")], &[("ssl.keystore.type", "jks")]] {
            let (chain, key) = identity(&[&given[..], kind].concat()).unwrap();
            assert_eq!((&*chain[0], key.secret_der()), (&**signed.cert.der(), &*der));
        }
        let error = identity(&[given[0], ("ssl.keystore.password", "wrong")]).unwrap_err();
        assert!(error.contains("no PKCS12 store under ssl.keystore.password"), "{error}");
        assert!(identity(&[("ssl.keystore.type", "BCFKS")]).unwrap_err().contains("is not served"));
        assert!(identity(&[("ssl.keystore.key", "x")]).unwrap_err().contains("must be PEM"));
        assert!(identity(&[]).unwrap_err().contains("needs ssl.keystore"));

        let mut store = KeyStore::new();
        store.add_entry("ca", KeyStoreEntry::Certificate(certificate));
        let file = write("trust.p12", &store.writer("secret").write().unwrap());
        let given = [("ssl.truststore.location", &*file), ("ssl.truststore.password", "secret")];
        assert_eq!(trusted(&given).unwrap(), [signed.cert.der().clone()]);
    }

    /// Of keytool; see `jks`.
    #[test]
    fn stores_of_javas_own() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let ec = write("ec.jks", include_bytes!("keystore/testdata/ec.jks"));
        let rsa = write("rsa.jks", include_bytes!("keystore/testdata/rsa.jks"));
        let trust = write("trust.jks", include_bytes!("keystore/testdata/trust.jks"));
        let usable = |(_, key): &Identity| rustls::crypto::ring::sign::any_supported_type(key).is_ok();
        let (at, under) = (|file| ("ssl.keystore.location", file), ("ssl.keystore.password", "changeit"));
        for kind in [&[][..], &[("ssl.keystore.type", "JKS")], &[("ssl.keystore.type", "PKCS12")]] {
            let own = [at(&*ec), under, ("ssl.key.password", "otherpass")];
            let found = identity(&[&own[..], kind].concat()).unwrap();
            assert!(usable(&found) && found.0.len() == 1);
            // The key is under the store's password where it has none of its own.
            assert!(usable(&identity(&[&[at(&*rsa), under][..], kind].concat()).unwrap()));
        }
        let refused = |pairs: &[(&str, &str)]| identity(pairs).unwrap_err();
        let error = refused(&[at(&rsa), ("ssl.keystore.password", "wrong")]);
        let text =
            "rsa.jks is no JKS store under ssl.keystore.password: it was damaged, or the password is wrong";
        assert!(error.ends_with(text), "{error}");
        let error = refused(&[at(&ec), under]);
        assert_eq!(
            error,
            "keystore under ssl.keystore.password: its key was damaged, or the password is wrong"
        );
        let error = refused(&[at(&ec), under, ("ssl.key.password", "wrong")]);
        assert_eq!(error, "keystore under ssl.key.password: its key was damaged, or the password is wrong");
        assert!(refused(&[at(&ec)]).contains("set ssl.keystore.password"));
        assert_eq!(refused(&[at(&trust), under]), "the keystore has no private key");

        let at = ("ssl.truststore.location", &*trust);
        // As in Java, certificates need no password, and a wrong one is told.
        for more in [&[][..], &[("ssl.truststore.password", "changeit")]] {
            assert_eq!(trusted(&[&[at][..], more].concat()).unwrap().len(), 2);
        }
        let error = trusted(&[at, ("ssl.truststore.password", "wrong")]).unwrap_err();
        assert!(error.contains("no JKS store under ssl.truststore.password"), "{error}");
    }
}
