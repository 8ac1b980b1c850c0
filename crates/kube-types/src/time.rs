//! Times as the API writes them: RFC 3339 in UTC, whole seconds (`Time`) or six decimals (`MicroTime`).
//!
//! Inside, a time is whole microseconds since the Unix epoch.

use jiff::{Timestamp, tz::TimeZone};

/// `2026-01-02T03:04:05Z`.
pub fn format_seconds(micros: i64) -> String {
    format(micros, "%Y-%m-%dT%H:%M:%SZ")
}

/// `2026-01-02T03:04:05.123456Z`.
pub fn format_micros(micros: i64) -> String {
    format!("{}.{:06}Z", format(micros, "%Y-%m-%dT%H:%M:%S"), micros.rem_euclid(1_000_000))
}

fn format(micros: i64, form: &str) -> String {
    // Floor, so that times before the epoch do not round up.
    let whole = micros.div_euclid(1_000_000);
    let stamp = Timestamp::from_second(whole).unwrap_or(Timestamp::UNIX_EPOCH);
    stamp.to_zoned(TimeZone::UTC).strftime(form).to_string()
}

/// Microseconds since the epoch of an RFC 3339 text with any offset; `None` when it is none.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    // jiff reads more than RFC 3339: insist on the form Go reads.
    let fixed =
        bytes.len() >= 20 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':';
    if !fixed || text.contains('[') {
        return None;
    }
    text.parse::<Timestamp>().ok().map(|stamp| stamp.as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let cases = [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
            ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z"),
            ("2026-01-02T03:04:05+01:00", "2026-01-02T02:04:05Z", "2026-01-02T02:04:05.000000Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.500000Z"),
        ];
        for (text, seconds, micros) in cases {
            let parsed = parse(text).unwrap();
            assert_eq!(format_seconds(parsed), seconds);
            assert_eq!(format_micros(parsed), micros);
        }
        for bad in ["", "2026-01-02", "2026-01-02 03:04:05Z", "2026-13-02T03:04:05Z", "now"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
