//! What travels through the topics, and how sums become totals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Things the shop sells, with prices in cents.
pub const ITEMS: [(&str, u64); 5] =
    [("anchor", 12_900), ("buoy", 4_550), ("cleat", 1_250), ("davit", 89_900), ("ensign", 2_100)];

/// One order, as a producer writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Unique: producer and number.
    pub id: String,
    pub customer: String,
    pub item: String,
    pub cents: u64,
}

/// Consecutive orders of one partition, as an aggregator adds them up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Which aggregator.
    pub by: String,
    pub partition: i32,
    /// Offsets of the orders, ascending, with the index of the item and the price of each.
    pub orders: Vec<(i64, String, u64)>,
}

/// What the page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Orders counted once each.
    pub orders: u64,
    /// Orders that were added up a second time and dropped.
    pub duplicates: u64,
    pub cents: u64,
    pub by_item: BTreeMap<String, u64>,
    pub by_aggregator: BTreeMap<String, u64>,
    /// Next offset of each partition of "orders" that has not been counted.
    pub next_offset: BTreeMap<i32, i64>,
}

impl Totals {
    /// Adds what is new in `sum`.
    pub fn add(&mut self, sum: &Sum) {
        let next = self.next_offset.entry(sum.partition).or_insert(0);
        for (offset, item, cents) in &sum.orders {
            if offset < next {
                self.duplicates += 1;
                continue;
            }
            *next = offset + 1;
            self.orders += 1;
            self.cents += cents;
            *self.by_item.entry(item.clone()).or_default() += 1;
            *self.by_aggregator.entry(sum.by.clone()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(by: &str, offsets: std::ops::Range<i64>) -> Sum {
        Sum { by: by.into(), partition: 0, orders: offsets.map(|o| (o, "buoy".into(), 10)).collect() }
    }

    #[test]
    fn an_order_added_twice_counts_once_and_is_said() {
        let mut totals = Totals::default();
        totals.add(&sum("a", 0..5));
        totals.add(&sum("b", 3..8));
        assert_eq!((totals.orders, totals.duplicates, totals.cents), (8, 2, 80));
        assert_eq!(totals.next_offset[&0], 8);
        assert_eq!(totals.by_aggregator["b"], 3);
    }
}
