//! Who listens to a key: found without looking at those who do not.
//!
//! ```text
//! single keys    by key                       one look-up
//! prefixes       by prefix                    one look-up for each length of prefix there is
//! other spans    by start, those below a key  looked at one by one: clients hardly use them
//! ```
//! Those who listen to the same range share a group, so that what happened is put together once for all of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use store_api::{KeyRange, prefix_end};

/// Identity of a group.
pub(super) type GroupId = u64;

/// Groups by the keys of their range.
#[derive(Debug, Default)]
pub(super) struct Index {
    ids: BTreeMap<KeyRange, GroupId>,
    next_id: GroupId,
    keys: BTreeMap<Bytes, GroupId>,
    prefixes: BTreeMap<Bytes, GroupId>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<usize, usize>,
    /// Spans that are no prefixes: (start, end) to group.
    spans: BTreeMap<(Bytes, Bytes), GroupId>,
}

/// How a range is indexed.
enum Kind {
    Key(Bytes),
    Prefix(Bytes),
    Span(Bytes, Bytes),
}

fn kind(range: &KeyRange) -> Kind {
    match range {
        KeyRange::One(key) => Kind::Key(key.clone()),
        KeyRange::Span { start, end } if prefix_end(start) == *end => Kind::Prefix(start.clone()),
        KeyRange::Span { start, end } => Kind::Span(start.clone(), end.clone()),
    }
}

impl Index {
    /// The group of a range, made when it is new.
    pub(super) fn group(&mut self, range: &KeyRange) -> GroupId {
        if let Some(id) = self.ids.get(range) {
            return *id;
        }
        self.next_id += 1;
        let id = self.next_id;
        self.ids.insert(range.clone(), id);
        match kind(range) {
            Kind::Key(key) => drop(self.keys.insert(key, id)),
            Kind::Prefix(prefix) => {
                *self.lengths.entry(prefix.len()).or_default() += 1;
                self.prefixes.insert(prefix, id);
            }
            Kind::Span(start, end) => drop(self.spans.insert((start, end), id)),
        }
        id
    }

    /// Nobody listens to the range any more.
    pub(super) fn remove(&mut self, range: &KeyRange) {
        if self.ids.remove(range).is_none() {
            return;
        }
        match kind(range) {
            Kind::Key(key) => drop(self.keys.remove(&key)),
            Kind::Prefix(prefix) => {
                self.prefixes.remove(&prefix);
                if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
            Kind::Span(start, end) => drop(self.spans.remove(&(start, end))),
        }
    }

    /// Calls `found` with each group whose range holds `key`.
    pub(super) fn matching(&self, key: &[u8], mut found: impl FnMut(GroupId)) {
        if let Some(id) = self.keys.get(key) {
            found(*id);
        }
        for (length, _) in self.lengths.range(..=key.len()) {
            if let Some(id) = self.prefixes.get(&key[..*length]) {
                found(*id);
            }
        }
        if self.spans.is_empty() {
            return;
        }
        let last = (Bytes::copy_from_slice(key), Bytes::new());
        // An empty end is no bound; it sorts first, so (key, "") is the last start that may hold the key but for spans
        // that begin with the key itself, which are looked at behind it.
        let before = self.spans.range((Bound::Unbounded, Bound::Excluded(last.clone())));
        let at = self.spans.range(last..).take_while(|((start, _), _)| start == key);
        for ((_, end), id) in before.chain(at) {
            if end.is_empty() || key < &end[..] {
                found(*id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_look_at_every_range_finds() {
        let span =
            |start: &'static str, end: &'static str| KeyRange::Span { start: start.into(), end: end.into() };
        let ranges = [
            KeyRange::One("a".into()),
            KeyRange::One("a/b".into()),
            KeyRange::prefix("a/"),
            KeyRange::prefix("a/b"),
            KeyRange::prefix(""),
            KeyRange::prefix("\u{7f}"),
            span("a", "b"),
            span("a/b", "a/d"),
            span("a/b", ""),
            span("b", "a"),
            span("a/a", "a/z"),
        ];
        let mut index = Index::default();
        let ids: Vec<_> = ranges.iter().map(|range| index.group(range)).collect();
        for drop in [None, Some(3), Some(8), Some(4)] {
            if let Some(n) = drop {
                index.remove(&ranges[n]);
            }
            let gone = |n: usize| !index.ids.contains_key(&ranges[n]);
            for key in ["", "a", "a/", "a/b", "a/bb", "a/c", "b", "z", "\u{7f}x"] {
                let mut found = Vec::new();
                index.matching(key.as_bytes(), |id| found.push(id));
                found.sort_unstable();
                let expect: Vec<_> = (0..ranges.len())
                    .filter(|&n| !gone(n) && ranges[n].contains(key.as_bytes()))
                    .map(|n| ids[n])
                    .collect();
                assert_eq!(found, expect, "{key:?}");
            }
        }
    }
}
