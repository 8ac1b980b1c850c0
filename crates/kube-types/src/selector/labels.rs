//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`, and the `LabelSelector` object.

use crate::names;
use serde_json::{Map, Value};

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    /// Also holds when the label is absent.
    NotIn,
    Exists,
    DoesNotExist,
    /// Whole numbers.
    GreaterThan,
    LessThan,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// Requirements that must all hold; none matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    /// Made from an absent selector object, which matches nothing.
    pub nothing: bool,
}

impl LabelSelector {
    /// Parses the query form. The error is the message of a 400.
    pub fn parse(text: &str) -> Result<LabelSelector, String> {
        let tokens = lex(text)?;
        let mut parser = Parser { tokens, at: 0 };
        let requirements =
            parser.requirements().map_err(|why| format!("unable to parse requirement: {why}"))?;
        for one in &requirements {
            validate(one).map_err(|why| format!("unable to parse requirement: {why}"))?;
        }
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// From a `LabelSelector` object: absent matches nothing, empty matches everything.
    pub fn from_object(object: Option<&Value>) -> Result<LabelSelector, String> {
        let Some(object) = object.filter(|one| !one.is_null()) else {
            return Ok(LabelSelector { requirements: Vec::new(), nothing: true });
        };
        let mut requirements: Vec<Requirement> =
            equalities(object.get("matchLabels").and_then(Value::as_object)).collect();
        for expression in object.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(from_expression(expression)?);
        }
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// From a plain map, as services select pods. An empty or absent map matches nothing.
    pub fn from_map(map: Option<&Map<String, Value>>) -> LabelSelector {
        let requirements: Vec<Requirement> = equalities(map).collect();
        LabelSelector { nothing: requirements.is_empty(), requirements }
    }

    /// True when it matches every object.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// True when all requirements hold for these labels.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_with(|key| labels?.get(key)?.as_str())
    }

    /// As `matches`, over any lookup.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|one| one.holds(lookup(&one.key)))
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = || value.is_some_and(|value| self.values.iter().any(|one| one == value));
        let compare = |holds: fn(i64, i64) -> bool| {
            let left = value.and_then(|value| value.parse().ok());
            let right = self.values.first().and_then(|value| value.parse().ok());
            left.zip(right).is_some_and(|(left, right)| holds(left, right))
        };
        match self.operator {
            Operator::In => among(),
            Operator::NotIn => !among(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(|left, right| left > right),
            Operator::LessThan => compare(|left, right| left < right),
        }
    }
}

fn equalities(map: Option<&Map<String, Value>>) -> impl Iterator<Item = Requirement> {
    map.into_iter().flatten().map(|(key, value)| Requirement {
        key: key.clone(),
        operator: Operator::In,
        values: vec![value.as_str().unwrap_or("").to_string()],
    })
}

fn from_expression(expression: &Value) -> Result<Requirement, String> {
    let key = expression.get("key").and_then(Value::as_str).unwrap_or("").to_string();
    let word = expression.get("operator").and_then(Value::as_str).unwrap_or("");
    let operator = match word {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(format!("\"{other}\" is not a valid label selector operator")),
    };
    let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
    let values = values.filter_map(Value::as_str).map(str::to_string).collect();
    Ok(Requirement { key, operator, values })
}

fn validate(one: &Requirement) -> Result<(), String> {
    if let Some(why) = names::qualified_name(&one.key).first() {
        return Err(format!("key: Invalid value: {:?}: {why}", one.key));
    }
    if matches!(one.operator, Operator::GreaterThan | Operator::LessThan) {
        let number = one.values.first().and_then(|value| value.parse::<i64>().ok());
        return number.map(|_| ()).ok_or_else(|| {
            let value = one.values.first().map_or("", String::as_str);
            format!("values[0][{}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer", one.key)
        });
    }
    for (at, value) in one.values.iter().enumerate() {
        if let Some(why) = names::label_value(value).first() {
            return Err(format!("values[{at}][{}]: Invalid value: {value:?}: {why}", one.key));
        }
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Sign(&'static str),
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Sign(sign) => sign,
        }
    }
}

const SIGNS: &[&str] = &["!=", "==", "=", "!", ",", "(", ")", ">", "<"];

fn lex(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_string()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut found = Vec::new();
        if self.tokens.is_empty() {
            return Ok(found);
        }
        loop {
            found.push(self.requirement()?);
            match self.next() {
                None => return Ok(found),
                Some(Token::Sign(",")) if self.at < self.tokens.len() => {}
                Some(Token::Sign(",")) => return Err("found '', expected: identifier after ','".into()),
                Some(other) => {
                    return Err(format!("found '{}', expected: ',' or 'end of string'", other.text()));
                }
            }
        }
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += usize::from(token.is_some());
        token
    }

    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", Token::text)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == "!";
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(word)) => word,
            other => {
                let found = other.as_ref().map_or("", Token::text);
                return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
            }
        };
        let exists = matches!(self.peek(), "" | ",");
        if negated || exists {
            let operator = if negated { Operator::DoesNotExist } else { Operator::Exists };
            return Ok(Requirement { key, operator, values: Vec::new() });
        }
        let (operator, values) = self.comparison()?;
        Ok(Requirement { key, operator, values })
    }

    fn comparison(&mut self) -> Result<(Operator, Vec<String>), String> {
        let word = self.next().map(|token| token.text().to_string()).unwrap_or_default();
        match word.as_str() {
            "=" | "==" => Ok((Operator::In, vec![self.value()?])),
            "!=" => Ok((Operator::NotIn, vec![self.value()?])),
            ">" => Ok((Operator::GreaterThan, vec![self.value()?])),
            "<" => Ok((Operator::LessThan, vec![self.value()?])),
            "in" => Ok((Operator::In, self.values()?)),
            "notin" => Ok((Operator::NotIn, self.values()?)),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    /// One value, which may be empty.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            "" | "," => Ok(String::new()),
            _ => match self.next() {
                Some(Token::Word(word)) => Ok(word),
                other => {
                    let found = other.as_ref().map_or("", Token::text);
                    Err(format!("found '{found}', expected: identifier"))
                }
            },
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        if self.peek() != "(" {
            return Err(format!("found '{}' expected: '('", self.peek()));
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            match self.next() {
                Some(Token::Word(word)) => values.push(word),
                // `(a,)` and `()` hold the empty value.
                Some(Token::Sign(sign @ (")" | ","))) => {
                    values.push(String::new());
                    self.at -= usize::from(sign == ")" || sign == ",");
                }
                other => {
                    let found = other.as_ref().map_or("", Token::text);
                    return Err(format!("found '{found}', expected: ',', ')' or identifier"));
                }
            }
            match self.next() {
                Some(Token::Sign(")")) => break,
                Some(Token::Sign(",")) => {}
                other => {
                    let found = other.as_ref().map_or("", Token::text);
                    return Err(format!("found '{found}', expected: ',' or ')'"));
                }
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn query_grammar() {
        let labels = json!({"a": "b", "tier": "web", "n": "5", "e": ""});
        let check = |text: &str, want: bool| {
            let selector = LabelSelector::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(selector.matches(labels.as_object()), want, "{text}");
        };
        for text in [
            "",
            "a",
            "a=b",
            "a==b",
            "a = b",
            "x!=y",
            "a in (b,c)",
            "a notin (c)",
            "x notin (c)",
            "!x",
            "a=b,tier=web",
            "n>4",
            "n<6",
            "e=",
            "e in ()",
            "a in (b), !x",
            "in=",
            "e in (,x)",
        ] {
            check(text, text != "in=");
        }
        for text in ["x", "a=c", "a!=b", "a in (c)", "!a", "a notin (b)", "n>5", "x>1", "a=b,x"] {
            check(text, false);
        }
    }

    #[test]
    fn refusals() {
        for text in
            ["=", "a=b,", ",", "a in", "a in b", "a in (b", "a b", "!", "a>x", "a=b c", "/=a", "a=b=c", "a=$"]
        {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn objects() {
        let labels = json!({"a": "b"});
        let check = |object: Value, want: bool| {
            let object = Some(&object).filter(|one| !one.is_null());
            assert_eq!(LabelSelector::from_object(object).unwrap().matches(labels.as_object()), want);
        };
        check(Value::Null, false);
        check(json!({}), true);
        check(json!({"matchLabels": {"a": "b"}}), true);
        check(json!({"matchLabels": {"a": "c"}}), false);
        check(json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["c"]}]}), true);
        check(json!({"matchExpressions": [{"key": "z", "operator": "Exists"}]}), false);
        assert!(!LabelSelector::from_map(None).matches(labels.as_object()));
    }
}
