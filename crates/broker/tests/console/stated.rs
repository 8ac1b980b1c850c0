//! Reads `stated.txt` and keeps account of what of it was seen.

use std::collections::BTreeMap;

/// What differs, by command.
pub struct Ledger(BTreeMap<&'static str, Vec<Difference>>);

/// A part of every line that may differ, and whether one did.
struct Difference {
    part: &'static str,
    seen: bool,
}

impl Ledger {
    /// `= command`, then `| part of a line` each; everything else is reasons.
    pub fn read() -> Self {
        let mut ledger: BTreeMap<&str, Vec<Difference>> = BTreeMap::new();
        let mut commands = Vec::new();
        let mut open = false;
        for line in include_str!("stated.txt").lines() {
            if let Some(command) = line.strip_prefix("= ") {
                if !std::mem::replace(&mut open, true) {
                    commands.clear();
                }
                commands.push(command);
            } else if let Some(part) = line.strip_prefix("| ") {
                open = false;
                for command in &commands {
                    ledger.entry(command).or_default().push(Difference { part, seen: false });
                }
            }
        }
        Self(ledger)
    }

    /// What is left of differing lines.
    pub fn without_stated(&mut self, command: &str, mut found: Vec<String>) -> Vec<String> {
        let Some(stated) = self.0.get_mut(command) else { return found };
        found.retain(|line| {
            let mut known = stated.iter_mut().filter(|difference| line.contains(difference.part)).peekable();
            let is_known = known.peek().is_some();
            known.for_each(|difference| difference.seen = true);
            !is_known
        });
        found
    }

    /// What was stated and not seen.
    pub fn unused(&self) -> Vec<String> {
        let each = |(command, all): (&&str, &Vec<Difference>)| {
            let unseen = all.iter().filter(|difference| !difference.seen);
            unseen.map(|difference| format!("{command}: {}", difference.part)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(each).collect()
    }
}
