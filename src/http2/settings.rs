//! SETTINGS: what we announce and what the peer announced (RFC 9113 §6.5).

use super::frame::{ACK, FLOW_CONTROL_ERROR, FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX};
use super::frame::{FRAME_SIZE_ERROR, Frame, PROTOCOL_ERROR, SETTINGS, Violation};
use super::frame::{put_header, put_window_update, violation};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The initial window of streams and connections.
pub(crate) const WINDOW_DEFAULT: u32 = 65535;

/// What the peer allows us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) header_table_bytes: u32,
    pub(crate) streams_max: u32,
    pub(crate) stream_window: u32,
    pub(crate) frame_bytes_max: usize,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            header_table_bytes: 4096,
            streams_max: u32::MAX,
            stream_window: WINDOW_DEFAULT,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
        }
    }
}

impl Peer {
    /// Applies a SETTINGS frame that is not an acknowledgement.
    pub(crate) fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if !frame.payload.len().is_multiple_of(6) {
            return violation(FRAME_SIZE_ERROR, "SETTINGS of odd length");
        }
        for entry in frame.payload.chunks_exact(6) {
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                HEADER_TABLE_SIZE => self.header_table_bytes = value,
                ENABLE_PUSH if value > 1 => {
                    return violation(PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1");
                }
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE if value > 0x7fff_ffff => {
                    return violation(FLOW_CONTROL_ERROR, "initial window above 2^31-1");
                }
                INITIAL_WINDOW_SIZE => self.stream_window = value,
                MAX_FRAME_SIZE => {
                    let bytes = value as usize;
                    if !(FRAME_BYTES_DEFAULT..=FRAME_BYTES_MAX).contains(&bytes) {
                        return violation(PROTOCOL_ERROR, "invalid MAX_FRAME_SIZE");
                    }
                    self.frame_bytes_max = bytes;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What we announce.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    /// `None`: the default of 4096.
    pub(crate) header_table_bytes: Option<u32>,
    /// `None`: unlimited.
    pub(crate) streams_max: Option<u32>,
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    pub(crate) frame_bytes_max: usize,
    /// `None`: unlimited.
    pub(crate) header_list_bytes_max: Option<u32>,
    pub(crate) client: bool,
}

impl Announced {
    /// Appends SETTINGS, and the WINDOW_UPDATE that opens the connection's window.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let mut entries: Vec<(u16, u32)> = Vec::new();
        if let Some(bytes) = self.header_table_bytes {
            entries.push((HEADER_TABLE_SIZE, bytes));
        }
        if self.client {
            entries.push((ENABLE_PUSH, 0));
        }
        if let Some(streams) = self.streams_max {
            entries.push((MAX_CONCURRENT_STREAMS, streams));
        }
        entries.push((INITIAL_WINDOW_SIZE, self.stream_window));
        entries.push((MAX_FRAME_SIZE, self.frame_bytes_max as u32));
        if let Some(bytes) = self.header_list_bytes_max {
            entries.push((MAX_HEADER_LIST_SIZE, bytes));
        }
        put_header(out, 6 * entries.len(), SETTINGS, 0, 0);
        for (id, value) in entries {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        if self.connection_window > WINDOW_DEFAULT {
            put_window_update(out, 0, self.connection_window - WINDOW_DEFAULT);
        }
    }
}

/// Appends SETTINGS that change nothing but how many streams the peer may have.
pub(crate) fn put_streams_max(out: &mut Vec<u8>, streams: u32) {
    put_header(out, 6, SETTINGS, 0, 0);
    out.extend_from_slice(&MAX_CONCURRENT_STREAMS.to_be_bytes());
    out.extend_from_slice(&streams.to_be_bytes());
}

/// Appends the acknowledgement of the peer's SETTINGS.
pub(crate) fn put_ack(out: &mut Vec<u8>) {
    put_header(out, 0, SETTINGS, ACK, 0);
}

#[cfg(test)]
mod tests {
    use super::super::frame::next;
    use super::*;

    #[test]
    fn what_is_announced_is_understood() {
        let announced = Announced {
            header_table_bytes: Some(0),
            streams_max: Some(7),
            stream_window: 1 << 20,
            connection_window: 1 << 21,
            frame_bytes_max: 1 << 18,
            header_list_bytes_max: Some(1 << 16),
            client: true,
        };
        let mut out = Vec::new();
        announced.put(&mut out);
        let mut rest = &out[..];
        let frame = next(&mut rest, 16384).expect("valid").expect("whole");
        let mut peer = Peer::default();
        peer.apply(&frame).expect("valid");
        let want = Peer {
            header_table_bytes: 0,
            streams_max: 7,
            stream_window: 1 << 20,
            frame_bytes_max: 1 << 18,
        };
        assert_eq!(peer, want);
        assert!(!rest.is_empty(), "the window update follows");
        let mut out = Vec::new();
        put_streams_max(&mut out, 3);
        let frame = next(&mut &out[..], 16384).expect("valid").expect("whole");
        peer.apply(&frame).expect("valid");
        assert_eq!(peer, Peer { streams_max: 3, ..want });
    }

    #[test]
    fn settings_out_of_range_are_violations() {
        for (id, value) in [(2_u16, 2_u32), (4, 0x8000_0000), (5, 100), (5, 1 << 24)] {
            let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
            let frame = Frame { kind: SETTINGS, flags: 0, stream: 0, payload: &payload };
            assert!(Peer::default().apply(&frame).is_err(), "{id}");
        }
    }
}
