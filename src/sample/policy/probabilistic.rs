//! `probabilistic`: a hash of salt and trace id against a threshold (tailsampling 2.6).

use crate::sample::threshold::Threshold;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// Salt where none is configured.
const SALT: &str = "default-hash-seed";

/// A rate and a salt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probabilistic {
    /// FNV-1a after the salt.
    salted: u64,
    /// Kept are hashes up to this one.
    hash_max: u64,
    /// The same rate as other samplers along the way understand it (tailsampling 2.14).
    pub threshold: Threshold,
}

impl Probabilistic {
    /// `percentage` outside of 0 to 100 is the nearer of them; an empty salt is the default.
    #[must_use]
    pub fn new(percentage: f64, salt: &str) -> Self {
        let salt = if salt.is_empty() { SALT } else { salt };
        let ratio = percentage / 100.0;
        Self {
            salted: fnv(OFFSET, salt.as_bytes()),
            hash_max: hash_max(ratio),
            threshold: Threshold::of_probability(ratio),
        }
    }

    /// Whether the trace is kept.
    #[must_use]
    pub fn keeps(&self, trace_id: &[u8; 16]) -> bool {
        fnv(self.salted, trace_id) <= self.hash_max
    }
}

fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |h, b| (h ^ u64::from(*b)).wrapping_mul(PRIME))
}

/// (2^64 − 1) × `ratio`, rounded to 64 significant bits half to even, cut to an integer.
fn hash_max(ratio: f64) -> u64 {
    if ratio >= 1.0 {
        return u64::MAX;
    }
    // NaN is refused by configuration; it keeps nothing here.
    if ratio.is_nan() || ratio <= 0.0 {
        return 0;
    }
    // ratio = mantissa × 2^exponent, exactly
    let bits = ratio.to_bits();
    let raw = (bits >> 52) & 0x7ff;
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) = match raw {
        0 => (fraction, -1074),
        raw => (fraction | 1 << 52, i32::try_from(raw).expect("11 bits") - 1075),
    };
    let product = u128::from(mantissa) * u128::from(u64::MAX);
    let (rounded, shifted) = to_64_bits(product);
    let shift = exponent + shifted;
    match shift {
        // Only rounding leads to 2^64 or beyond.
        0 => u64::try_from(rounded).unwrap_or(u64::MAX),
        1.. => u64::MAX,
        -127..=-1 => u64::try_from(rounded >> shift.unsigned_abs()).unwrap_or(u64::MAX),
        _ => 0,
    }
}

/// `value` to its 64 upper bits, half to even, and how many bits were cut off.
fn to_64_bits(value: u128) -> (u128, i32) {
    let len = 128 - value.leading_zeros();
    let Some(cut) = len.checked_sub(64).filter(|cut| *cut > 0) else { return (value, 0) };
    let (mut top, rest) = (value >> cut, value & ((1 << cut) - 1));
    let half = 1 << (cut - 1);
    if rest > half || (rest == half && top & 1 == 1) {
        top += 1;
    }
    (top, i32::try_from(cut).expect("at most 64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_the_collectors() {
        for (percentage, want) in [
            (0.1, 0x0041_8937_4bc6_a7ef),
            (1.0, 0x028f_5c28_f5c2_8f5f),
            (5.0, 0x0ccc_cccc_cccc_ccff),
            (10.0, 0x1999_9999_9999_99ff),
            (25.0, 0x3fff_ffff_ffff_ffff),
            (33.0, 0x547a_e147_ae14_7bff),
            (33.3, 0x553f_7ced_9168_6fff),
            (50.0, 0x7fff_ffff_ffff_ffff),
            (75.0, 0xbfff_ffff_ffff_ffff),
            (99.9, 0xffbe_76c8_b439_5fff),
            (100.0, u64::MAX),
            (150.0, u64::MAX),
            (0.0, 0),
            (-50.0, 0),
        ] {
            assert_eq!(hash_max(percentage / 100.0), want, "{percentage}");
        }
    }

    #[test]
    fn hashes_are_the_collectors() {
        let id: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let hash = |salt: &str, id: &[u8; 16]| fnv(Probabilistic::new(1.0, salt).salted, id);
        assert_eq!(hash("", &id), 0xdbcf_64d5_420f_4cad);
        assert_eq!(hash("test-salt", &id), 0x08ee_52de_da92_3930);
        assert_eq!(hash("", &[0; 16]), 0xe195_36ee_d1bb_ac3d);
        assert_eq!(hash("test-salt", &[0xff; 16]), 0x49f7_0bce_2849_74b0);
    }
}
