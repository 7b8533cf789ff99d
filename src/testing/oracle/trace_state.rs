//! Trace states, read twice: by W3C's rules as the policy `trace_state` does (tailsampling 2.8),
//! and with the `ot` member taken apart as OTEP 235 wants it (tailsampling 2.14).

/// The value of `key`, if the whole trace state is well formed; `None` also if it has no such key.
pub(super) fn member<'a>(trace_state: &'a str, key: &str) -> Option<&'a str> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    for member in trace_state.split(',').filter(|m| !m.is_empty()) {
        let (key, value) = member.split_once('=')?;
        let key = key.trim_start_matches([' ', '\t']);
        let value = value.trim_end_matches([' ', '\t']);
        if !is_key(key) || !is_value(value) || members.iter().any(|(k, _)| *k == key) {
            return None;
        }
        members.push((key, value));
        if members.len() > 32 {
            return None;
        }
    }
    members.into_iter().find(|(k, _)| *k == key).map(|(_, value)| value)
}

fn is_key(key: &str) -> bool {
    let part = |part: &str, digit_first: bool, length_max: usize| {
        let first = part.bytes().next();
        first.is_some_and(|c| c.is_ascii_lowercase() || digit_first && c.is_ascii_digit())
            && part
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_-*/".contains(&c))
            && part.len() <= length_max
    };
    match key.split_once('@') {
        None => part(key, false, 256),
        Some((tenant, system)) => part(tenant, true, 241) && part(system, false, 14),
    }
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|c| matches!(c, b' '..=b'~') && c != b',' && c != b'=')
        && !value.ends_with(' ')
}

/// A probability of being rejected, in 2⁻⁵⁶; 0 is always kept, 2⁵⁶ never.
pub(super) type Threshold = u64;
/// 2⁵⁶.
pub(super) const NEVER: Threshold = 1 << 56;
/// Kept in any case.
pub(super) const ALWAYS: Threshold = 0;

/// The threshold of a probability; out of `[2⁻⁵⁶, 1]` it is one of the ends.
pub(super) fn threshold(probability: f64) -> Threshold {
    if probability >= 1.0 {
        ALWAYS
    } else if probability >= 1.0 / NEVER as f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 2⁵⁶")]
        let kept = (probability * NEVER as f64).round() as u64;
        NEVER - kept
    } else {
        NEVER
    }
}

/// Low 56 bits of a trace id.
pub(super) fn randomness_of(id: u128) -> u64 {
    u64::try_from(id & u128::from(NEVER - 1)).unwrap_or(0)
}

/// A trace state with its `ot` member taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct TraceState {
    /// `rv`, as it stands there.
    random: String,
    /// `th`, as it stands there.
    threshold: String,
    /// Other fields of `ot`.
    fields: Vec<(String, String)>,
    /// Other members.
    members: Vec<(String, String)>,
}

impl TraceState {
    /// `None` if any part of it is malformed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut state = Self::default();
        if text.is_empty() {
            return Some(state);
        }
        // Empty members count, so that 31 of them is the most.
        if text.len() > 1024 || text.split(',').count() > most_members(text) {
            return None;
        }
        for member in text.split(',').map(|m| m.trim_matches([' ', '\t'])) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) {
                return None;
            }
            if key == "ot" {
                (state.random, state.threshold, state.fields) = open_telemetry(value)?;
            } else {
                state.members.push((key.to_owned(), value.to_owned()));
            }
        }
        Some(state)
    }

    /// `rv`.
    pub(super) fn randomness(&self) -> Option<u64> {
        u64::from_str_radix(&self.random, 16).ok()
    }

    /// `th`.
    pub(super) fn threshold(&self) -> Option<Threshold> {
        let digits = u64::from_str_radix(&self.threshold, 16).ok()?;
        Some(digits << (4 * (14 - self.threshold.len())))
    }

    /// The trace state with this threshold; `None` if it has a stricter one.
    pub(super) fn with_threshold(mut self, threshold: Threshold) -> Option<String> {
        if self.threshold().is_some_and(|own| own > threshold) {
            return None;
        }
        self.threshold = match threshold {
            ALWAYS => "0".to_owned(),
            NEVER => String::new(),
            _ => format!("{threshold:014x}").trim_end_matches('0').to_owned(),
        };
        let own = [("rv", &self.random), ("th", &self.threshold)];
        let fields = own
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .chain(self.fields.iter().map(|(key, value)| (key.as_str(), value)));
        let fields: Vec<String> = fields.map(|(key, value)| format!("{key}:{value}")).collect();
        let mut members: Vec<String> = Vec::new();
        if !fields.is_empty() {
            members.push(format!("ot={}", fields.join(";")));
        }
        members.extend(self.members.iter().map(|(key, value)| format!("{key}={value}")));
        Some(members.join(","))
    }
}

/// Members up to and with an ending comma, of which 31 may be.
fn most_members(text: &str) -> usize {
    // What follows a last comma is not counted if it is empty.
    31 + usize::from(text.ends_with(','))
}

type Fields = (String, String, Vec<(String, String)>);

/// The value of `ot`: `rv`, `th`, and the rest.
fn open_telemetry(value: &str) -> Option<Fields> {
    let (mut random, mut threshold, mut fields) = (String::new(), String::new(), Vec::new());
    for field in value.split(';') {
        let (key, value) = field.split_once(':')?;
        let key_ok = key.bytes().next().is_some_and(|c| c.is_ascii_lowercase())
            && key.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let value_ok = value.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        if !key_ok || !value_ok {
            return None;
        }
        let hex = value.bytes().all(|c| c.is_ascii_hexdigit());
        match key {
            "rv" if hex && value.len() == 14 => value.clone_into(&mut random),
            "th" if hex && (1..=14).contains(&value.len()) => value.clone_into(&mut threshold),
            "rv" | "th" => return None,
            _ => fields.push((key.to_owned(), value.to_owned())),
        }
    }
    Some((random, threshold, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_member_spoils_the_whole() {
        for (text, want) in [
            ("k=v", Some("v")),
            ("a=1,k=v", Some("v")),
            ("a=1, k=v\t,,b=2", Some("v")),
            ("k=v,k=v", None),
            ("k=v,K=v", None),
            ("k=v,1@2=v", None),
            ("k=v,1@a=v", Some("v")),
            ("k =v", None),
            ("k= v", Some(" v")),
            ("k=v,b=", None),
            ("k=v=w", None),
            (" ", None),
        ] {
            assert_eq!(member(text, "k"), want, "{text:?}");
        }
        let many = |n| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(member(&many(32), "k1"), Some("v"));
        assert_eq!(member(&many(33), "k1"), None);
    }

    #[test]
    fn thresholds_are_written_as_the_collector_does() {
        for (percent, want) in [
            (50.0, "ot=th:8"),
            (25.0, "ot=th:c"),
            (10.0, "ot=th:e6666666666666"),
            (1.0, "ot=th:fd70a3d70a3d71"),
            (100.0, "ot=th:0"),
        ] {
            let written = TraceState::default().with_threshold(threshold(percent / 100.0));
            assert_eq!(written.as_deref(), Some(want));
        }
        let third = TraceState::default().with_threshold(threshold(1.0 / 3.0));
        assert_eq!(third.as_deref(), Some("ot=th:aaaaaaaaaaaaac"));
    }

    #[test]
    fn a_stricter_threshold_stays_and_other_members_follow() {
        let with = |text: &str| TraceState::parse(text).unwrap().with_threshold(threshold(0.25));
        assert_eq!(
            with("a=b,ot=x:1;rv:00000000000001").as_deref(),
            Some("ot=rv:00000000000001;th:c;x:1,a=b"),
        );
        assert_eq!(with("ot=th:d"), None);
        assert_eq!(with("ot=th:8").as_deref(), Some("ot=th:c"));
        for bad in ["ot=rv:1", "ot=th:", "ot=th:0123456789abcde", "ot=a:b;", "ot=", "A=b", "a"] {
            assert!(TraceState::parse(bad).is_none(), "{bad}");
        }
        let many = |n| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert!(TraceState::parse(&many(31)).is_some());
        assert!(TraceState::parse(&(many(31) + ",")).is_some());
        assert!(TraceState::parse(&many(32)).is_none());
    }
}
