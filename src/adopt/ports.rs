//! Ports that nothing in a configuration names.

use std::collections::BTreeSet;

use crate::config::tree::{Map, Node, Value};

/// Ports that are taken.
#[derive(Debug)]
pub(super) struct Ports {
    taken: BTreeSet<u16>,
}

impl Ports {
    /// Every number of `root` that could be a port counts as taken, and so do `known`.
    #[must_use]
    pub(super) fn new(root: &Map, known: &[u16]) -> Self {
        let mut taken: BTreeSet<u16> = known.iter().copied().collect();
        for entry in root.iter() {
            collect(&entry.node, &mut taken);
        }
        Self { taken }
    }

    /// The first free one from `first` on.
    pub(super) fn take(&mut self, first: u16) -> u16 {
        let free = (first..u16::MAX).find(|port| !self.taken.contains(port));
        let port = free.unwrap_or(u16::MAX);
        self.taken.insert(port);
        port
    }
}

fn collect(node: &Node, taken: &mut BTreeSet<u16>) {
    match &node.value {
        Value::Int(n) => taken.extend(u16::try_from(*n).ok()),
        Value::Text(text) => {
            for after in text.split(':').skip(1) {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                taken.extend(after[..digits].parse::<u16>().ok());
            }
        }
        Value::List(items) => items.iter().for_each(|item| collect(item, taken)),
        Value::Map(map) => map.iter().for_each(|entry| collect(&entry.node, taken)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    #[test]
    fn a_port_that_is_named_anywhere_is_not_taken() {
        let text = "a: [0.0.0.0:100, '[::1]:101', 'http://h:102/x']\nb: {port: 103}\n";
        let Value::Map(map) = tree::parse(text, 0).unwrap().root.value else { panic!() };
        let mut ports = Ports::new(&map, &[105]);
        assert_eq!([ports.take(100), ports.take(100), ports.take(100)], [104, 106, 107]);
    }
}
