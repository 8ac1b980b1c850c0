//! Service-account tokens: ES256 JSON web tokens bound to an account and, mostly, to a pod (KEP-1205, KEP-4193).
//!
//! ```text
//! header  {"alg":"ES256","kid":"<base64url(sha256(SPKI))>"}
//! claims  iss, sub, aud, exp, iat, nbf, jti, kubernetes.io{namespace, serviceaccount, pod?, node?, secret?}
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::UserInfo;
use crate::user::split_service_account;

/// The issuer of every token and the audience of the API server, upstream's default.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Longest token looked at; real ones stay under 2 KiB.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Clock difference forgiven when a token claims to be issued in the future, seconds.
const LEEWAY_S: i64 = 60;

/// DER of a P-256 SubjectPublicKeyInfo up to the point itself.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the key cannot be used: {0}")]
    Key(String),
    #[error("the token is malformed")]
    Malformed,
    #[error("the token was issued by somebody else")]
    Issuer,
    #[error("no key fits the token")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience { found: Vec<String>, wanted: Vec<String> },
}

/// A named object a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The private claims, under `kubernetes.io`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serviceaccount: Option<Bound>,
    /// When the kubelet asked for an extended token: the time after which use is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// What a token says. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io", default)]
    pub private: Private,
    pub nbf: i64,
    pub sub: String,
}

impl Claims {
    /// The account's namespace and name.
    #[must_use]
    pub fn account(&self) -> Option<(&str, &str)> {
        split_service_account(&self.sub)
    }

    /// The user these claims stand for, with upstream's extra fields for credential, pod and node.
    #[must_use]
    pub fn user(&self) -> Option<UserInfo> {
        let (namespace, name) = self.account()?;
        let uid = self.private.serviceaccount.as_ref().map_or("", |a| &a.uid);
        let mut user = UserInfo::service_account(namespace, name, uid);
        let mut extra = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.into()]);
            }
        };
        if !self.jti.is_empty() {
            extra("credential-id", &format!("JTI={}", self.jti));
        }
        for (key, bound) in [("pod", &self.private.pod), ("node", &self.private.node)] {
            if let Some(bound) = bound {
                extra(&format!("{key}-name"), &bound.name);
                extra(&format!("{key}-uid"), &bound.uid);
            }
        }
        Some(user)
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Aud {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Aud::deserialize(deserializer)? {
        Aud::One(one) => vec![one],
        Aud::Many(many) => many,
    })
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// Signs tokens.
pub struct Signer {
    key: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
}

impl Signer {
    /// A signer from a PKCS#8 P-256 key (DER).
    ///
    /// # Errors
    /// When the key is not such a key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|e| Error::Key(e.to_string()))?;
        let public = PublicKey::from_point(key.public_key().as_ref())?;
        Ok(Self { key, public, random })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The compact serialization of the signed claims.
    ///
    /// # Errors
    /// When the machine has no randomness to sign with.
    pub fn sign(&self, claims: &Claims) -> Result<String, Error> {
        let header = Header { alg: "ES256".into(), kid: self.public.kid.clone() };
        let body = format!("{}.{}", encode(&header)?, encode(claims)?);
        let signature = self.key.sign(&self.random, body.as_bytes()).map_err(|_| Error::Signature)?;
        Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

fn encode(part: &impl Serialize) -> Result<String, Error> {
    serde_json::to_vec(part).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| Error::Malformed)
}

/// A P-256 public key with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// base64url of the SHA-256 of the SubjectPublicKeyInfo.
    pub kid: String,
    /// 0x04, x, y.
    point: Vec<u8>,
}

impl PublicKey {
    /// From an uncompressed point of 65 bytes.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_point(point: &[u8]) -> Result<Self, Error> {
        if point.len() != 65 || point[0] != 4 {
            return Err(Error::Key("not an uncompressed P-256 point".into()));
        }
        let spki: Vec<u8> = P256_SPKI_PREFIX.iter().chain(point).copied().collect();
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &spki));
        Ok(Self { kid, point: point.to_vec() })
    }

    /// From a SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// When it does not hold a P-256 key.
    pub fn from_spki(der: &[u8]) -> Result<Self, Error> {
        let point = der.strip_prefix(&P256_SPKI_PREFIX[..]);
        Self::from_point(point.ok_or_else(|| Error::Key("not a P-256 public key".into()))?)
    }

    /// The key as one entry of a JSON web key set.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let (x, y) = self.point[1..].split_at(32);
        json!({
            "use": "sig", "kty": "EC", "kid": self.kid, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }
}

/// The key set document (RFC 7517) for `/openid/v1/jwks`.
#[must_use]
pub fn jwks(keys: &[PublicKey]) -> Value {
    json!({ "keys": keys.iter().map(PublicKey::jwk).collect::<Vec<_>>() })
}

/// Reads a key set document. Keys of other kinds are left out.
///
/// # Errors
/// When the document is not a key set.
pub fn parse_jwks(document: &[u8]) -> Result<Vec<PublicKey>, Error> {
    let document: Value = serde_json::from_slice(document).map_err(|_| Error::Malformed)?;
    let keys = document["keys"].as_array().ok_or(Error::Malformed)?;
    Ok(keys.iter().filter_map(parse_jwk).collect())
}

fn parse_jwk(jwk: &Value) -> Option<PublicKey> {
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
    let (x, y) = (coordinate("x")?, coordinate("y")?);
    PublicKey::from_point(&[&[4], &x[..], &y[..]].concat()).ok()
}

/// Checks tokens against keys, issuer and time.
#[derive(Debug, Clone)]
pub struct Verifier {
    issuer: String,
    keys: Vec<PublicKey>,
}

impl Verifier {
    /// A verifier for tokens of one issuer.
    #[must_use]
    pub fn new(issuer: impl Into<String>, keys: Vec<PublicKey>) -> Self {
        Self { issuer: issuer.into(), keys }
    }

    /// The keys it trusts.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The claims of a token that is genuine, current and meant for one of `audiences`.
    ///
    /// # Errors
    /// Says which of these it is not. [`Error::Issuer`] and [`Error::Malformed`] mean: ask another authenticator.
    pub fn verify(&self, token: &str, audiences: &[String], now_s: i64) -> Result<Claims, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Malformed);
        }
        let (body, signature) = token.rsplit_once('.').ok_or(Error::Malformed)?;
        let (header, claims) = body.split_once('.').ok_or(Error::Malformed)?;
        let header: Header = decode(header)?;
        let claims: Claims = decode(claims)?;
        if claims.iss != self.issuer {
            return Err(Error::Issuer);
        }
        self.check_signature(&header, body, signature)?;
        check_times(&claims, now_s)?;
        check_audience(&claims, audiences)?;
        Ok(claims)
    }

    fn check_signature(&self, header: &Header, body: &str, signature: &str) -> Result<(), Error> {
        if header.alg != "ES256" {
            return Err(Error::UnknownKey);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Error::Malformed)?;
        let mut fitting =
            self.keys.iter().filter(|k| header.kid.is_empty() || k.kid == header.kid).peekable();
        if fitting.peek().is_none() {
            return Err(Error::UnknownKey);
        }
        let genuine = |key: &PublicKey| {
            signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point)
                .verify(body.as_bytes(), &signature)
                .is_ok()
        };
        if fitting.any(genuine) { Ok(()) } else { Err(Error::Signature) }
    }
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Error> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Error::Malformed)
}

fn check_times(claims: &Claims, now_s: i64) -> Result<(), Error> {
    if now_s >= claims.exp {
        return Err(Error::Expired);
    }
    if now_s + LEEWAY_S < claims.nbf { Err(Error::NotYetValid) } else { Ok(()) }
}

fn check_audience(claims: &Claims, wanted: &[String]) -> Result<(), Error> {
    if claims.aud.iter().any(|a| wanted.contains(a)) {
        return Ok(());
    }
    Err(Error::Audience { found: claims.aud.clone(), wanted: wanted.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Signer::from_pkcs8(key.as_ref()).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            aud: vec![DEFAULT_ISSUER.into()],
            exp: 2000,
            iat: 1000,
            iss: DEFAULT_ISSUER.into(),
            jti: "id".into(),
            private: Private {
                namespace: "default".into(),
                pod: Some(Bound { name: "web".into(), uid: "p1".into() }),
                serviceaccount: Some(Bound { name: "builder".into(), uid: "s1".into() }),
                ..Private::default()
            },
            nbf: 1000,
            sub: "system:serviceaccount:default:builder".into(),
        }
    }

    fn check(change: impl FnOnce(&mut Claims), now_s: i64, expect: Result<(), Error>) {
        let signer = signer();
        let mut said = claims();
        change(&mut said);
        let token = signer.sign(&said).unwrap();
        let keys = parse_jwks(jwks(&[signer.public().clone()]).to_string().as_bytes()).unwrap();
        let verifier = Verifier::new(DEFAULT_ISSUER, keys);
        let got = verifier.verify(&token, &[DEFAULT_ISSUER.into()], now_s);
        assert_eq!(got.map(|c| assert_eq!(c, said)), expect);
    }

    #[test]
    fn tokens_are_checked() {
        check(|_| (), 1500, Ok(()));
        check(|_| (), 2000, Err(Error::Expired));
        check(|_| (), 900, Err(Error::NotYetValid));
        check(|c| c.iss = "https://elsewhere".into(), 1500, Err(Error::Issuer));
        let wanted = vec![DEFAULT_ISSUER.to_string()];
        check(
            |c| c.aud = vec!["vault".into()],
            1500,
            Err(Error::Audience { found: vec!["vault".into()], wanted }),
        );
    }

    #[test]
    fn forgeries_are_refused() {
        let (mine, theirs) = (signer(), signer());
        let verifier = Verifier::new(DEFAULT_ISSUER, vec![mine.public().clone()]);
        let audiences = [DEFAULT_ISSUER.to_string()];
        let token = theirs.sign(&claims()).unwrap();
        assert_eq!(verifier.verify(&token, &audiences, 1500), Err(Error::UnknownKey));
        let mut token = mine.sign(&claims()).unwrap();
        let end = token.pop().unwrap();
        token.push(if end == 'A' { 'Q' } else { 'A' });
        assert!(verifier.verify(&token, &audiences, 1500).is_err());
        for garbage in ["", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
            assert_eq!(verifier.verify(garbage, &audiences, 1500), Err(Error::Malformed), "{garbage}");
        }
    }

    #[test]
    fn claims_become_a_user() {
        let user = claims().user().unwrap();
        assert_eq!(user.name, "system:serviceaccount:default:builder");
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
        assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=id"]);
    }
}
