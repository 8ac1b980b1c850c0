//! Sets of keys as merged, half-open intervals.

use bytes::Bytes;
use store_api::KeyRange;

/// A set of keys. Intervals that touch or overlap are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals {
    /// Start and end, ascending, disjoint and apart; None has no bound.
    merged: Vec<(Bytes, Option<Bytes>)>,
}

impl Intervals {
    /// The union of ranges; those without a key in them add nothing.
    #[must_use]
    pub fn union(ranges: impl IntoIterator<Item = KeyRange>) -> Self {
        let mut all: Vec<_> =
            ranges.into_iter().map(bounds).filter(|(start, end)| holds_any(start, end)).collect();
        all.sort();
        let mut merged: Vec<(Bytes, Option<Bytes>)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match merged.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| start <= last) => {
                    if !reaches(last.as_ref(), end.as_ref()) {
                        *last = end;
                    }
                }
                _ => merged.push((start, end)),
            }
        }
        Self { merged }
    }

    /// Whether every key of the range is in the set. A range that ends before it starts is taken the other way round.
    #[must_use]
    pub fn covers(&self, range: &KeyRange) -> bool {
        let (mut start, mut end) = bounds(range.clone());
        if let Some(bound) = &mut end
            && *bound < start
        {
            std::mem::swap(bound, &mut start);
        }
        let at = self.merged.partition_point(|(from, _)| *from <= start);
        let Some((_, last)) = at.checked_sub(1).and_then(|at| self.merged.get(at)) else { return false };
        last.as_ref().is_none_or(|last| start < last) && reaches(last.as_ref(), end.as_ref())
    }
}

/// A range's first key and the key behind its last.
fn bounds(range: KeyRange) -> (Bytes, Option<Bytes>) {
    match range {
        KeyRange::One(key) => {
            let mut behind = key.to_vec();
            behind.push(0);
            (key, Some(behind.into()))
        }
        KeyRange::Span { start, end } => (start, Some(end).filter(|end| !end.is_empty())),
    }
}

fn holds_any(start: &Bytes, end: &Option<Bytes>) -> bool {
    end.as_ref().is_none_or(|end| start < end)
}

/// Whether the bound `last` lies at or behind `end`.
fn reaches(last: Option<&Bytes>, end: Option<&Bytes>) -> bool {
    match (last, end) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(last), Some(end)) => last >= end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::Span { start: start.into(), end: end.into() }
    }

    #[test]
    fn touching_ranges_are_one() {
        let set =
            Intervals::union([span("a", "c"), span("c", "f"), KeyRange::One("k".into()), span("x", "")]);
        for inside in
            [span("a", "f"), span("b", "d"), KeyRange::One("k".into()), span("y", ""), span("z", "zz")]
        {
            assert!(set.covers(&inside), "{inside:?}");
        }
        for outside in
            [span("a", "g"), KeyRange::One("f".into()), span("k", "l"), span("b", ""), span("0", "b")]
        {
            assert!(!set.covers(&outside), "{outside:?}");
        }
    }

    /// Keys of at most two letters out of three, and all bounds among them: a range covers another if it covers these.
    fn keys() -> Vec<Bytes> {
        let letters = [0u8, b'a', b'b'];
        let one = letters.iter().map(|a| vec![*a]);
        let two = letters.iter().flat_map(|a| letters.iter().map(|b| vec![*a, *b]));
        let three = letters.iter().flat_map(|a| letters.iter().map(|b| vec![*a, *b, 0]));
        one.chain(two).chain(three).map(Bytes::from).collect()
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        let key =
            prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b']), 1..=2).prop_map(Bytes::from);
        let end = prop_oneof![1 => Just(Bytes::new()), 4 => key.clone()];
        prop_oneof![
            key.clone().prop_map(KeyRange::One),
            (key, end).prop_map(|(start, end)| KeyRange::Span { start, end })
        ]
    }

    proptest! {
        #[test]
        fn merged_intervals_hold_what_their_parts_hold(
            parts in prop::collection::vec(any_range(), 0..8),
            asked in any_range(),
        ) {
            let set = Intervals::union(parts.clone());
            for key in keys() {
                let naive = parts.iter().any(|part| part.contains(&key));
                prop_assert_eq!(set.covers(&KeyRange::One(key.clone())), naive, "{:?}", key);
            }
            let keys: Vec<_> = keys().into_iter().filter(|key| asked.contains(key)).collect();
            // An unbounded range holds keys above all of ours, which only an unbounded part does.
            let unbounded = |range: &KeyRange| matches!(range, KeyRange::Span { end, .. } if end.is_empty());
            let tail = !unbounded(&asked) || parts.iter().any(unbounded);
            if !keys.is_empty() {
                let naive = tail && keys.iter().all(|key| parts.iter().any(|part| part.contains(key)));
                prop_assert_eq!(set.covers(&asked), naive);
            }
        }
    }
}
