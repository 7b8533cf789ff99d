//! A W3C tracestate as OpenTelemetry's samplers read and write it: the member `ot` with `rv` and
//! `th` (tailsampling 2.14). Its grammar is a little laxer than that of the `trace_state` policy,
//! as in the collector, where two libraries read the same text.

use super::threshold::{Threshold, randomness_of_digits};

const STATE_BYTES_MAX: usize = 1024;
const MEMBER_BYTES_MAX: usize = 256;
const MEMBERS_MAX: usize = 32;
const TENANT_BYTES_MAX: usize = 241;
const SYSTEM_BYTES_MAX: usize = 14;

/// A tracestate that could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State<'a> {
    /// `rv`.
    pub randomness: Option<u64>,
    /// `th`.
    pub threshold: Option<Threshold>,
    rv: &'a [u8],
    /// Other keys of the `ot` member.
    others: Vec<(&'a [u8], &'a [u8])>,
    /// Other members.
    members: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> State<'a> {
    /// Reads a tracestate; `None` if anything of it is malformed.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        if text.len() > STATE_BYTES_MAX {
            return None;
        }
        let mut state = Self::default();
        for (at, member) in text.split(|b| *b == b',').enumerate() {
            // The collector counts one less than the specification allows.
            if at + 1 >= MEMBERS_MAX {
                return None;
            }
            let member = trim(member);
            if member.is_empty() {
                continue;
            }
            let (key, value) = pair(member, b'=')?;
            if !is_key(key) || !is_value(value) {
                return None;
            }
            if key == b"ot" {
                state.read_ot(value)?;
            } else {
                state.members.push((key, value));
            }
        }
        Some(state)
    }

    fn read_ot(&mut self, value: &'a [u8]) -> Option<()> {
        (self.randomness, self.threshold, self.rv) = (None, None, b"");
        self.others.clear();
        for member in value.split(|b| *b == b';') {
            let (key, value) = pair(member, b':')?;
            let first = key.first().is_some_and(u8::is_ascii_lowercase);
            let key_ok = key.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            let value_ok =
                value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
            if !first || !key_ok || !value_ok {
                return None;
            }
            match key {
                b"rv" => {
                    self.randomness = Some(randomness_of_digits(value)?);
                    self.rv = value;
                }
                b"th" => self.threshold = Some(Threshold::of_digits(value)?),
                _ => self.others.push((key, value)),
            }
        }
        Some(())
    }

    /// The text with this `th`, or `None` where a stricter one stands already.
    #[must_use]
    pub fn with_threshold(&self, threshold: Threshold) -> Option<Vec<u8>> {
        if self.threshold.is_some_and(|stricter| stricter > threshold) {
            return None;
        }
        let mut ot: Vec<Vec<u8>> = Vec::new();
        if !self.rv.is_empty() {
            ot.push([b"rv:", self.rv].concat());
        }
        let digits = threshold.digits();
        if !digits.is_empty() {
            ot.push([b"th:", digits.as_bytes()].concat());
        }
        ot.extend(self.others.iter().map(|(key, value)| [*key, b":", value].concat()));
        let mut members: Vec<Vec<u8>> = Vec::new();
        if !ot.is_empty() {
            members.push([b"ot=", &ot.join(&b';')[..]].concat());
        }
        members.extend(self.members.iter().map(|(key, value)| [*key, b"=", value].concat()));
        Some(members.join(&b','))
    }
}

fn pair(member: &[u8], sign: u8) -> Option<(&[u8], &[u8])> {
    let at = member.iter().position(|b| *b == sign).filter(|at| *at > 0)?;
    Some((&member[..at], &member[at + 1..]))
}

fn trim(member: &[u8]) -> &[u8] {
    let is_text = |b: &u8| !matches!(b, b' ' | b'\t');
    let Some(start) = member.iter().position(is_text) else { return b"" };
    let end = member.iter().rposition(is_text).expect("there is one") + 1;
    &member[start..end]
}

fn is_key(key: &[u8]) -> bool {
    let rest = |part: &[u8]| {
        part.iter().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'*' | b'/')
        })
    };
    let letter = |part: &[u8]| part.first().is_some_and(u8::is_ascii_lowercase);
    let short = key.len() <= MEMBER_BYTES_MAX;
    match pair(key, b'@') {
        None => short && letter(key) && rest(key),
        Some((tenant, system)) => {
            let first = tenant[0].is_ascii_lowercase() || tenant[0].is_ascii_digit();
            let lengths = tenant.len() <= TENANT_BYTES_MAX && system.len() <= SYSTEM_BYTES_MAX;
            short && first && rest(tenant) && letter(system) && rest(system) && lengths
        }
    }
}

fn is_value(value: &[u8]) -> bool {
    let is_char = |b: &u8| matches!(b, 0x20..=0x7e) && !matches!(b, b',' | b'=');
    let last = value.last().is_some_and(|last| *last != b' ');
    last && value.len() <= MEMBER_BYTES_MAX && value.iter().all(is_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_written_to_the_front_and_never_loosened() {
        for (before, want) in [
            ("", Some("ot=th:c")),
            ("a=b,ot=rv:aabbccddeeff00", Some("ot=rv:aabbccddeeff00;th:c,a=b")),
            ("ot=th:8;x:y,a=b", Some("ot=th:c;x:y,a=b")),
            ("ot=th:e", None),
            ("a=b, ,c=d", Some("ot=th:c,a=b,c=d")),
        ] {
            let state = State::parse(before.as_bytes()).unwrap();
            let written = state.with_threshold(Threshold::of_probability(0.25));
            assert_eq!(written.map(|w| String::from_utf8(w).unwrap()).as_deref(), want, "{before}");
        }
    }

    #[test]
    fn a_malformed_state_is_not_read() {
        for text in ["a", "=b", "A=b", "ot=th", "ot=th:8;", "ot=rv:1", "a=b\u{e9}", "ot=th:"] {
            assert_eq!(State::parse(text.as_bytes()), None, "{text}");
        }
        let many = |n: usize| vec!["a=b"; n].join(",");
        assert!(State::parse(many(31).as_bytes()).is_some());
        assert!(State::parse(many(32).as_bytes()).is_none());
    }
}
