//! The part of OpenTelemetry's metrics (OTLP protobuf) that Kafka's clients push: gauges and sums.
//!
//! ```text
//! MetricsData 1* ResourceMetrics 1 Resource (1* attribute)
//!                                2* ScopeMetrics 2* Metric 1 name, 5 Gauge, 7 Sum (2 temporality, 3 is monotonic)
//!                                                          Gauge, Sum 1* point: 4 double, 6 int, 7* attribute
//! attribute: 1 key, 2 value (1 text, 2 bool, 3 int, 4 double)
//! ```
//! Histograms and summaries, which no client of Kafka pushes, are skipped. Every length is checked against what is left.

/// Points of one push: more than a client has series for, and far fewer than would fit its bytes.
const POINTS_MAX: usize = 20_000;
/// Bytes of the names and labels of one push's series, which every point of a metric has to itself: a long name must not
/// be multiplied by many points. Points beyond are skipped; a client's thousand series take a tenth of it.
const KEY_BYTES_MAX: usize = 4 << 20;
/// Labels of a series.
const LABELS_MAX: usize = 16;
/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;

/// What tells series apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SeriesKey {
    pub name: String,
    pub labels: Vec<(String, String)>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub key: SeriesKey,
    pub number: f64,
    pub is_total: bool,
    pub is_delta: bool,
}

/// A series' value as it is exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Value {
    pub number: f64,
    pub is_total: bool,
}

/// The points of one push.
#[derive(Debug, Default)]
struct Points {
    all: Vec<Point>,
    /// Bytes of their names and labels.
    key_bytes: usize,
}

impl Points {
    /// Whether there is room for a point with this name and these labels, which it takes then.
    fn has_room(&mut self, name: &str, labels: &[(String, String)], own: &[(String, String)]) -> bool {
        let texts = labels.iter().chain(own).map(|(key, value)| key.len() + value.len());
        let key_bytes = self.key_bytes + name.len() + texts.sum::<usize>();
        let room = self.all.len() < POINTS_MAX && key_bytes <= KEY_BYTES_MAX;
        if room {
            self.key_bytes = key_bytes;
        }
        room
    }
}

impl Point {
    /// The value of a series that begins with this point.
    pub(crate) fn first(&self) -> Value {
        Value { number: self.number, is_total: self.is_total }
    }
}

impl Value {
    /// Notes the next point: what grew since the last is added, all else replaces.
    pub(crate) fn take(&mut self, point: &Point) {
        self.number =
            if point.is_total && point.is_delta { self.number + point.number } else { point.number };
        self.is_total = point.is_total;
    }
}

/// A protobuf field.
enum Field<'a> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message, one after the other; None in place of one that is broken.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    /// Hands each field to `each` until one is broken or refused.
    fn each(mut self, mut each: impl FnMut(u64, Field<'a>) -> Option<()>) -> Option<()> {
        while !self.0.is_empty() {
            let (number, field) = self.field()?;
            each(number, field)?;
        }
        Some(())
    }
}

/// The points of a `MetricsData`; None when it is malformed.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Point>> {
    let mut points = Points::default();
    Fields(bytes).each(|number, field| match (number, field) {
        (1, Field::Bytes(resource)) => resource_metrics(resource, &mut points),
        _ => Some(()),
    })?;
    Some(points.all)
}

fn resource_metrics(bytes: &[u8], points: &mut Points) -> Option<()> {
    let mut labels = Vec::new();
    let mut scopes = Vec::new();
    Fields(bytes).each(|number, field| {
        match (number, field) {
            (1, Field::Bytes(resource)) => Fields(resource).each(|number, field| match (number, field) {
                (1, Field::Bytes(pair)) => attribute(pair, &mut labels),
                _ => Some(()),
            })?,
            (2, Field::Bytes(scope)) => scopes.push(scope),
            _ => {}
        }
        Some(())
    })?;
    for scope in scopes {
        Fields(scope).each(|number, field| match (number, field) {
            (2, Field::Bytes(one)) => metric(one, &labels, points),
            _ => Some(()),
        })?;
    }
    Some(())
}

fn metric(bytes: &[u8], labels: &[(String, String)], points: &mut Points) -> Option<()> {
    let (mut name, mut gauge, mut sum) = (String::new(), None, None);
    Fields(bytes).each(|number, field| {
        match (number, field) {
            (1, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?.to_owned(),
            (5, Field::Bytes(body)) => gauge = Some(body),
            (7, Field::Bytes(body)) => sum = Some(body),
            _ => {}
        }
        Some(())
    })?;
    let (mut is_delta, mut is_monotonic) = (false, false);
    if let Some(sum) = sum {
        Fields(sum).each(|number, field| {
            match (number, field) {
                (2, Field::Number(temporality)) => is_delta = temporality == DELTA,
                (3, Field::Number(monotonic)) => is_monotonic = monotonic != 0,
                _ => {}
            }
            Some(())
        })?;
    }
    for body in gauge.into_iter().chain(sum) {
        Fields(body).each(|number, field| match (number, field) {
            (1, Field::Bytes(point)) if points.all.len() < POINTS_MAX => {
                let (number, own) = data_point(point)?;
                if !points.has_room(&name, labels, &own) {
                    return Some(());
                }
                let mut labels = labels.to_vec();
                labels.extend(own);
                labels.truncate(LABELS_MAX);
                labels.sort_unstable();
                labels.dedup_by(|a, b| a.0 == b.0);
                let key = SeriesKey { name: name.clone(), labels };
                points.all.push(Point { key, number, is_total: is_monotonic, is_delta });
                Some(())
            }
            _ => Some(()),
        })?;
    }
    Some(())
}

fn data_point(bytes: &[u8]) -> Option<(f64, Vec<(String, String)>)> {
    let (mut value, mut labels) = (0.0, Vec::new());
    Fields(bytes).each(|number, field| {
        match (number, field) {
            (4, Field::Fixed64(bits)) => value = f64::from_bits(bits),
            (6, Field::Fixed64(whole)) => value = whole as i64 as f64,
            (7, Field::Bytes(pair)) => attribute(pair, &mut labels)?,
            _ => {}
        }
        Some(())
    })?;
    Some((value, labels))
}

fn attribute(bytes: &[u8], labels: &mut Vec<(String, String)>) -> Option<()> {
    let (mut key, mut value) = (String::new(), String::new());
    Fields(bytes).each(|number, field| {
        match (number, field) {
            (1, Field::Bytes(text)) => key = std::str::from_utf8(text).ok()?.to_owned(),
            (2, Field::Bytes(any)) => Fields(any).each(|number, field| {
                match (number, field) {
                    (1, Field::Bytes(text)) => value = std::str::from_utf8(text).ok()?.to_owned(),
                    (2, Field::Number(flag)) => value = (flag != 0).to_string(),
                    (3, Field::Number(whole)) => value = (whole as i64).to_string(),
                    (4, Field::Fixed64(bits)) => value = f64::from_bits(bits).to_string(),
                    _ => {}
                }
                Some(())
            })?,
            _ => {}
        }
        Some(())
    })?;
    if labels.len() < LABELS_MAX {
        labels.push((key, value));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(number: u8, body: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, body.len() as u8], body].concat()
    }

    fn pair(key: &str, value: &str) -> Vec<u8> {
        [nested(1, key.as_bytes()), nested(2, &nested(1, value.as_bytes()))].concat()
    }

    fn data(metrics: &[Vec<u8>]) -> Vec<u8> {
        let scope: Vec<u8> = metrics.iter().flat_map(|metric| nested(2, metric)).collect();
        nested(1, &[nested(1, &nested(1, &pair("rack", "a"))), nested(2, &scope)].concat())
    }

    fn sample() -> Vec<u8> {
        let double =
            [&[4 << 3 | 1][..], &2.5f64.to_bits().to_le_bytes(), &nested(7, &pair("node", "1"))].concat();
        let gauge = [nested(1, b"org.apache.kafka.x"), nested(5, &nested(1, &double))].concat();
        let whole = [&[6 << 3 | 1][..], &7u64.to_le_bytes()].concat();
        let sum = [nested(1, b"count"), nested(7, &[nested(1, &whole), vec![2 << 3, 1, 3 << 3, 1]].concat())]
            .concat();
        data(&[gauge, sum])
    }

    #[test]
    fn gauges_and_sums() {
        let points = decode(&sample()).unwrap();
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(points[0].key.labels, [label("node", "1"), label("rack", "a")]);
        assert_eq!((points[0].number, points[0].is_total), (2.5, false));
        assert_eq!((points[1].number, points[1].is_total, points[1].is_delta), (7.0, true, true));
        let mut value = points[1].first();
        value.take(&points[1]);
        assert_eq!(value.number, 14.0);
    }

    #[test]
    fn a_long_name_is_not_multiplied_by_many_points() {
        let long = |number: u8, body: &[u8]| {
            let size = [body.len() as u8 | 0x80, (body.len() >> 7) as u8 | 0x80, (body.len() >> 14) as u8];
            [&[number << 3 | 2][..], &size, body].concat()
        };
        let name = "n".repeat(500_000);
        let metric = [long(1, name.as_bytes()), long(5, &nested(1, &[]).repeat(20_000))].concat();
        let points = decode(&long(1, &long(2, &long(2, &metric)))).expect("well formed");
        assert_eq!(points.len(), KEY_BYTES_MAX / name.len());
    }

    #[test]
    fn broken_bytes_are_refused_or_read_but_never_panic() {
        let good = sample();
        for cut in 0..good.len() {
            let _ = decode(&good[..cut]);
            let mut flipped = good.clone();
            flipped[cut] ^= 0x81;
            let _ = decode(&flipped);
        }
        assert_eq!(decode(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
        assert_eq!(decode(&[0x0b]), None);
    }
}
