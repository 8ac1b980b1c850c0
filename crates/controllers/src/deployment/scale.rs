//! A change of `replicas` in the middle of a rollout is spread over the sets in proportion.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::plan::{Plan, Which, available, number, size};
use super::{DESIRED, MAX};
use crate::meta;

impl Plan<'_> {
    /// True when some live set was sized for another number of replicas.
    pub fn is_scaling(&mut self) -> bool {
        self.find_new(false);
        let wanted = self.wanted();
        self.sets().filter(|set| size(set) > 0).any(|set| number(set, DESIRED).is_some_and(|n| n != wanted))
    }

    /// Spreads the wanted size over the sets.
    pub fn scale(&mut self) {
        let wanted = self.wanted();
        if let Some(only) = self.only_one() {
            self.resize(only, wanted);
            return;
        }
        if self.is_saturated() {
            for at in 0..self.old.len() {
                if size(&self.old[at]) > 0 {
                    self.resize(Which::Old(at), 0);
                }
            }
            return;
        }
        if !self.recreates() {
            self.spread();
        }
    }

    /// The only live set, or the newest when none lives. None when several do.
    fn only_one(&self) -> Option<Which> {
        let live: Vec<Which> =
            self.all().into_iter().filter(|(_, set)| size(set) > 0).map(|(w, _)| w).collect();
        match live.as_slice() {
            [one] => Some(*one),
            [] if self.new.is_some() => Some(Which::New),
            [] => self.old.len().checked_sub(1).map(Which::Old),
            _ => None,
        }
    }

    fn all(&self) -> Vec<(Which, &ReplicaSet)> {
        let old = self.old.iter().enumerate().map(|(at, set)| (Which::Old(at), set));
        old.chain(self.new.iter().map(|set| (Which::New, set))).collect()
    }

    fn is_saturated(&self) -> bool {
        let wanted = self.wanted();
        self.new.as_ref().is_some_and(|new| {
            size(new) == wanted && number(new, DESIRED) == Some(wanted) && available(new) == wanted
        })
    }

    fn spread(&mut self) {
        let (surge, _) = self.bounds();
        let mut live: Vec<(Which, &ReplicaSet)> =
            self.all().into_iter().filter(|(_, set)| size(set) > 0).collect();
        let total: i32 = live.iter().map(|(_, set)| size(set)).sum();
        let allowed = if self.wanted() > 0 { self.wanted() + surge } else { 0 };
        let to_add = allowed - total;
        // Bigger sets first; growing favours the younger, shrinking the older.
        live.sort_by(|(_, a), (_, b)| {
            let young = meta::created_ms(&b.metadata).cmp(&meta::created_ms(&a.metadata));
            size(b).cmp(&size(a)).then(if to_add > 0 { young } else { young.reverse() })
        });
        let mut added = 0;
        let mut sizes: Vec<(Which, i32)> = Vec::new();
        for (which, set) in &live {
            let part = if to_add == 0 { 0 } else { self.proportion(set, to_add, added) };
            sizes.push((*which, size(set) + part));
            added += part;
        }
        if let Some((_, first)) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (which, replicas) in sizes {
            self.resize(which, replicas);
        }
    }

    fn proportion(&self, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
        let (fraction, left) = (self.fraction(set), to_add - added);
        if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    /// How much the set would change if it kept its share of the whole.
    fn fraction(&self, set: &ReplicaSet) -> i32 {
        let has = size(set);
        if self.wanted() == 0 {
            return -has;
        }
        let max = f64::from(self.wanted() + self.bounds().0);
        let before = number(set, MAX).or(self.status.replicas).filter(|n| *n > 0).unwrap_or(has.max(1));
        (f64::from(has) * max / f64::from(before)).round() as i32 - has
    }
}
