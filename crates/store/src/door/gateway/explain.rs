//! Why JSON is not the message that it should be, in the words of Go's libraries: first what is no JSON at all (facts: Go's
//! encoding/json `scanner.go`), then what is no message (facts: google.golang.org/protobuf encoding/protojson `decode.go`).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Values in values that are looked into; the reader behind this refuses deeper ones, too.
const DEPTH_MAX: usize = 120;

enum Fault {
    Text(String),
    /// Too deep to say.
    Unknown,
}

type Checked<T = ()> = Result<T, Fault>;

/// What is wrong with the first JSON value of `json` as a message of this kind; None when nothing is, or it is not known.
pub(super) fn explain(json: &[u8], message: &MessageDescriptor) -> Option<String> {
    let checked =
        Scan { bytes: json, at: 0 }.value(0).and_then(|()| Scan { bytes: json, at: 0 }.message(message, 0));
    match checked {
        Ok(()) | Err(Fault::Unknown) => None,
        Err(Fault::Text(text)) => Some(text),
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The syntax.
impl Scan<'_> {
    fn peek(&self) -> Checked<u8> {
        self.bytes.get(self.at).copied().ok_or_else(|| Fault::Text("unexpected EOF".to_owned()))
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Checked<u8> {
        self.skip_space();
        self.peek()
    }

    fn wrong<T>(&self, place: &str) -> Checked<T> {
        Err(Fault::Text(format!("invalid character {} {place}", quoted(self.peek()?))))
    }

    fn value(&mut self, depth: usize) -> Checked {
        if depth > DEPTH_MAX {
            return Err(Fault::Unknown);
        }
        match self.next()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.wrong("looking for beginning of value"),
        }
    }

    fn object(&mut self, depth: usize) -> Checked {
        self.members(b'}', "after object key:value pair", |this| {
            if this.next()? != b'"' {
                return this.wrong("looking for beginning of object key string");
            }
            this.string()?;
            if this.next()? != b':' {
                return this.wrong("after object key");
            }
            this.at += 1;
            this.value(depth + 1)
        })
    }

    fn array(&mut self, depth: usize) -> Checked {
        self.members(b']', "after array element", |this| this.value(depth + 1))
    }

    /// What stands between the byte that opens something and the one that closes it, apart by commas.
    fn members(&mut self, close: u8, after: &str, mut each: impl FnMut(&mut Self) -> Checked) -> Checked {
        self.at += 1;
        if self.next()? == close {
            self.at += 1;
            return Ok(());
        }
        loop {
            each(self)?;
            match self.next()? {
                b',' => self.at += 1,
                byte if byte == close => break,
                _ => return self.wrong(after),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Checked {
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.escape()?,
                0..0x20 => return self.wrong("in string literal"),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Checked {
        self.at += 1;
        match self.peek()? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek()?.is_ascii_hexdigit() {
                        return self.wrong("in \\u hexadecimal character escape");
                    }
                    self.at += 1;
                }
            }
            _ => return self.wrong("in string escape code"),
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// A digit and all that follow it.
    fn some_digits(&mut self, place: &str) -> Checked {
        if !self.peek()?.is_ascii_digit() {
            return self.wrong(place);
        }
        self.digits();
        Ok(())
    }

    fn number(&mut self) -> Checked {
        self.at += usize::from(self.peek()? == b'-');
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.some_digits("in numeric literal")?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek()?, b'+' | b'-'));
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Checked {
        for expect in word.bytes() {
            if self.peek()? != expect {
                return self.wrong(&format!("in literal {word} (expecting '{}')", char::from(expect)));
            }
            self.at += 1;
        }
        Ok(())
    }
}

/// A byte as Go shows a character.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        7 => r"'\a'".to_owned(),
        8 => r"'\b'".to_owned(),
        11 => r"'\v'".to_owned(),
        12 => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0xa0 | 0xad => format!("'\\u{byte:04x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}

/// One value of text that is JSON, and where it begins.
struct Token<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Token<'_> {
    fn shown(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.raw)
    }

    /// What stands in a text; None where it is none.
    fn text(&self) -> Option<String> {
        self.raw.starts_with(b"\"").then(|| serde_json::from_slice(self.raw).ok()).flatten()
    }
}

/// The message, once the syntax is known to be right.
impl<'a> Scan<'a> {
    /// The token ahead: a text, number or word whole, of objects and lists the sign.
    fn token(&mut self) -> Checked<Token<'a>> {
        let first = self.next()?;
        let at = self.at;
        match first {
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => self.number()?,
            b't' | b'f' | b'n' => self.at += if first == b'f' { 5 } else { 4 },
            _ => self.at += 1,
        }
        Ok(Token { raw: self.bytes.get(at..self.at).unwrap_or_default(), at })
    }

    /// "line:column" of a place; columns count characters.
    fn place(&self, at: usize) -> String {
        let before = &self.bytes[..at];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[begin..]).chars().count() + 1;
        format!("line {line}:{column}")
    }

    fn unexpected<T>(&self, token: &Token<'_>) -> Checked<T> {
        let place = self.place(token.at);
        Err(Fault::Text(format!("proto: syntax error ({place}): unexpected token {}", token.shown())))
    }

    fn refuse<T>(&self, token: &Token<'_>, why: &str) -> Checked<T> {
        Err(Fault::Text(format!("proto: ({}): {why}", self.place(token.at))))
    }

    fn message(&mut self, message: &MessageDescriptor, depth: usize) -> Checked {
        if depth > DEPTH_MAX {
            return Err(Fault::Unknown);
        }
        let open = self.token()?;
        if open.raw != b"{" {
            return self.unexpected(&open);
        }
        let (mut seen, mut oneofs) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let name = self.token()?;
            match name.raw {
                b"}" => return Ok(()),
                b"," => continue,
                _ => {}
            }
            self.token()?; // the colon
            let named = name.text().unwrap_or_default();
            let field = message.get_field_by_json_name(&named).or_else(|| message.get_field_by_name(&named));
            let Some(field) = field else {
                self.value(depth)?;
                continue;
            };
            if !seen.insert(field.number()) {
                return self.refuse(&name, &format!("duplicate field {}", name.shown()));
            }
            if self.next()? == b'n' {
                self.token()?;
            } else if field.is_list() {
                self.list(&field, depth)?;
            } else {
                if let Some(oneof) = field.containing_oneof()
                    && !oneofs.insert(oneof.full_name().to_owned())
                {
                    let why =
                        format!("error parsing {}, oneof {} is already set", name.shown(), oneof.full_name());
                    return self.refuse(&name, &why);
                }
                self.single(&field, depth)?;
            }
        }
    }

    fn list(&mut self, field: &FieldDescriptor, depth: usize) -> Checked {
        let open = self.token()?;
        if open.raw != b"[" {
            return self.unexpected(&open);
        }
        loop {
            match self.next()? {
                b',' => self.at += 1,
                b']' => break,
                _ => self.single(field, depth)?,
            }
        }
        self.at += 1;
        Ok(())
    }

    fn single(&mut self, field: &FieldDescriptor, depth: usize) -> Checked {
        if let Kind::Message(message) = field.kind() {
            return self.message(&message, depth + 1);
        }
        let token = self.token()?;
        let (kind, fits) = fits(&field.kind(), &token);
        if fits {
            return Ok(());
        }
        let mut why = String::new();
        // Writing to a String does not fail.
        let _ = write!(why, "invalid value for {kind} field {}: {}", field.json_name(), token.shown());
        self.refuse(&token, &why)
    }
}

/// The name of a kind, and whether a token is a value of it.
fn fits(kind: &Kind, token: &Token<'_>) -> (&'static str, bool) {
    let whole = |min: i128, max: i128| {
        let text = token.text().unwrap_or_else(|| token.shown().into_owned());
        integer(&text).is_some_and(|number| (min..=max).contains(&number))
    };
    match kind {
        Kind::Bytes => ("bytes", token.text().is_some_and(|text| is_base64(&text))),
        Kind::String => ("string", token.text().is_some()),
        Kind::Bool => ("bool", matches!(token.raw, b"true" | b"false")),
        Kind::Enum(_) => {
            let named = token.text().is_some();
            ("enum", named || whole(i32::MIN.into(), i32::MAX.into()))
        }
        Kind::Int32 => ("int32", whole(i32::MIN.into(), i32::MAX.into())),
        Kind::Int64 => ("int64", whole(i64::MIN.into(), i64::MAX.into())),
        Kind::Uint32 => ("uint32", whole(0, u32::MAX.into())),
        Kind::Uint64 => ("uint64", whole(0, u64::MAX.into())),
        // etcd has none of the others: their reader says what it has to say.
        _ => ("", true),
    }
}

/// A whole number, however it is written (`1.0`, `1e2`).
fn integer(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let digit = text.trim_start_matches('-').bytes().next()?;
    let number: f64 = text.parse().ok().filter(|_| digit.is_ascii_digit())?;
    // Beyond that a fraction cannot be told.
    (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i128)
}

fn is_base64(text: &str) -> bool {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let alphabet = match text.contains(['-', '_']) {
        true => base64::alphabet::URL_SAFE,
        false => base64::alphabet::STANDARD,
    };
    GeneralPurpose::new(&alphabet, config).decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(service: &str, method: &str, json: &str, expect: &str) {
        let service = super::super::pool().get_service_by_name(service).unwrap();
        let method = service.methods().find(|m| m.name() == method).unwrap();
        let text = explain(json.as_bytes(), &method.input()).unwrap_or_default();
        assert_eq!(text, expect, "{json}");
    }

    /// What a real etcd says (`tests/gateway.rs` asks it).
    #[test]
    fn what_is_wrong_is_told_in_gos_words() {
        let range = |json, expect| check("etcdserverpb.KV", "Range", json, expect);
        range("{", "unexpected EOF");
        range("x", "invalid character 'x' looking for beginning of value");
        range("{\"key\":\"\u{1}\"}", r"invalid character '\x01' in string literal");
        range(r#"{"limit":-}"#, "invalid character '}' in numeric literal");
        range(r#"{"limit":1.}"#, "invalid character '}' after decimal point in numeric literal");
        range(r#"{"limit":1ex}"#, "invalid character 'x' in exponent of numeric literal");
        range(r#"{"key":"\uzz"}"#, "invalid character 'z' in \\u hexadecimal character escape");
        range(r#"{"x":[1 2]}"#, "invalid character '2' after array element");
        range("{\n \"key\":\n  7}", "proto: (line 3:3): invalid value for bytes field key: 7");
        range(r#"{"key":"YQ"} tail"#, "");
        range(r#"{"unknown":{"a":[{"key":5}]},"limit":"1.0","revision":1e2,"sort_order":"UP"}"#, "");
        let txn = |json, expect| check("etcdserverpb.KV", "Txn", json, expect);
        txn(r#"{"compare":5}"#, "proto: syntax error (line 1:12): unexpected token 5");
        txn(
            r#"{"success":[{"request_put":{"key":"YQ=="},"requestRange":{}}]}"#,
            r#"proto: (line 1:43): error parsing "requestRange", oneof etcdserverpb.RequestOp.request is already set"#,
        );
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        txn(&deep, "");
    }
}
