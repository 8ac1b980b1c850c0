//! Names of topics and the text form of ids.

use kafka_wire::Uuid;

/// The topic that holds committed offsets and groups.
pub(crate) const OFFSETS: &str = "__consumer_offsets";
/// The topic that holds transactional ids and their transactions.
pub(crate) const TRANSACTIONS: &str = "__transaction_state";
/// Directories add up to 5 digits and a dash, file names take at most 255 bytes (Topic.java).
const NAME_LENGTH_MAX: usize = 249;

/// Whether clients may not make or delete it.
pub(crate) fn is_internal(name: &str) -> bool {
    name == OFFSETS || name == TRANSACTIONS
}

/// Whether a topic may have this name; else why not, in Kafka's words.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Err("Topic name is invalid: the empty string is not allowed".into())
    } else if name == "." || name == ".." {
        Err(format!("Topic name is invalid: '{name}' is not allowed"))
    } else if name.len() > NAME_LENGTH_MAX {
        let text = "the length of the name is longer than the max allowed length";
        Err(format!("Topic name is invalid: {text} {NAME_LENGTH_MAX}, topic: {name}"))
    } else if !name.chars().all(legal) {
        let text = "contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'";
        Err(format!("Topic name is invalid: '{name}' {text}"))
    } else {
        Ok(())
    }
}

/// Names that differ only in `.` and `_` collide in Kafka's metrics and are refused.
pub(crate) fn collide(a: &str, b: &str) -> bool {
    a != b && a.len() == b.len() && a.replace('.', "_") == b.replace('.', "_")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's text form of an id: base64url of its 16 bytes, without padding.
pub(crate) fn base64url(id: &Uuid) -> String {
    let number = id.as_u128();
    // 21 groups of six bits from the top, and two bits that remain.
    let top = (0..21).map(|n| (number >> (122 - 6 * n)) as usize & 63);
    top.chain([(number as usize & 3) << 4]).map(|group| ALPHABET[group] as char).collect()
}

/// The id that Kafka's text form stands for.
pub(crate) fn from_base64url(text: &str) -> Option<Uuid> {
    let bytes = text.as_bytes();
    let digit = |byte: &u8| ALPHABET.iter().position(|known| known == byte).map(|at| at as u128);
    let (last, top) = bytes.split_last().filter(|_| bytes.len() == 22)?;
    let number = top.iter().try_fold(0, |number, byte| Some(number << 6 | digit(byte)?))?;
    // The last group has two bits; what follows them is padding.
    Some(Uuid::from_u128(number << 2 | digit(last)? >> 4))
}

/// A fresh id whose text does not begin with a dash (it would look like an option on a command line).
pub(crate) fn random_id() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if !base64url(&id).starts_with('-') {
            return id;
        }
    }
}

/// Ids in the store's JSON: the usual text with dashes.
pub(crate) mod uuid_text {
    use kafka_wire::Uuid;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        Uuid::parse_str(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(collide("a.b", "a_b") && !collide("a.b", "a.b") && !collide("a.b", "a.c"));
    }

    #[test]
    fn ids_as_kafka_writes_them() {
        assert_eq!(base64url(&Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64url(&Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(base64url(&Uuid::max()), "_____________________w");
        for id in [Uuid::nil(), Uuid::from_u128(1), Uuid::max(), Uuid::new_v4()] {
            assert_eq!(from_base64url(&base64url(&id)), Some(id));
        }
        assert_eq!((from_base64url("AAA"), from_base64url("AAAAAAAAAAAAAAAAAAAA*Q")), (None, None));
    }
}
