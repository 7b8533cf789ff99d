//! What a gRPC reply says in its header blocks (otlp 2.1).

use super::frame::Violation;
use super::unpack::Decoder;

/// What the headers or trailers of a reply say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) http_status: Option<u16>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) message: String,
    /// `grpc-status-details-bin` is there: RetryInfo, in OTLP.
    pub(crate) has_details: bool,
}

/// Reads reply header blocks, remembering the last few: most are equal to one seen before.
///
/// Nothing enters a table: the peer was told that ours is empty.
#[derive(Debug)]
pub(crate) struct Reader {
    decoder: Decoder,
    known: Vec<(Vec<u8>, Said)>,
    next: usize,
}

const KNOWN_MAX: usize = 4;

impl Default for Reader {
    fn default() -> Self {
        Self { decoder: Decoder::new(0, 1 << 20), known: Vec::new(), next: 0 }
    }
}

impl Reader {
    pub(crate) fn read(&mut self, block: &[u8]) -> Result<&Said, Violation> {
        if let Some(at) = self.known.iter().position(|(b, _)| b == block) {
            return Ok(&self.known[at].1);
        }
        let mut said = Said::default();
        self.decoder.decode(block, |name, value| {
            let text = || String::from_utf8_lossy(value);
            match name {
                b":status" => said.http_status = text().parse().ok(),
                b"grpc-status" => said.grpc_status = text().parse().ok(),
                b"grpc-message" => said.message = text().into_owned(),
                b"grpc-status-details-bin" => said.has_details = true,
                _ => {}
            }
        })?;
        if self.known.len() < KNOWN_MAX {
            self.known.push((block.to_vec(), said));
            return Ok(&self.known[self.known.len() - 1].1);
        }
        let at = self.next;
        self.next = (at + 1) % KNOWN_MAX;
        self.known[at] = (block.to_vec(), said);
        Ok(&self.known[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hpack;

    #[test]
    fn more_blocks_than_are_remembered_are_still_read_right() {
        let mut reader = Reader::default();
        for round in 0..3 {
            for status in 0..7_u32 {
                let mut block = Vec::new();
                hpack::put_literal(&mut block, "grpc-status", status.to_string().as_bytes());
                let said = reader.read(&block).expect("valid");
                assert_eq!(said.grpc_status, Some(status), "{round}");
            }
        }
    }
}
