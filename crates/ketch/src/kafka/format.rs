//! How a record is printed.

use std::io::Write;

use anyhow::{Result, bail};
use kafka_wire::record::Record;
use serde_json::{Map, Value, json};

/// A record and where it was.
pub struct Shown<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub record: &'a Record<'a>,
}

/// A parsed `--format`, or JSON.
pub enum Format {
    Json,
    Parts(Vec<Part>),
}

/// A piece of a format.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

impl Format {
    /// # Errors
    /// When the format names a field that does not exist.
    pub fn new(format: Option<&str>, json: bool) -> Result<Self> {
        if json {
            return Ok(Self::Json);
        }
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut letters = format.unwrap_or("%s\\n").chars();
        while let Some(letter) = letters.next() {
            let part = match (letter, letter == '%' || letter == '\\') {
                ('%', _) => match letters.next() {
                    Some('t') => Part::Topic,
                    Some('p') => Part::Partition,
                    Some('o') => Part::Offset,
                    Some('T') => Part::Timestamp,
                    Some('k') => Part::Key,
                    Some('s') => Part::Value,
                    Some('h') => Part::Headers,
                    Some('%') => {
                        text.push('%');
                        continue;
                    }
                    other => bail!("--format: there is no %{}", other.map(String::from).unwrap_or_default()),
                },
                (_, true) => {
                    text.push(match letters.next() {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('0') => '\0',
                        Some(other) => other,
                        None => '\\',
                    });
                    continue;
                }
                (letter, false) => {
                    text.push(letter);
                    continue;
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self::Parts(parts))
    }

    /// # Errors
    /// When standard output is closed.
    pub fn write(&self, out: &mut impl Write, shown: &Shown<'_>) -> std::io::Result<()> {
        match self {
            Self::Json => writeln!(out, "{}", json(shown)),
            Self::Parts(parts) => parts.iter().try_for_each(|part| write_part(out, part, shown)),
        }
    }
}

fn write_part(out: &mut impl Write, part: &Part, shown: &Shown<'_>) -> std::io::Result<()> {
    let record = shown.record;
    match part {
        Part::Text(text) => out.write_all(text.as_bytes()),
        Part::Topic => out.write_all(shown.topic.as_bytes()),
        Part::Partition => write!(out, "{}", shown.partition),
        Part::Offset => write!(out, "{}", record.offset),
        Part::Timestamp => write!(out, "{}", record.timestamp),
        Part::Key => out.write_all(record.key.unwrap_or_default()),
        Part::Value => out.write_all(record.value.unwrap_or_default()),
        Part::Headers => {
            for (index, header) in record.headers.clone().enumerate() {
                out.write_all(if index == 0 { b"" } else { b"," })?;
                out.write_all(header.key)?;
                out.write_all(b"=")?;
                out.write_all(header.value.unwrap_or_default())?;
            }
            Ok(())
        }
    }
}

/// Bytes that are no UTF-8 are shown with replacement characters.
pub fn text(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| String::from_utf8_lossy(bytes).into_owned().into())
}

/// A record's headers as an object; of those with the same name the last.
pub fn headers(record: &Record<'_>) -> Map<String, Value> {
    let named = |header: kafka_wire::record::Header<'_>| {
        (String::from_utf8_lossy(header.key).into_owned(), text(header.value))
    };
    record.headers.clone().map(named).collect()
}

fn json(shown: &Shown<'_>) -> Value {
    let record = shown.record;
    json!({
        "topic": shown.topic,
        "partition": shown.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": text(record.key),
        "value": text(record.value),
        "headers": headers(record),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let Ok(Format::Parts(parts)) = Format::new(Some("%p:%o %% %s\\n"), false) else { panic!("refused") };
        let text = |text: &str| Part::Text(text.into());
        let wanted = [Part::Partition, text(":"), Part::Offset, text(" % "), Part::Value, text("\n")];
        assert_eq!(parts, wanted);
        assert!(Format::new(Some("%x"), false).is_err());
    }
}
