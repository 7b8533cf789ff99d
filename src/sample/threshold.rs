//! Sampling thresholds and randomness of 56 bits, as tracestate carries them (tailsampling 2.14).

/// 2^56: rejections out of so many.
const NEVER: u64 = 1 << 56;

/// So many of 2^56 values of randomness are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(pub u64);

impl Threshold {
    /// Everything is kept.
    pub const ALWAYS: Self = Self(0);
    /// Nothing is kept.
    pub const NEVER: Self = Self(NEVER);

    /// Of a probability; outside of [2^-56, 1] the nearer extreme.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=2^56")]
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    pub fn of_probability(p: f64) -> Self {
        let all = NEVER as f64;
        if p >= 1.0 {
            Self::ALWAYS
        } else if p >= 1.0 / all {
            Self(NEVER - (p * all).round() as u64)
        } else {
            Self::NEVER
        }
    }

    /// Whether a trace of this randomness is kept.
    #[must_use]
    pub const fn keeps(self, randomness: u64) -> bool {
        self.0 <= randomness
    }

    /// As `th` writes it: up to 14 hexadecimal digits, zeros at the end left out; empty for never.
    #[must_use]
    pub fn digits(self) -> String {
        match self {
            Self::ALWAYS => "0".to_owned(),
            Self(NEVER..) => String::new(),
            Self(n) => format!("{n:014x}").trim_end_matches('0').to_owned(),
        }
    }

    /// Reads a `th`.
    #[must_use]
    pub fn of_digits(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > 14 {
            return None;
        }
        let value = hexadecimal(text)?;
        Some(Self(value << (4 * (14 - text.len()))))
    }
}

/// Randomness of a trace id: its last 7 bytes.
#[must_use]
pub fn randomness_of_id(id: &[u8; 16]) -> u64 {
    id[9..].iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Reads an `rv`: exactly 14 hexadecimal digits.
#[must_use]
pub fn randomness_of_digits(text: &[u8]) -> Option<u64> {
    (text.len() == 14).then(|| hexadecimal(text))?
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |n, b| Some(n << 4 | u64::from((*b as char).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_written_as_the_specification_shows() {
        for (p, want) in [
            (1.0, "0"),
            (0.5, "8"),
            (0.25, "c"),
            (0.1, "e6666666666666"),
            (0.01, "fd70a3d70a3d71"),
            (1.0 / 3.0, "aaaaaaaaaaaaac"),
            (0.0, ""),
            (-1.0, ""),
        ] {
            let threshold = Threshold::of_probability(p);
            assert_eq!(threshold.digits(), want, "{p}");
            if !want.is_empty() {
                assert_eq!(Threshold::of_digits(want.as_bytes()), Some(threshold));
            }
        }
    }

    #[test]
    fn randomness_is_the_last_seven_bytes_or_what_rv_says() {
        let id: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(randomness_of_id(&id), 0x0009_0a0b_0c0d_0e0f);
        assert_eq!(randomness_of_digits(b"090a0b0c0d0e0f"), Some(0x0009_0a0b_0c0d_0e0f));
        assert_eq!(randomness_of_digits(b"90a0b0c0d0e0f"), None);
        assert_eq!(randomness_of_digits(b"xx0a0b0c0d0e0f"), None);
    }
}
