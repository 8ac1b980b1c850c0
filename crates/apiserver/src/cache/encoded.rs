//! An object as the store holds it: compact JSON without a resource version, which is put in while writing.
//!
//! ```text
//! {"apiVersion":"v1","data":{...},"kind":"ConfigMap","metadata":{ "name":"x",...}}
//!                                                    at ────────▲ "resourceVersion":"7",
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};

/// The store's bytes with the place where the resource version goes.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    raw: Bytes,
    /// Just behind `"metadata":{`.
    at: usize,
}

impl Encoded {
    /// None when the bytes are not an object with metadata.
    pub(crate) fn new(raw: Bytes) -> Option<Self> {
        let at = metadata_start(&raw)?;
        Some(Self { raw, at })
    }

    /// The object without its resource version.
    pub(crate) fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The bytes of the metadata, from its opening brace on.
    pub(crate) fn metadata(&self) -> &[u8] {
        &self.raw[self.at - 1..]
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// Writes the object as of `revision`.
    pub(crate) fn write(&self, revision: i64, out: &mut BytesMut) {
        let digits = revision.to_string();
        out.reserve(self.raw.len() + digits.len() + 24);
        out.put_slice(&self.raw[..self.at]);
        out.put_slice(b"\"resourceVersion\":\"");
        out.put_slice(digits.as_bytes());
        out.put_slice(if self.raw[self.at] == b'}' { b"\"" } else { b"\"," });
        out.put_slice(&self.raw[self.at..]);
    }
}

/// Where the members of the top-level `metadata` object begin. The bytes are the compact JSON of our own encoder.
fn metadata_start(json: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"metadata\":{";
    let (mut depth, mut at) = (0usize, 0);
    while at < json.len() {
        match json[at] {
            b'"' if depth == 1 && json[at..].starts_with(KEY) && json[at - 1] != b':' => {
                let start = at + KEY.len();
                return (start < json.len()).then_some(start);
            }
            b'"' => at = string_end(json, at)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The closing quote of the string that opens at `at`.
fn string_end(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += 1;
        match json.get(at)? {
            b'\\' => at += 1,
            b'"' => return Some(at),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expect: Option<&str>) {
        let written = Encoded::new(Bytes::copy_from_slice(json.as_bytes())).map(|e| {
            let mut out = BytesMut::new();
            e.write(7, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        });
        assert_eq!(written.as_deref(), expect, "{json}");
    }

    #[test]
    fn the_version_goes_into_the_right_metadata() {
        check(r#"{"metadata":{"name":"a"}}"#, Some(r#"{"metadata":{"resourceVersion":"7","name":"a"}}"#));
        check(r#"{"metadata":{}}"#, Some(r#"{"metadata":{"resourceVersion":"7"}}"#));
        check(
            r#"{"data":{"metadata":{},"x":"\"metadata\":{ \\"},"kind":"metadata","metadata":{"name":"a"}}"#,
            Some(
                r#"{"data":{"metadata":{},"x":"\"metadata\":{ \\"},"kind":"metadata","metadata":{"resourceVersion":"7","name":"a"}}"#,
            ),
        );
        for broken in ["", "{", "{}", "[]", "}", r#"{"a":"#, r#"{"metadata":{"#, r#"{"metadata":3}"#, "\"\\"]
        {
            check(broken, None);
        }
    }
}
