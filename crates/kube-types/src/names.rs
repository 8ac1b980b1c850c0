//! What names, labels, keys and ports may look like, with upstream's texts for what they may not, and the
//! suffixes of `generateName`.
//!
//! Rules return the list of complaints, empty when the text is fine (`k8s.io/apimachinery/pkg/util/validation`).

/// The letters of generated suffixes: no vowels and no lookalikes, so no words come out.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// The length of a generated suffix.
pub const SUFFIX_LENGTH: usize = 5;
/// The longest base of a generated name: a label's 63 less the suffix.
pub const BASE_LENGTH_MAX: usize = 58;

/// A name from `generateName` and random numbers: the base cut to 58 bytes and five letters.
pub fn generate(base: &str, random: u64) -> String {
    let mut cut = base.len().min(BASE_LENGTH_MAX);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base[..cut].to_string();
    name.push_str(&suffix(random));
    name
}

/// Five letters drawn from `random`.
pub fn suffix(mut random: u64) -> String {
    let letters = SUFFIX_ALPHABET.len() as u64;
    let mut text = String::with_capacity(SUFFIX_LENGTH);
    for _ in 0..SUFFIX_LENGTH {
        text.push(char::from(SUFFIX_ALPHABET[(random % letters) as usize]));
        random /= letters;
    }
    text
}

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const LABEL_1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const QUALIFIED_MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// The longest label, qualified name's name part and label value.
pub const LABEL_LENGTH_MAX: usize = 63;
/// The longest subdomain.
pub const SUBDOMAIN_LENGTH_MAX: usize = 253;

/// `must be no more than 63 bytes`.
pub fn max_length(bytes: usize) -> String {
    format!("must be no more than {bytes} bytes")
}

fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let shown: Vec<String> = examples.iter().map(|one| format!("'{one}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", shown.join(" or "))
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|b| lower_or_digit(*b)) && bytes.last().is_some_and(|b| lower_or_digit(*b));
    ends && bytes.iter().all(|b| lower_or_digit(*b) || *b == b'-')
}

/// A prefix may end in a dash, for a suffix follows.
fn masked(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => format!("{rest}a"),
        _ => text.to_string(),
    }
}

/// RFC 1123 label, as a namespace's name.
pub fn label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut found = Vec::new();
    if name.len() > LABEL_LENGTH_MAX {
        found.push(max_length(LABEL_LENGTH_MAX));
    }
    if !is_label(&name) {
        found.push(regex_error(LABEL_MESSAGE, LABEL, &["my-name", "123-abc"]));
    }
    found
}

/// RFC 1123 subdomain, as most names.
pub fn subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut found = Vec::new();
    if name.len() > SUBDOMAIN_LENGTH_MAX {
        found.push(max_length(SUBDOMAIN_LENGTH_MAX));
    }
    if !name.split('.').all(is_label) {
        found.push(regex_error(SUBDOMAIN_MESSAGE, SUBDOMAIN, &["example.com"]));
    }
    found
}

/// RFC 1035 label, as a service's name.
pub fn label_1035(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut found = Vec::new();
    if name.len() > LABEL_LENGTH_MAX {
        found.push(max_length(LABEL_LENGTH_MAX));
    }
    if !is_label(&name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        found.push(regex_error(LABEL_1035_MESSAGE, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    found
}

/// A segment of a URL path, as RBAC names.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    let mut found = Vec::new();
    if !prefix && (name == "." || name == "..") {
        found.push(format!("may not be '{name}'"));
    }
    for bad in ["/", "%"].into_iter().filter(|bad| name.contains(bad)) {
        found.push(format!("may not contain '{bad}'"));
    }
    found
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A key of labels, annotations, taints: `[prefix/]name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    const PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut found = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                found.push("prefix part must be non-empty".to_string());
            } else {
                found.extend(subdomain(prefix, false).into_iter().map(|one| format!("prefix part {one}")));
            }
            *name
        }
        _ => {
            let message = regex_error(QUALIFIED_MESSAGE, PATTERN, EXAMPLES);
            found.push(format!(
                "a qualified name {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return found;
        }
    };
    if name.is_empty() {
        found.push("name part must be non-empty".to_string());
    } else if name.len() > LABEL_LENGTH_MAX {
        found.push(format!("name part {}", max_length(LABEL_LENGTH_MAX)));
    }
    if !is_qualified_part(name) {
        found.push(format!("name part {}", regex_error(QUALIFIED_MESSAGE, PATTERN, EXAMPLES)));
    }
    found
}

/// A label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        found.push(max_length(LABEL_LENGTH_MAX));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        found.push(regex_error(
            &format!("a valid label must be an empty string or {}", &QUALIFIED_MESSAGE["must ".len()..]),
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    found
}

/// The name of an environment variable: printable ASCII but `=` (KEP-4369).
pub fn environment_name(text: &str) -> Vec<String> {
    let fine = !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    if fine {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into(),
    ]
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_key(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        found.push(max_length(SUBDOMAIN_LENGTH_MAX));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        found.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." | ".." => found.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => found.push("must not start with '..'".into()),
        _ => {}
    }
    found
}

/// A port's name (IANA service name).
pub fn port_name(text: &str) -> Vec<String> {
    const LENGTH_MAX: usize = 15;
    let mut found = Vec::new();
    if text.len() > LENGTH_MAX {
        found.push(max_length(LENGTH_MAX));
    }
    if text.is_empty() || !text.bytes().all(|b| lower_or_digit(b) || b == b'-') {
        found.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        found.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        found.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        found.push("must not begin or end with a hyphen".into());
    }
    found
}

/// A port's number.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_accept_and_refuse() {
        type Rule = fn(&str) -> Vec<String>;
        let cases: &[(Rule, &[&str], &[&str])] = &[
            (|t| label(t, false), &["a", "a-b", "0"], &["", "-a", "a-", "A", "a.b", "a_b"]),
            (|t| label(t, true), &["a-", "a"], &["-", "A-"]),
            (|t| subdomain(t, false), &["a.b", "a-b.c"], &["", "a..b", ".a", "a.-b", "Ä"]),
            (|t| label_1035(t, false), &["a1"], &["1a", "a.b"]),
            (|t| path_segment(t, false), &["system:node", "a b"], &[".", "..", "a/b", "a%b"]),
            (qualified_name, &["a", "A.b_c", "x.io/Y"], &["", "/a", "a/", "a/b/c", "X.io/y", "-a"]),
            (label_value, &["", "a_b"], &["a b", "-"]),
            (environment_name, &["A", "a.b-c", "1"], &["", "a=b", "é"]),
            (config_key, &["a.b"], &["", "..a", "a/b", ".", ".."]),
            (port_name, &["http", "a-1"], &["", "1", "a--b", "-a", "abcdefghijklmnop", "A"]),
        ];
        for (at, (rule, good, bad)) in cases.iter().enumerate() {
            for text in *good {
                assert_eq!(rule(text), Vec::<String>::new(), "case {at}: {text:?}");
            }
            for text in *bad {
                assert_ne!(rule(text), Vec::<String>::new(), "case {at}: {text:?}");
            }
        }
    }

    #[test]
    fn texts_are_upstreams() {
        assert_eq!(
            subdomain("A", false),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            label("A", false),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(
            label_value("a b"),
            [
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ]
        );
    }

    #[test]
    fn generated_names_are_cut_and_spelled() {
        assert_eq!(generate("a-", 0), "a-bbbbb");
        assert_eq!(generate(&"x".repeat(80), 1).len(), 63);
        assert!(suffix(u64::MAX).bytes().all(|b| SUFFIX_ALPHABET.contains(&b)));
    }
}
