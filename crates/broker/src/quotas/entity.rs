//! Whom a quota is for, which quotas there are, and what of an alteration is refused (`ClientQuotaControlManager`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use kafka_wire::ErrorCode;

use crate::catalog::Refusal;
use crate::entries::Key;

pub(crate) const USER: &str = "user";
pub(crate) const CLIENT_ID: &str = "client-id";
pub(crate) const IP: &str = "ip";

pub(crate) const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
pub(crate) const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
pub(crate) const REQUEST_PERCENTAGE: &str = "request_percentage";
pub(crate) const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";
pub(crate) const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";

/// Longer names are not for quotas: they are keys in the store.
const NAME_BYTES_MAX: usize = 1024;
/// How far from a whole number a value may be that has to be one.
const FRACTION_MAX: f64 = 1e-6;

/// Names by type; no name stands for all that have no quota of their own.
pub(crate) type Entity = BTreeMap<String, Option<String>>;

/// Limits by key.
pub(crate) type Limits = BTreeMap<String, f64>;

impl Key for Entity {
    const PREFIX: &'static str = super::QUOTAS;
    const WHAT: &'static str = "entities with quotas";

    fn path(&self) -> String {
        serde_json::to_string(self).expect("a map of strings")
    }

    fn parse(path: &str) -> Option<Self> {
        serde_json::from_str(path).ok()
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(ErrorCode::InvalidRequest, text))
}

/// Checks types, names and their combination.
pub(crate) fn check(entity: &Entity) -> Result<(), Refusal> {
    if entity.is_empty() {
        return invalid("Invalid empty client quota entity");
    }
    for (kind, name) in entity {
        if ![USER, CLIENT_ID, IP].contains(&kind.as_str()) {
            return invalid(format!("Unhandled client quota entity type: {kind}"));
        }
        match name {
            Some(name) if name.is_empty() => return invalid(format!("Empty {kind} not supported")),
            Some(name) if name.len() > NAME_BYTES_MAX => {
                return invalid(format!("The name of {kind} is longer than {NAME_BYTES_MAX} bytes"));
            }
            _ => {}
        }
    }
    match entity.get(IP) {
        Some(_) if entity.len() > 1 => {
            invalid("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")
        }
        Some(Some(address)) if address.parse::<IpAddr>().is_err() => {
            invalid(format!("{address} is not a valid IP or resolvable host."))
        }
        _ => Ok(()),
    }
}

/// Checks a limit for an entity that is checked.
pub(crate) fn check_limit(entity: &Entity, key: &str, value: f64) -> Result<(), Refusal> {
    let whole_max = match (key, entity.contains_key(IP)) {
        (PRODUCER_BYTE_RATE | CONSUMER_BYTE_RATE, false) => Some((i64::MAX as f64, "a LONG")),
        (REQUEST_PERCENTAGE | CONTROLLER_MUTATION_RATE, false) => None,
        (CONNECTION_CREATION_RATE, true) => Some((f64::from(i32::MAX), "an INT")),
        _ => return invalid(format!("Invalid configuration key {key}")),
    };
    if value.is_nan() || value <= 0.0 {
        return invalid(format!("Quota {key} must be greater than 0"));
    }
    match whole_max {
        Some((most, kind)) if value > most => {
            invalid(format!("Proposed value for {key} is too large for {kind}."))
        }
        Some(_) if (value % 1.0).abs() > FRACTION_MAX => {
            invalid(format!("{key} cannot be a fractional value."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(parts: &[(&str, Option<&str>)]) -> Entity {
        parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect()
    }

    #[test]
    fn what_is_refused() {
        let of = |parts: &[(&str, Option<&str>)]| check(&entity(parts)).map_err(|refusal| refusal.text);
        assert_eq!(of(&[("user", Some("u"))]), Ok(()));
        assert_eq!(of(&[("user", None), ("client-id", Some("c"))]), Ok(()));
        assert_eq!(of(&[("ip", Some("::1"))]), Ok(()));
        assert_eq!(of(&[]), Err("Invalid empty client quota entity".into()));
        let text = "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId";
        assert_eq!(of(&[("ip", None), ("user", None)]), Err(text.into()));
        assert_eq!(of(&[("host", None)]), Err("Unhandled client quota entity type: host".into()));
        assert_eq!(of(&[("user", Some(""))]), Err("Empty user not supported".into()));
        assert!(of(&[("user", Some(&*"x".repeat(2000)))]).is_err());
        assert_eq!(of(&[("ip", Some("no"))]), Err("no is not a valid IP or resolvable host.".into()));
        let limit = |kind, key, value| {
            check_limit(&entity(&[(kind, None)]), key, value).map_err(|refusal| refusal.text)
        };
        assert_eq!(limit("user", "producer_byte_rate", 5.0), Ok(()));
        assert_eq!(limit("client-id", "request_percentage", 0.5), Ok(()));
        assert_eq!(limit("ip", "connection_creation_rate", 2.0), Ok(()));
        let text = "Invalid configuration key producer_byte_rate";
        assert_eq!(limit("ip", "producer_byte_rate", 5.0), Err(text.into()));
        let text = "Quota producer_byte_rate must be greater than 0";
        assert_eq!(limit("user", "producer_byte_rate", 0.0), Err(text.into()));
        let text = "producer_byte_rate cannot be a fractional value.";
        assert_eq!(limit("user", "producer_byte_rate", 5.5), Err(text.into()));
        assert!(limit("user", "consumer_byte_rate", f64::NAN).is_err());
        assert!(limit("user", "consumer_byte_rate", f64::INFINITY).is_err());
        assert_eq!(limit("user", "controller_mutation_rate", 0.1), Ok(()));
        let text = "Invalid configuration key controller_mutation_rate";
        assert_eq!(limit("ip", "controller_mutation_rate", 5.0), Err(text.into()));
    }
}
