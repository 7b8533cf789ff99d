//! The header table that the peer keeps for us: which form of a constant block it understands.

use super::hpack::{Block, EMPTY_TABLE};
use super::settings::Peer;

/// Per connection: how far the peer's header table is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Nothing has been sent.
    Fresh,
    /// The constant headers are in it.
    Filled,
    /// The peer wants none and has to be told that there is none.
    Refused,
    /// The peer wants none and knows.
    None,
}

impl Table {
    /// After SETTINGS of the peer.
    pub(crate) fn after(self, peer: &Peer) -> Self {
        match self {
            Self::Fresh | Self::Filled if peer.header_table_bytes < 4096 => Self::Refused,
            other => other,
        }
    }

    /// Appends the block in the form that fits.
    pub(crate) fn put(self, out: &mut Vec<u8>, block: &Block) {
        match self {
            Self::Fresh => out.extend_from_slice(&block.first),
            Self::Filled => out.extend_from_slice(&block.again),
            Self::Refused => {
                out.push(EMPTY_TABLE);
                out.extend_from_slice(&block.plain);
            }
            Self::None => out.extend_from_slice(&block.plain),
        }
    }

    /// Length of what [`Table::put`] appends.
    pub(crate) fn len(self, block: &Block) -> usize {
        match self {
            Self::Fresh => block.first.len(),
            Self::Filled => block.again.len(),
            Self::Refused => 1 + block.plain.len(),
            Self::None => block.plain.len(),
        }
    }

    /// After all blocks that belong together have been sent.
    pub(crate) fn used(self) -> Self {
        match self {
            Self::Fresh | Self::Filled => Self::Filled,
            Self::Refused | Self::None => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_shrinks_the_table_gets_plain_headers_from_then_on() {
        let small = Peer { header_table_bytes: 0, ..Peer::default() };
        assert_eq!(Table::Fresh.after(&Peer::default()), Table::Fresh);
        assert_eq!(Table::Filled.after(&small), Table::Refused);
        assert_eq!(Table::Refused.used(), Table::None);
        assert_eq!(Table::None.after(&small), Table::None);
    }
}
