//! Java's own key store (JKS, `sun.security.provider.JavaKeyStore`), read only. No field's length is believed beyond the
//! bytes that are left, so that a damaged file is an error and costs no memory. Numbers are big-endian.
//!
//! ```text
//! magic FEEDFEED │ version 1 or 2 │ count │ entry... │ SHA-1(password as UTF-16, "Mighty Aphrodite", all before)
//! entry   tag 1, a key          │ alias │ ms (8) │ length │ PKCS#8, encrypted │ count │ certificate...
//!         tag 2, a certificate  │ alias │ ms (8) │ certificate
//! certificate   type (version 2 only) │ length │ DER            alias, type: length (2), bytes; numbers else take 4
//!
//! PKCS#8, encrypted   SEQUENCE { SEQUENCE { 1.3.6.1.4.1.42.2.17.1.1, NULL }, OCTET STRING { salt (20), key, check (20) } }
//!   key ⊕ SHA-1(password, salt) ‖ SHA-1(password, of that) ‖ ...                check = SHA-1(password, key)
//! ```
//! The check at the end is of who knows the password, not of who may have written the file: Java's own is no better.

use ring::digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};
use rustls_pki_types::CertificateDer;

use super::{OBJECT_ID, OCTETS, SEQUENCE, element};

/// How a store begins.
pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// Stands between password and content.
const WHITENER: &[u8] = b"Mighty Aphrodite";
const KEY: u32 = 1;
const CERTIFICATE: u32 = 2;
/// Sun's way to keep keys: 1.3.6.1.4.1.42.2.17.1.1.
const KEY_PROTECTOR: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01];

/// A key with its certificates, the key's own first.
#[derive(Debug)]
pub(super) struct KeyEntry {
    locked: Vec<u8>,
    pub chain: Vec<CertificateDer<'static>>,
}

/// What a store holds, in its order.
#[derive(Debug, Default)]
pub(super) struct Jks {
    pub keys: Vec<KeyEntry>,
    /// Certificates of others.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Why a store, or a key of it, is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("it ends early or says more than it holds")]
    Malformed,
    #[error("its version is {0}, of which there are 1 and 2")]
    Version(u32),
    #[error("it has an entry of kind {0}, of which there are keys (1) and certificates (2)")]
    Kind(u32),
    #[error("it was damaged, or the password is wrong")]
    Store,
    #[error("its key is kept in a way that Java's own stores do not know")]
    Protector,
    #[error("its key was damaged, or the password is wrong")]
    Key,
}

impl Jks {
    /// Reads a store; without a password nothing tells whether it was damaged.
    pub(super) fn read(bytes: &[u8], password: Option<&str>) -> Result<Self, Error> {
        let content = bytes.len().checked_sub(SHA1_OUTPUT_LEN).ok_or(Error::Malformed)?;
        let (content, check) = bytes.split_at(content);
        let mut left = Reader(content);
        if left.take(MAGIC.len())? != MAGIC {
            return Err(Error::Malformed);
        }
        let version = left.number()?;
        if !(1..=2).contains(&version) {
            return Err(Error::Version(version));
        }
        if password.is_some_and(|password| digest(&[&utf16(password), WHITENER, content]).as_ref() != check) {
            return Err(Error::Store);
        }
        let mut store = Self::default();
        for _ in 0..left.number()? {
            let kind = left.number()?;
            let _alias = left.text()?;
            let _made_ms = left.take(8)?;
            match kind {
                KEY => {
                    let locked = left.bytes()?.to_vec();
                    let count = left.number()?;
                    let chain = (0..count).map(|_| left.certificate(version)).collect::<Result<_, _>>()?;
                    store.keys.push(KeyEntry { locked, chain });
                }
                CERTIFICATE => store.certificates.push(left.certificate(version)?),
                other => return Err(Error::Kind(other)),
            }
        }
        if left.0.is_empty() { Ok(store) } else { Err(Error::Malformed) }
    }
}

impl KeyEntry {
    /// The key, PKCS#8.
    pub(super) fn unlock(&self, password: &str) -> Result<Vec<u8>, Error> {
        let content = protected(&self.locked).ok_or(Error::Protector)?;
        let (salt, rest) = content.split_at_checked(SHA1_OUTPUT_LEN).ok_or(Error::Protector)?;
        let length = rest.len().checked_sub(SHA1_OUTPUT_LEN).ok_or(Error::Protector)?;
        let (locked, check) = rest.split_at(length);
        let password = utf16(password);
        let mut stream = digest(&[&password, salt]);
        let mut key = Vec::new();
        for block in locked.chunks(SHA1_OUTPUT_LEN) {
            key.extend(block.iter().zip(stream.as_ref()).map(|(locked, mask)| locked ^ mask));
            stream = digest(&[&password, stream.as_ref()]);
        }
        if digest(&[&password, &key]).as_ref() == check { Ok(key) } else { Err(Error::Key) }
    }
}

/// What Sun's way to keep keys keeps; None where it is another.
fn protected(locked: &[u8]) -> Option<&[u8]> {
    let inner = |der, wanted| element(der).filter(|(tag, ..)| *tag == wanted);
    let (_, info, _) = inner(locked, SEQUENCE)?;
    let (_, algorithm, rest) = inner(info, SEQUENCE)?;
    let (_, id, _) = inner(algorithm, OBJECT_ID)?;
    let (_, content, _) = inner(rest, OCTETS)?;
    (id == KEY_PROTECTOR).then_some(content)
}

fn digest(parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// The bytes that are left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, left) = self.0.split_at_checked(length).ok_or(Error::Malformed)?;
        self.0 = left;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| Error::Malformed)?)
    }

    fn text(&mut self) -> Result<&'a [u8], Error> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().expect("two bytes"));
        self.take(usize::from(length))
    }

    fn certificate(&mut self, version: u32) -> Result<CertificateDer<'static>, Error> {
        if version > 1 {
            let _kind = self.text()?;
        }
        Ok(CertificateDer::from(self.bytes()?.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::random::Random;

    // Made by the keytool of Java 17 with `-storetype JKS -storepass changeit`: an EC key under `-keypass otherpass`, an RSA
    // key under the store's password, and both certificates. The plain keys are what Java itself made of them.
    const EC: &[u8] = include_bytes!("testdata/ec.jks");
    const EC_KEY: &[u8] = include_bytes!("testdata/ec.pk8");
    const RSA: &[u8] = include_bytes!("testdata/rsa.jks");
    const RSA_KEY: &[u8] = include_bytes!("testdata/rsa.pk8");
    const TRUST: &[u8] = include_bytes!("testdata/trust.jks");
    const PASSWORD: &str = "changeit";

    #[test]
    fn stores_of_keytool() {
        let ec = Jks::read(EC, Some(PASSWORD)).unwrap();
        assert_eq!((ec.keys.len(), ec.keys[0].chain.len(), ec.certificates.len()), (1, 1, 0));
        assert_eq!(ec.keys[0].unlock("otherpass").unwrap(), EC_KEY);
        assert_eq!(ec.keys[0].unlock(PASSWORD), Err(Error::Key));
        let rsa = Jks::read(RSA, Some(PASSWORD)).unwrap();
        assert_eq!(rsa.keys[0].unlock(PASSWORD).unwrap(), RSA_KEY);
        let trust = Jks::read(TRUST, Some(PASSWORD)).unwrap();
        assert!(trust.keys.is_empty());
        // keytool writes them in an order of its own.
        let mut known = [ec.keys[0].chain[0].clone(), rsa.keys[0].chain[0].clone()];
        let mut found = trust.certificates.clone();
        known.sort_unstable_by(|a, b| a.cmp(&**b));
        found.sort_unstable_by(|a, b| a.cmp(&**b));
        assert_eq!(found, known);
    }

    #[test]
    fn passwords() {
        for password in ["", "changeiT", "changeit ", "ändern"] {
            assert_eq!(Jks::read(TRUST, Some(password)).unwrap_err(), Error::Store, "{password:?}");
        }
        // As in Java, certificates can be had without.
        assert_eq!(Jks::read(TRUST, None).unwrap().certificates.len(), 2);
    }

    /// A store of these entries under [`PASSWORD`].
    fn store(version: u32, count: u32, entries: &[u8]) -> Vec<u8> {
        let head = [MAGIC, version.to_be_bytes(), count.to_be_bytes()].concat();
        let content = [&head, entries].concat();
        let check = digest(&[&utf16(PASSWORD), WHITENER, &content]);
        [&content, check.as_ref()].concat()
    }

    #[test]
    fn the_first_version_and_what_is_none() {
        let certificate = [&3u32.to_be_bytes()[..], b"der"].concat();
        let head = |kind: u32| [&kind.to_be_bytes()[..], &[0, 1, b'a'], &[0; 8]].concat();
        let read = |bytes: Vec<u8>| Jks::read(&bytes, Some(PASSWORD));
        let entry = [head(CERTIFICATE), certificate.clone()].concat();
        assert_eq!(&*read(store(1, 1, &entry)).unwrap().certificates[0], b"der");
        // The second has the certificate's type before it.
        let typed = [&head(CERTIFICATE)[..], &[0, 5], b"X.509", &certificate].concat();
        assert_eq!(&*read(store(2, 1, &typed)).unwrap().certificates[0], b"der");
        assert!(read(store(2, 0, &[])).unwrap().certificates.is_empty());
        assert_eq!(read(store(3, 0, &[])).unwrap_err(), Error::Version(3));
        assert_eq!(read(store(2, 1, &head(3))).unwrap_err(), Error::Kind(3));
        // More entries than there are, and fewer.
        assert_eq!(read(store(1, u32::MAX, &entry)).unwrap_err(), Error::Malformed);
        assert_eq!(read(store(1, 0, &entry)).unwrap_err(), Error::Malformed);
        // A key that takes four gigabytes, and a chain of four thousand million certificates.
        let huge = [head(KEY), u32::MAX.to_be_bytes().to_vec()].concat();
        assert_eq!(read(store(2, 1, &huge)).unwrap_err(), Error::Malformed);
        let long = [head(KEY), vec![0; 4], u32::MAX.to_be_bytes().to_vec()].concat();
        assert_eq!(read(store(2, 1, &long)).unwrap_err(), Error::Malformed);
        assert_eq!(Jks::read(&MAGIC, None).unwrap_err(), Error::Malformed);
        let empty = KeyEntry { locked: Vec::new(), chain: Vec::new() };
        assert_eq!(empty.unlock(PASSWORD), Err(Error::Protector));
    }

    /// Any end, any byte changed, and heaps of both: an error wherever the password is asked for, and never a panic.
    #[test]
    fn damaged_stores_are_refused() {
        for bytes in [EC, RSA, TRUST] {
            for end in 0..bytes.len() {
                assert!(Jks::read(&bytes[..end], Some(PASSWORD)).is_err(), "cut at {end}");
                let _ = Jks::read(&bytes[..end], None);
            }
            for at in 0..bytes.len() {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1 << (at % 8);
                assert!(Jks::read(&damaged, Some(PASSWORD)).is_err(), "changed at {at}");
            }
        }
        let mut random = Random::from_seed(42);
        let mut unlocked = 0;
        for round in 0..20_000 {
            let mut damaged = [EC, RSA, TRUST][round % 3].to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(damaged.len() as u64) as usize;
                match random.below(4) {
                    0 => damaged.truncate(at.max(1)),
                    // Lengths and counts that say much.
                    1 => damaged[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
                    _ => damaged[at] = random.below(256) as u8,
                }
            }
            // Without the check of the whole, every other has to hold.
            let Ok(store) = Jks::read(&damaged, None) else { continue };
            for key in &store.keys {
                for (password, plain) in [("otherpass", EC_KEY), (PASSWORD, RSA_KEY)] {
                    if let Ok(found) = key.unlock(password) {
                        assert_eq!(found, plain, "round {round}");
                        unlocked += 1;
                    }
                }
            }
        }
        assert!(unlocked > 0, "damage elsewhere leaves keys whole");
    }
}
