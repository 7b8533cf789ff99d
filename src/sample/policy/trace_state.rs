//! `trace_state`: the value of a key in a span's tracestate, parsed strictly (tailsampling 2.8).

use std::collections::BTreeSet;

/// Most members of a tracestate.
const MEMBERS_MAX: usize = 32;

/// Keys and values that together are longer than this can never come (W3C).
const PAIR_BYTES_MAX: usize = 255;

/// A configured key and the values that match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraceState {
    key: Vec<u8>,
    values: BTreeSet<Vec<u8>>,
}

impl TraceState {
    /// Empty and overlong values are left out, as in the collector.
    #[must_use]
    pub fn new(key: &str, values: &[String]) -> Self {
        let fits = |v: &&String| !v.is_empty() && key.len() + v.len() <= PAIR_BYTES_MAX;
        let values = values.iter().filter(fits).map(|v| v.clone().into_bytes()).collect();
        Self { key: key.into(), values }
    }

    /// Whether `state` is well-formed and has the key with one of the values.
    #[must_use]
    pub fn matches(&self, state: &[u8]) -> bool {
        let mut members: [(&[u8], &[u8]); MEMBERS_MAX] = [(&[], &[]); MEMBERS_MAX];
        let mut count = 0;
        for text in state.split(|b| *b == b',').filter(|text| !text.is_empty()) {
            let Some(member) = member(text) else { return false };
            let twice = members[..count].iter().any(|(key, _)| *key == member.0);
            if twice || count == MEMBERS_MAX {
                return false;
            }
            members[count] = member;
            count += 1;
        }
        let found = members[..count].iter().find(|(key, _)| *key == self.key);
        found.is_some_and(|(_, value)| self.values.contains(*value))
    }
}

fn member(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == b'=')?;
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let start = text[..at].iter().position(|b| !is_space(b))?;
    let key = &text[start..at];
    let value = &text[at + 1..];
    let end = value.iter().rposition(|b| !is_space(b))? + 1;
    let value = &value[..end];
    (is_key(key) && is_value(value)).then_some((key, value))
}

fn is_key(key: &[u8]) -> bool {
    match key.iter().position(|b| *b == b'@') {
        None => is_part(key, 256),
        Some(at) => {
            let tenant = &key[..at];
            let first =
                tenant.first().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let rest = tenant.len() <= 241 && tenant.iter().all(is_key_byte);
            first && rest && is_part(&key[at + 1..], 14)
        }
    }
}

fn is_part(key: &[u8], bytes_max: usize) -> bool {
    key.first().is_some_and(u8::is_ascii_lowercase)
        && key.len() <= bytes_max
        && key.iter().all(is_key_byte)
}

const fn is_key_byte(b: &u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'*' | b'/')
}

fn is_value(value: &[u8]) -> bool {
    let is_char = |b: &u8| matches!(b, 0x20..=0x7e) && !matches!(b, b',' | b'=');
    value.len() <= 256
        && value.iter().all(is_char)
        && value.last().is_some_and(|last| *last != b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing_is_strict_and_a_broken_state_matches_nothing() {
        let policy = TraceState::new("k", &["v".into(), String::new(), "x".repeat(255)]);
        let many = |n: usize| (0..n).map(|i| format!("m{i}=1,")).collect::<String>() + "k=v";
        for (state, want) in [
            ("k=v", true),
            ("a=1,k=v", true),
            ("a=1 ,\tk=v ", true),
            ("a=1,,k=v,", true),
            ("k=w", false),
            ("", false),
            ("k=v,k=v", false),
            ("k=v,K=1", false),
            ("k=v,1a=1", false),
            ("k=v,1a@b=1", true),
            ("k=v,a@1b=1", false),
            ("k=v, ", false),
            ("k=v,a", false),
            ("k=v,a=", false),
            ("k=v,a=b=c", false),
            ("k= v", false),
            (&many(31), true),
            (&many(32), false),
        ] {
            assert_eq!(policy.matches(state.as_bytes()), want, "{state}");
        }
        let long = TraceState::new("k", &["x".repeat(255)]);
        assert!(!long.matches(format!("k={}", "x".repeat(255)).as_bytes()));
        let fits = TraceState::new("k", &["x".repeat(254)]);
        assert!(fits.matches(format!("k={}", "x".repeat(254)).as_bytes()));
    }
}
