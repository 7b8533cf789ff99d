//! A decision cache: least recently used first out, keyed by the low half of the trace id
//! (tailsampling 3.7).

use std::collections::{BTreeMap, HashMap};

use super::TraceId;

/// Low half → name of the policy that decided.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    entries: HashMap<[u8; 8], (u64, String)>,
    /// By last use.
    order: BTreeMap<u64, [u8; 8]>,
    uses: u64,
    entries_max: usize,
}

impl Cache {
    /// Of at most so many entries; 0 keeps nothing.
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, entries_max }
    }

    /// The name under which the decision was put; the entry becomes the most recent one.
    pub(super) fn get(&mut self, id: &TraceId) -> Option<String> {
        let (_, policy) = self.entries.get(&low(id))?.clone();
        self.put(id, &policy);
        Some(policy)
    }

    /// Puts a decision; says whether it is kept.
    pub(super) fn put(&mut self, id: &TraceId, policy: &str) -> bool {
        if self.entries_max == 0 {
            return false;
        }
        self.uses += 1;
        self.order.insert(self.uses, low(id));
        let before = self.entries.insert(low(id), (self.uses, policy.to_owned()));
        if let Some((used, _)) = before {
            self.order.remove(&used);
        }
        if self.entries.len() > self.entries_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        true
    }
}

fn low(id: &TraceId) -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = *id;
    [a, b, c, d, e, f, g, h]
}
