//! Signed tokens of any claims (RFC 7519), in the algorithms of RFC 7518 and RFC 8037: those that `ring` has, and
//! ES512 by `p521`.
//!
//! ```text
//! HS256 HS384 HS512 | RS256 RS384 RS512 PS256 PS384 PS512 | ES256 ES384 ES512 | EdDSA
//! ```
//! Keys are PEM: PKCS#8 or PKCS#1 for RSA, PKCS#8 or SEC 1 for elliptic curves, PKCS#8 for Ed25519; public keys as
//! SubjectPublicKeyInfo. A secret of HMAC is the bytes as they are. A key is bound to its algorithm: what a token says
//! about itself must be the same.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p521::ecdsa::signature::{Signer as _, Verifier as _};
use p521::pkcs8::DecodePrivateKey as _;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey};
use ring::{hmac, rand};
use serde::Serialize;
use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

/// Longest token looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Why a key or a token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the algorithm {0:?} is not known")]
    Algorithm(String),
    #[error("missing key data")]
    MissingKey,
    #[error("public and private keys don't match")]
    KeyMismatch,
    #[error("the key cannot be used: {0}")]
    Key(String),
    #[error("only the public key is there")]
    VerifyOnly,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is not valid now")]
    Time,
}

enum Secret {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
    Ec(EcdsaKeyPair),
    P521(p521::ecdsa::SigningKey),
    Ed(Ed25519KeyPair),
}

enum Public {
    Hmac(hmac::Key),
    Asymmetric(UnparsedPublicKey<Vec<u8>>),
    P521(p521::ecdsa::VerifyingKey),
}

/// A key with its algorithm.
pub struct Key {
    algorithm: &'static str,
    secret: Option<Secret>,
    public: Public,
    random: SystemRandom,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// A key of an algorithm, from the contents of key files. HMAC takes its secret as the private key.
    ///
    /// # Errors
    /// When there is no key, it does not fit the algorithm, or the two are not a pair.
    pub fn new(algorithm: &str, private: Option<&[u8]>, public: Option<&[u8]>) -> Result<Self, Error> {
        let named = ALGORITHMS.iter().find(|known| known.name == algorithm);
        let algorithm = named.ok_or_else(|| Error::Algorithm(algorithm.to_owned()))?;
        let (secret, public) = algorithm.keys(private, public)?;
        Ok(Self { algorithm: algorithm.name, secret, public, random: SystemRandom::new() })
    }

    /// The claims as a signed token.
    ///
    /// # Errors
    /// `VerifyOnly` without the private key; when the machine has no randomness.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        let header = encode(&json!({ "alg": self.algorithm, "typ": "JWT" }))?;
        let body = format!("{header}.{}", encode(claims)?);
        let signature = match self.secret.as_ref().ok_or(Error::VerifyOnly)? {
            Secret::Hmac(key) => hmac::sign(key, body.as_bytes()).as_ref().to_vec(),
            Secret::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &self.random, body.as_bytes(), &mut signature)
                    .map_err(|_| Error::Signature)?;
                signature
            }
            Secret::Ec(key) => {
                key.sign(&self.random, body.as_bytes()).map_err(|_| Error::Signature)?.as_ref().to_vec()
            }
            Secret::P521(key) => {
                let signature: p521::ecdsa::Signature =
                    key.try_sign(body.as_bytes()).map_err(|_| Error::Signature)?;
                signature.to_bytes().to_vec()
            }
            Secret::Ed(key) => key.sign(body.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a genuine token at `now_s` (seconds since 1970). `exp` and `nbf` count when they are there.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn verify(&self, token: &str, now_s: i64) -> Result<Map<String, Value>, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Malformed);
        }
        let (body, signature) = token.rsplit_once('.').ok_or(Error::Malformed)?;
        let (header, claims) = body.split_once('.').ok_or(Error::Malformed)?;
        if decode(header)?.get("alg").and_then(Value::as_str) != Some(self.algorithm) {
            return Err(Error::Signature);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Error::Malformed)?;
        let genuine = match &self.public {
            Public::Hmac(key) => hmac::verify(key, body.as_bytes(), &signature).is_ok(),
            Public::Asymmetric(key) => key.verify(body.as_bytes(), &signature).is_ok(),
            Public::P521(key) => p521::ecdsa::Signature::from_slice(&signature)
                .is_ok_and(|signature| key.verify(body.as_bytes(), &signature).is_ok()),
        };
        if !genuine {
            return Err(Error::Signature);
        }
        let claims = decode(claims)?;
        let time =
            |name: &str| claims.get(name).map(|time| time.as_f64().ok_or(Error::Malformed)).transpose();
        let now = now_s as f64;
        let current = time("exp")?.is_none_or(|exp| now < exp) && time("nbf")?.is_none_or(|nbf| now >= nbf);
        if current { Ok(claims) } else { Err(Error::Time) }
    }
}

fn encode(part: &impl Serialize) -> Result<String, Error> {
    serde_json::to_vec(part).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| Error::Malformed)
}

fn decode(part: &str) -> Result<Map<String, Value>, Error> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Error::Malformed)
}

struct Algorithm {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    Hmac(hmac::Algorithm),
    Rsa(&'static dyn signature::RsaEncoding, &'static signature::RsaParameters),
    Ec(&'static signature::EcdsaSigningAlgorithm, &'static signature::EcdsaVerificationAlgorithm, Curve),
    P521,
    Ed,
}

/// What an EC key's PKCS#8 form holds before the key.
#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

static ALGORITHMS: [Algorithm; 13] = [
    Algorithm { name: "HS256", kind: Kind::Hmac(hmac::HMAC_SHA256) },
    Algorithm { name: "HS384", kind: Kind::Hmac(hmac::HMAC_SHA384) },
    Algorithm { name: "HS512", kind: Kind::Hmac(hmac::HMAC_SHA512) },
    Algorithm {
        name: "RS256",
        kind: Kind::Rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
    },
    Algorithm {
        name: "RS384",
        kind: Kind::Rsa(&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
    },
    Algorithm {
        name: "RS512",
        kind: Kind::Rsa(&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
    },
    Algorithm {
        name: "PS256",
        kind: Kind::Rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
    },
    Algorithm {
        name: "PS384",
        kind: Kind::Rsa(&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
    },
    Algorithm {
        name: "PS512",
        kind: Kind::Rsa(&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
    },
    Algorithm {
        name: "ES256",
        kind: Kind::Ec(
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &signature::ECDSA_P256_SHA256_FIXED,
            Curve::P256,
        ),
    },
    Algorithm {
        name: "ES384",
        kind: Kind::Ec(
            &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            &signature::ECDSA_P384_SHA384_FIXED,
            Curve::P384,
        ),
    },
    Algorithm { name: "ES512", kind: Kind::P521 },
    Algorithm { name: "EdDSA", kind: Kind::Ed },
];

impl Algorithm {
    fn keys(&self, private: Option<&[u8]>, public: Option<&[u8]>) -> Result<(Option<Secret>, Public), Error> {
        if let Kind::Hmac(algorithm) = self.kind {
            let secret = private.filter(|secret| !secret.is_empty()).ok_or(Error::MissingKey)?;
            let key = hmac::Key::new(algorithm, secret);
            return Ok((Some(Secret::Hmac(key.clone())), Public::Hmac(key)));
        }
        let secret = private.map(|pem| self.secret(pem)).transpose()?;
        let given = public.map(public_bytes).transpose()?;
        let own = secret.as_ref().and_then(Secret::public_bytes);
        let bytes = match (given, own) {
            (Some(given), Some(own)) if given != own => return Err(Error::KeyMismatch),
            (_, Some(own)) => own,
            (Some(given), None) => given,
            (None, None) => return Err(Error::MissingKey),
        };
        let verification: &'static dyn signature::VerificationAlgorithm = match self.kind {
            Kind::Rsa(_, parameters) => parameters,
            Kind::Ec(_, verification, _) => verification,
            Kind::P521 => {
                let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&bytes);
                let key = key.map_err(|_| Error::Key("not a point of P-521".to_owned()))?;
                return Ok((secret, Public::P521(key)));
            }
            Kind::Ed | Kind::Hmac(_) => &signature::ED25519,
        };
        Ok((secret, Public::Asymmetric(UnparsedPublicKey::new(verification, bytes))))
    }

    fn secret(&self, pem: &[u8]) -> Result<Secret, Error> {
        let (label, der) = read_pem(pem)?;
        match self.kind {
            Kind::Hmac(algorithm) => Ok(Secret::Hmac(hmac::Key::new(algorithm, pem))),
            Kind::Rsa(encoding, _) => {
                let key = match label.as_str() {
                    "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
                    _ => RsaKeyPair::from_pkcs8(&der),
                };
                Ok(Secret::Rsa(key.map_err(rejected)?, encoding))
            }
            Kind::Ec(signing, _, curve) => {
                let der = if label == "EC PRIVATE KEY" { pkcs8_of_sec1(&der, curve) } else { der };
                let key = EcdsaKeyPair::from_pkcs8(signing, &der, &SystemRandom::new());
                Ok(Secret::Ec(key.map_err(rejected)?))
            }
            Kind::P521 => {
                let unusable = || Error::Key("not a private key of P-521".to_owned());
                let key = match label.as_str() {
                    "EC PRIVATE KEY" => p521::SecretKey::from_sec1_der(&der).map_err(|_| unusable())?,
                    _ => p521::SecretKey::from_pkcs8_der(&der).map_err(|_| unusable())?,
                };
                Ok(Secret::P521(key.into()))
            }
            Kind::Ed => Ok(Secret::Ed(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(rejected)?)),
        }
    }
}

impl Secret {
    fn public_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Hmac(_) => None,
            Self::Rsa(key, _) => Some(key.public_key().as_ref().to_vec()),
            Self::Ec(key) => Some(key.public_key().as_ref().to_vec()),
            Self::P521(key) => Some(key.verifying_key().to_sec1_point(false).as_bytes().to_vec()),
            Self::Ed(key) => Some(key.public_key().as_ref().to_vec()),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn rejected(error: ring::error::KeyRejected) -> Error {
    Error::Key(error.to_string())
}

/// The first block of a PEM file: its label and contents.
fn read_pem(pem: &[u8]) -> Result<(String, Vec<u8>), Error> {
    let unreadable = || Error::Key("not a PEM file".to_owned());
    let text = std::str::from_utf8(pem).map_err(|_| unreadable())?;
    let (_, rest) = text.split_once("-----BEGIN ").ok_or_else(unreadable)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(unreadable)?;
    // A file of OpenSSL may hold the curve's name before the key.
    if label == "EC PARAMETERS" {
        return read_pem(rest.split_once("-----END EC PARAMETERS-----").ok_or_else(unreadable)?.1.as_bytes());
    }
    let (body, _) = rest.split_once("-----END ").ok_or_else(unreadable)?;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| unreadable())?;
    Ok((label.to_owned(), der))
}

/// The key itself in a public key file, as `ring` takes it.
fn public_bytes(pem: &[u8]) -> Result<Vec<u8>, Error> {
    let (label, der) = read_pem(pem)?;
    if label == "RSA PUBLIC KEY" {
        return Ok(der);
    }
    let unreadable = |_| Error::Key("not a public key".to_owned());
    if label == "CERTIFICATE" {
        let (_, certificate) =
            x509_parser::certificate::X509Certificate::from_der(&der).map_err(unreadable)?;
        return Ok(certificate.public_key().subject_public_key.data.to_vec());
    }
    let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(unreadable)?;
    Ok(info.subject_public_key.data.to_vec())
}

/// SEC 1's ECPrivateKey inside PKCS#8's PrivateKeyInfo. `ring` takes no parameters inside the inner one, which OpenSSL
/// writes; they are left out.
fn pkcs8_of_sec1(sec1: &[u8], curve: Curve) -> Vec<u8> {
    let algorithm: &[u8] = match curve {
        Curve::P256 => &[
            0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07,
        ],
        Curve::P384 => &[
            0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
            0x00, 0x22,
        ],
    };
    let inner = without_parameters(sec1).unwrap_or_else(|| sec1.to_vec());
    let body = [&[0x02, 0x01, 0x00][..], algorithm, &tlv(0x04, &inner)].concat();
    tlv(0x30, &body)
}

/// ECPrivateKey ::= SEQUENCE { version, privateKey, [0] parameters, [1] publicKey }, without the `[0]`.
fn without_parameters(sec1: &[u8]) -> Option<Vec<u8>> {
    let (_, mut rest, _) = read_tlv(sec1)?;
    let mut kept = Vec::new();
    while !rest.is_empty() {
        let (tag, _, whole) = read_tlv(rest)?;
        if tag != 0xa0 {
            kept.extend_from_slice(whole);
        }
        rest = &rest[whole.len()..];
    }
    Some(tlv(0x30, &kept))
}

/// The first DER value: tag, contents, and all of its bytes.
fn read_tlv(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, head) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81 => (usize::from(*rest.first()?), 3),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), 4),
        _ => return None,
    };
    Some((tag, der.get(head..head + len)?, der.get(..head + len)?))
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match contents.len() {
        len @ 0..=0x7f => out.push(len as u8),
        len @ 0x80..=0xff => out.extend_from_slice(&[0x81, len as u8]),
        len => out.extend_from_slice(&[0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(contents);
    out
}

/// A fresh secret for HMAC, for tests and for members that keep their key to themselves.
///
/// # Errors
/// When the machine has no randomness.
pub fn random_secret() -> Result<[u8; 32], Error> {
    let secret = rand::generate::<[u8; 32]>(&SystemRandom::new());
    Ok(secret.map_err(|_| Error::Key("no randomness".to_owned()))?.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str, der: &[u8]) -> Vec<u8> {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into_bytes()
    }

    fn check(key: &Key) {
        let claims = json!({ "username": "alice", "revision": 7, "exp": 1000 });
        let token = key.sign(&claims).unwrap();
        let found = key.verify(&token, 999).unwrap();
        assert_eq!(Value::Object(found), claims);
        assert_eq!(key.verify(&token, 1000), Err(Error::Time));
        let mut forged = token.into_bytes();
        let middle = forged.iter().position(|&b| b == b'.').unwrap() + 3;
        forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
        assert!(key.verify(std::str::from_utf8(&forged).unwrap(), 999).is_err());
    }

    #[test]
    fn tokens_of_each_kind_come_back() {
        check(&Key::new("HS256", Some(b"secret"), None).unwrap());
        check(&Key::new("HS512", Some(b"secret"), None).unwrap());
        let random = SystemRandom::new();
        for (name, algorithm) in [
            ("ES256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            ("ES384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        ] {
            let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            check(&Key::new(name, Some(&pem("PRIVATE KEY", der.as_ref())), None).unwrap());
        }
        let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        check(&Key::new("EdDSA", Some(&pem("PRIVATE KEY", der.as_ref())), None).unwrap());
    }

    /// Key and token were made by OpenSSL 3.0.
    #[test]
    fn an_es512_token_of_openssl_is_genuine() {
        let public = concat!(
            "-----BEGIN PUBLIC KEY-----\n",
            "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAMHoLyu8U1J4Vrakj3IZAC6/+YeDS3VFNMYiebMRDt6Q4enejJo/7",
            "ELihXrZ3sQyMVUfxeXd/ByJzkVFiQRVrhAQBEh7ozwBREsMqWQcn/mlFnVxxd6u5bNoPBsi9wjLNbZzQs7mqaUWQ",
            "Loes+HhOaXYxWq1wBKvJRl4NP6OaHXoT4mY=",
            "\n-----END PUBLIC KEY-----\n",
        );
        let token = concat!(
            "eyJhbGciOiJFUzUxMiIsInR5cCI6IkpXVCJ9.",
            "eyJ1c2VybmFtZSI6ImFsaWNlIiwicmV2aXNpb24iOjcsImV4cCI6MTAwMH0.",
            "AboH0qY7WjyFa4x02GLfM608_KpYGzcbk0mdpriEWvMEu01_-x55v8atgqJ7kIxb9a6O5eATP-erFp-hukvSN0px",
            "AdMn-4oTqZrvKhpdJUBqZfhCYkc-g2OX5orfsq3hmagprORu51Ah40x8VweofNCWijC1hzTfJQN7XpEza9OUpYKC",
        );
        let key = Key::new("ES512", None, Some(public.as_bytes())).unwrap();
        let claims = key.verify(token, 999).unwrap();
        assert_eq!(Value::Object(claims), json!({ "username": "alice", "revision": 7, "exp": 1000 }));
        assert_eq!(key.verify(&token[..token.len() - 4], 999), Err(Error::Signature));
        let (body, signature) = token.rsplit_once('.').unwrap();
        let other = format!("{body}.B{}", &signature[1..]);
        assert_eq!(key.verify(&other, 999), Err(Error::Signature));
        assert_eq!(key.sign(&json!({})), Err(Error::VerifyOnly));
    }

    #[test]
    fn es512_takes_keys_in_both_forms() {
        // SEC 1 with a key of 66 bytes, and PKCS#8 around it (ecPublicKey, secp521r1).
        let sec1 = tlv(0x30, &[&[0x02, 0x01, 0x01][..], &tlv(0x04, &[1; 66])].concat());
        let curve = [
            0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
            0x00, 0x23,
        ];
        let pkcs8 = tlv(0x30, &[&[0x02, 0x01, 0x00][..], &curve, &tlv(0x04, &sec1)].concat());
        let [one, other] = [("EC PRIVATE KEY", &sec1), ("PRIVATE KEY", &pkcs8)]
            .map(|(label, der)| Key::new("ES512", Some(&pem(label, der)), None).unwrap());
        check(&one);
        check(&other);
        let token = one.sign(&json!({ "username": "bob" })).unwrap();
        assert!(other.verify(&token, 0).is_ok());
        assert!(matches!(Key::new("ES512", Some(&pem("PRIVATE KEY", &sec1)), None), Err(Error::Key(_))));
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        let refused =
            |algorithm, private, public| Key::new(algorithm, private, public).map(|_| ()).unwrap_err();
        assert_eq!(refused("HS256", None, None), Error::MissingKey);
        assert_eq!(refused("ES256", None, None), Error::MissingKey);
        assert!(matches!(refused("none", None, None), Error::Algorithm(_)));
        assert!(matches!(refused("RS256", Some(b"secret"), None), Error::Key(_)));
        let key = Key::new("HS256", Some(b"secret"), None).unwrap();
        for garbage in ["", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert!(key.verify(garbage, 0).is_err(), "{garbage}");
        }
    }
}
