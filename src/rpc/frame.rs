//! gRPC's five bytes before a message: one flag and the length, big-endian.

use super::status::{Code, Status};

/// Length of the prefix.
pub const PREFIX_BYTES: usize = 5;

/// What the prefix says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The message is in the encoding that `grpc-encoding` names.
    pub compressed: bool,
    /// Bytes that follow.
    pub len: usize,
}

impl Prefix {
    /// Reads a prefix; texts and codes are grpc-go's (otlp 2.2).
    ///
    /// # Errors
    /// INTERNAL for a flag that is neither 0 nor 1, RESOURCE_EXHAUSTED for more than `bytes_max`.
    pub fn read(bytes: [u8; PREFIX_BYTES], bytes_max: usize) -> Result<Self, Status> {
        let [flag, a, b, c, d] = bytes;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag > 1 {
            let text = format!("grpc: received unexpected payload format {flag}");
            return Err(Status::new(Code::Internal, text));
        }
        if len > bytes_max {
            return Err(too_large(len, bytes_max));
        }
        Ok(Self { compressed: flag == 1, len })
    }

    /// Writes a prefix.
    ///
    /// # Panics
    /// If a message is longer than 4 GiB.
    #[must_use]
    pub fn bytes(self) -> [u8; PREFIX_BYTES] {
        let len = u32::try_from(self.len).expect("messages are limited far below 4 GiB");
        let [a, b, c, d] = len.to_be_bytes();
        [u8::from(self.compressed), a, b, c, d]
    }
}

/// RESOURCE_EXHAUSTED without `RetryInfo`: the same message will never fit.
#[must_use]
pub fn too_large(len: usize, bytes_max: usize) -> Status {
    let text = format!("grpc: received message larger than max ({len} vs. {bytes_max})");
    Status::new(Code::ResourceExhausted, text)
}

/// Parses `grpc-timeout`: 1 to 8 digits and a unit.
#[must_use]
pub fn parse_timeout(text: &[u8]) -> Option<std::time::Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let nanos: u64 = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    Some(std::time::Duration::from_nanos(n.saturating_mul(nanos)))
}

/// Writes `grpc-timeout`: the finest unit that fits eight digits.
#[must_use]
pub fn format_timeout(timeout: std::time::Duration) -> String {
    let nanos = timeout.as_nanos();
    for (unit, size) in [('n', 1), ('u', 1_000), ('m', 1_000_000), ('S', 1_000_000_000)] {
        if nanos / size < 100_000_000 {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{}H", (nanos / 3_600_000_000_000).min(99_999_999))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_prefix_survives_and_limits_are_checked() {
        let prefix = Prefix { compressed: true, len: 70_000 };
        assert_eq!(Prefix::read(prefix.bytes(), 70_000), Ok(prefix));
        let err = Prefix::read(prefix.bytes(), 69_999).expect_err("too large");
        assert_eq!(err.code, Code::ResourceExhausted);
        assert!(!err.is_retryable());
        assert_eq!(Prefix::read([2, 0, 0, 0, 0], 9).map_err(|s| s.code), Err(Code::Internal));
    }

    #[test]
    fn timeouts_are_read_and_written_in_every_unit() {
        for (text, want) in [
            ("10S", Some(Duration::from_secs(10))),
            ("9960m", Some(Duration::from_millis(9960))),
            ("9996433u", Some(Duration::from_micros(9_996_433))),
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("5n", Some(Duration::from_nanos(5))),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), want, "{text:?}");
        }
        for seconds in [0u64, 1, 5, 86_400, 99_999_999] {
            let timeout = Duration::from_secs(seconds);
            assert_eq!(parse_timeout(format_timeout(timeout).as_bytes()), Some(timeout));
        }
    }
}
