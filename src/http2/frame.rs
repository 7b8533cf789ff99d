//! Frames: header, kinds, flags, and the few that are written whole (RFC 9113 §4, §6).

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame header.
pub(crate) const HEADER_BYTES: usize = 9;
/// The smallest and the initial SETTINGS_MAX_FRAME_SIZE.
pub(crate) const FRAME_BYTES_DEFAULT: usize = 16384;
/// The largest SETTINGS_MAX_FRAME_SIZE.
pub(crate) const FRAME_BYTES_MAX: usize = (1 << 24) - 1;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY_FRAME: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITY: u8 = 0x20;

/// Error codes (RFC 9113 §7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
pub(crate) const INADEQUATE_SECURITY: u32 = 12;

/// The name of an error code.
pub(crate) fn code_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    usize::try_from(code).ok().and_then(|at| NAMES.get(at)).copied().unwrap_or("unknown error")
}

/// A rule of HTTP/2 was broken: the connection ends with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: u32,
    pub(crate) what: &'static str,
}

/// Shorthand for a [`Violation`].
pub(crate) fn violation<T>(code: u32, what: &'static str) -> Result<T, Violation> {
    Err(Violation { code, what })
}

/// One frame, its payload still in the read buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The 32-bit number at `at`, for the control frames that are made of them.
    pub(crate) fn word(&self, at: usize) -> Result<u32, Violation> {
        match self.payload.get(at..at + 4) {
            Some(b) => Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]])),
            None => violation(FRAME_SIZE_ERROR, "control frame too short"),
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) len: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

/// Reads the header that `bytes` begin with; `None` if it is not all there.
#[inline]
pub(crate) fn header(bytes: &[u8], payload_max: usize) -> Result<Option<Header>, Violation> {
    let Some(h) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let len = usize::from(h[0]) << 16 | usize::from(h[1]) << 8 | usize::from(h[2]);
    if len > payload_max {
        return violation(FRAME_SIZE_ERROR, "frame larger than allowed");
    }
    let stream = u32::from_be_bytes([h[5] & 0x7f, h[6], h[7], h[8]]);
    Ok(Some(Header { len, kind: h[3], flags: h[4], stream }))
}

/// Takes the next whole frame off `bytes`; `None` if it is not all there.
#[inline]
pub(crate) fn next<'a>(
    bytes: &mut &'a [u8],
    payload_max: usize,
) -> Result<Option<Frame<'a>>, Violation> {
    let Some(Header { len, kind, flags, stream }) = header(bytes, payload_max)? else {
        return Ok(None);
    };
    let Some(payload) = bytes.get(HEADER_BYTES..HEADER_BYTES + len) else { return Ok(None) };
    *bytes = &bytes[HEADER_BYTES + len..];
    Ok(Some(Frame { kind, flags, stream, payload }))
}

/// The payload of DATA or HEADERS without padding and priority (RFC 9113 §6.1, §6.2).
#[inline]
pub(crate) fn content<'a>(frame: &Frame<'a>) -> Result<&'a [u8], Violation> {
    let mut payload = frame.payload;
    if frame.has(PADDED) {
        let Some((&pad, rest)) = payload.split_first() else {
            return violation(FRAME_SIZE_ERROR, "padded frame without pad length");
        };
        let Some(len) = rest.len().checked_sub(usize::from(pad)) else {
            return violation(PROTOCOL_ERROR, "padding longer than the frame");
        };
        payload = &rest[..len];
    }
    if frame.kind == HEADERS && frame.has(PRIORITY) {
        let Some(rest) = payload.get(5..) else {
            return violation(FRAME_SIZE_ERROR, "HEADERS too short for its priority");
        };
        payload = rest;
    }
    Ok(payload)
}

/// Appends a frame header.
#[inline]
pub(crate) fn put_header(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    debug_assert!(len <= FRAME_BYTES_MAX);
    let l = (len as u32).to_be_bytes();
    let s = stream.to_be_bytes();
    out.extend_from_slice(&[l[1], l[2], l[3], kind, flags, s[0], s[1], s[2], s[3]]);
}

/// Appends a header block: one HEADERS frame, unless it is longer than the peer takes.
#[inline]
pub(crate) fn put_block(out: &mut Vec<u8>, stream: u32, end: u8, block: &[u8], max: usize) {
    let (first, mut rest) = block.split_at(block.len().min(max));
    let done = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
    put_header(out, first.len(), HEADERS, end | done(rest), stream);
    out.extend_from_slice(first);
    while !rest.is_empty() {
        let (next, after) = rest.split_at(rest.len().min(max));
        put_header(out, next.len(), CONTINUATION, done(after), stream);
        out.extend_from_slice(next);
        rest = after;
    }
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, credit: u32) {
    put_header(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&credit.to_be_bytes());
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    put_header(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&code.to_be_bytes());
}

pub(crate) fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: u32, debug: &str) {
    put_header(out, 8 + debug.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(debug.as_bytes());
}

/// Answers a PING, unless it is itself an answer.
pub(crate) fn answer_ping(out: &mut Vec<u8>, frame: &Frame<'_>) -> Result<(), Violation> {
    if frame.payload.len() != 8 {
        return violation(FRAME_SIZE_ERROR, "PING is not 8 bytes");
    }
    if !frame.has(ACK) {
        put_header(out, 8, PING, ACK, 0);
        out.extend_from_slice(frame.payload);
    }
    Ok(())
}

/// A send window after a WINDOW_UPDATE (RFC 9113 §6.9.1).
pub(crate) fn widen(window: i64, credit: u32) -> Result<i64, Violation> {
    let wider = window + i64::from(credit & 0x7fff_ffff);
    if credit & 0x7fff_ffff == 0 {
        return violation(PROTOCOL_ERROR, "window update of zero");
    }
    if wider > 0x7fff_ffff {
        return violation(FLOW_CONTROL_ERROR, "window above 2^31-1");
    }
    Ok(wider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_whole() {
        let mut out = Vec::new();
        put_reset(&mut out, 7, CANCEL);
        for cut in 0..out.len() {
            assert!(next(&mut &out[..cut], 16384).expect("no violation").is_none());
        }
        let mut rest = &out[..];
        let frame = next(&mut rest, 16384).expect("no violation").expect("whole");
        assert_eq!((frame.kind, frame.stream, frame.word(0)), (RST_STREAM, 7, Ok(CANCEL)));
        assert!(rest.is_empty());
        assert!(next(&mut &out[..], 3).is_err());
    }

    #[test]
    fn a_block_longer_than_a_frame_goes_on_in_others() {
        let mut out = Vec::new();
        put_block(&mut out, 5, END_STREAM, b"abcdefg", 3);
        let (mut rest, mut frames) = (&out[..], Vec::new());
        while let Some(f) = next(&mut rest, 16384).expect("no violation") {
            frames.push((f.kind, f.flags, f.stream, f.payload));
        }
        let want = [
            (HEADERS, END_STREAM, 5, &b"abc"[..]),
            (CONTINUATION, 0, 5, b"def"),
            (CONTINUATION, END_HEADERS, 5, b"g"),
        ];
        assert_eq!(frames, want);
    }

    #[test]
    fn padding_and_priority_are_removed() {
        let frame = |kind, flags, payload| Frame { kind, flags, stream: 1, payload };
        assert_eq!(content(&frame(DATA, PADDED, &[1, b'x', 0])), Ok(&b"x"[..]));
        assert_eq!(content(&frame(HEADERS, PRIORITY, &[0, 0, 0, 0, 0, b'h'])), Ok(&b"h"[..]));
        assert!(content(&frame(DATA, PADDED, &[2, 0])).is_err());
        assert!(content(&frame(DATA, PADDED, &[])).is_err());
        assert!(content(&frame(HEADERS, PRIORITY, &[0])).is_err());
    }

    #[test]
    fn windows_neither_overflow_nor_grow_by_nothing() {
        assert_eq!(widen(-5, 10), Ok(5));
        assert!(widen(0x7fff_ffff, 1).is_err());
        assert!(widen(0, 0).is_err());
    }
}
