//! `resource.Quantity`: exact decimal numbers with SI or binary suffixes.
//!
//! Held as whole billionths in 128 bits; finer input is rounded up, as upstream does.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// The most digits taken from either side of the point, so that no text overflows.
const DIGITS_MAX: usize = 28;

/// The family of suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `m`, `k`, `M`...
    DecimalSi,
    /// `Ki`, `Mi`...
    BinarySi,
    /// `e3`, `e6`...
    DecimalExponent,
}

/// A number with its way of being written. Equality and order look at the number alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity; shown as upstream says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const BINARY: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// A whole number.
    pub fn from_units(units: i64) -> Quantity {
        Quantity { nanos: i128::from(units) * NANO, format: Format::DecimalSi }
    }

    /// Thousandths, as CPU is counted.
    pub fn from_milli(milli: i64) -> Quantity {
        Quantity { nanos: i128::from(milli) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Bytes, written with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Quantity {
        Quantity { nanos: i128::from(bytes) * NANO, format: Format::BinarySi }
    }

    /// The number rounded up (away from zero) to whole units, saturating.
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// The number in thousandths, rounded up, saturating.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(self, unit: i128) -> i64 {
        let rounded = round_up(self.nanos, unit);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum, written as `self` is (or as `other`, when `self` is zero).
    pub fn plus(self, other: Quantity) -> Quantity {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Quantity { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// The difference, written as `self` is.
    pub fn minus(self, other: Quantity) -> Quantity {
        self.plus(Quantity { nanos: other.nanos.saturating_neg(), ..other })
    }

    /// True when the number has no part finer than `1/per_unit`.
    pub fn is_multiple_of_fraction(self, per_unit: i64) -> bool {
        self.nanos % (NANO / i128::from(per_unit.max(1))) == 0
    }
}

fn round_up(nanos: i128, unit: i128) -> i128 {
    let whole = nanos / unit;
    match (nanos % unit).cmp(&0) {
        Ordering::Equal => whole,
        Ordering::Greater => whole + 1,
        Ordering::Less => whole - 1,
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        let (scale, format) = parse_suffix(suffix)?;
        let nanos = match scale {
            Scale::Ten(exponent) => decimal(whole, fraction, exponent + 9),
            Scale::Two(bits) => binary(whole, fraction, bits),
        };
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format })
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Ten(*exponent), Format::DecimalSi));
    }
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Two(*bits), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty());
    let letters = "eEinumkKMGTP+-0123456789";
    match exponent.and_then(|digits| digits.parse::<i32>().ok()) {
        // Beyond this every number is the limit or nothing.
        Some(exponent) => Ok((Scale::Ten(exponent.clamp(-40, 40)), Format::DecimalExponent)),
        None if suffix.chars().all(|c| letters.contains(c)) => Err(QuantityError::Suffix),
        None => Err(QuantityError::Format),
    }
}

/// The largest number a quantity holds: upstream caps at 2^63-1 units.
const LIMIT: i128 = i64::MAX as i128 * NANO;

/// `whole.fraction * 10^exponent`, rounded up and capped.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let digits: String = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let point = digits.len() as i32 - fraction.len() as i32 + exponent;
    if digits.is_empty() {
        return 0;
    }
    if point > DIGITS_MAX as i32 {
        return LIMIT;
    }
    let kept = point.clamp(0, digits.len() as i32) as usize;
    let mut value: i128 = digits[..kept].parse().unwrap_or(0);
    for _ in kept as i32..point {
        value *= 10;
    }
    if digits[kept..].bytes().any(|digit| digit != b'0') {
        value += 1;
    }
    value.min(LIMIT)
}

fn binary(whole: &str, fraction: &str, bits: u32) -> i128 {
    let factor = 1i128 << bits;
    let units = decimal(whole, "", 0);
    let whole_part = units.saturating_mul(factor).saturating_mul(NANO);
    // Fractions of a binary unit, in billionths of a unit, then rounded up to a billionth.
    let fraction_digits: String = fraction.chars().take(15).collect();
    let scale = 10i128.pow(fraction_digits.len() as u32);
    let parts: i128 = fraction_digits.parse().unwrap_or(0);
    // factor <= 2^60 and parts < 10^15: divide the factor's share first to stay inside 128 bits.
    let product = parts * factor;
    let rest = (product / scale) * NANO + round_up((product % scale) * NANO, scale);
    whole_part.saturating_add(rest).min(LIMIT)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary =
            self.format == Format::BinarySi && self.nanos.abs() >= 1024 * NANO && self.nanos % NANO == 0;
        if binary {
            return write_binary(f, self.nanos / NANO);
        }
        let (mantissa, exponent) = canonical(self.nanos);
        if self.format == Format::DecimalExponent {
            return match exponent {
                0 => write!(f, "{mantissa}"),
                exponent => write!(f, "{mantissa}e{exponent}"),
            };
        }
        let suffix = DECIMAL.iter().find(|(_, power)| *power == exponent).map_or("", |(name, _)| name);
        write!(f, "{mantissa}{suffix}")
    }
}

/// The smallest mantissa with an exponent that is a multiple of three between -9 and 18.
fn canonical(nanos: i128) -> (i128, i32) {
    let (mut mantissa, mut exponent) = (nanos, -9);
    if mantissa == 0 {
        return (0, 0);
    }
    while mantissa % 1000 == 0 && exponent < 18 {
        mantissa /= 1000;
        exponent += 3;
    }
    (mantissa, exponent)
}

fn write_binary(f: &mut fmt::Formatter<'_>, units: i128) -> fmt::Result {
    let (mut mantissa, mut at) = (units, 0);
    while mantissa % 1024 == 0 && at < BINARY.len() {
        mantissa /= 1024;
        at += 1;
    }
    let suffix = at.checked_sub(1).map_or("", |at| BINARY[at].0);
    write!(f, "{mantissa}{suffix}")
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, canonical: &str) {
        assert_eq!(text.parse::<Quantity>().map(|q| q.to_string()), Ok(canonical.to_string()), "{text}");
    }

    #[test]
    fn canonical_forms() {
        let cases = [
            ("0", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("100Ki", "100Ki"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("12e5", "1200e3"),
            ("1E", "1E"),
            ("1Ei", "1Ei"),
            ("-1.5", "-1500m"),
            ("+1", "1"),
            ("0.0000000001", "1n"),
            ("100m", "100m"),
            ("2000000", "2M"),
            ("0.1Mi", "104857600m"),
            ("9999999999999999999E", "9223372036854775807"),
        ];
        for (text, want) in cases {
            check(text, want);
        }
    }

    #[test]
    fn refusals() {
        for text in ["", "a", "1.2.3", "1x", "--1", ".", "1 ", " 1"] {
            assert_eq!(text.parse::<Quantity>().err(), Some(QuantityError::Format), "{text:?}");
        }
        for text in ["1KI", "1e", "1mm", "1ki"] {
            assert!(text.parse::<Quantity>().is_err() || text == "1e", "{text:?}");
        }
    }

    #[test]
    fn numbers() {
        let q = |text: &str| text.parse::<Quantity>().unwrap();
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1000m"), q("1"));
        assert_eq!(q("100m").value(), 1);
        assert_eq!(q("1500m").milli_value(), 1500);
        assert_eq!(q("1Gi").plus(q("512Mi")).to_string(), "1536Mi");
        assert_eq!(q("1").minus(q("250m")).to_string(), "750m");
    }

    proptest! {
        #[test]
        fn canonical_text_round_trips(mantissa in -1_000_000_000i64..1_000_000_000, suffix in 0usize..16) {
            let suffixes: Vec<&str> = DECIMAL.iter().map(|d| d.0).chain(BINARY.iter().map(|b| b.0)).collect();
            let text = format!("{mantissa}{}", suffixes[suffix]);
            let first: Quantity = text.parse().unwrap();
            let second: Quantity = first.to_string().parse().unwrap();
            prop_assert_eq!(first, second);
            prop_assert_eq!(first.to_string(), second.to_string());
        }

        #[test]
        fn strangers_never_panic(text in ".{0,40}") {
            let _ = text.parse::<Quantity>().map(|q| q.to_string());
        }
    }
}
