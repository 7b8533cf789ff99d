//! A span's `tracestate` as its members, by the rules of W3C Trace Context.

/// Members of one header at most.
const MEMBERS_MAX: usize = 32;

/// Keys with their values in order; nothing if one of them breaks a rule.
pub(super) fn members(header: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut members: Vec<(&[u8], &[u8])> = Vec::new();
    for part in header.split(|b| *b == b',').filter(|part| !part.is_empty()) {
        let equals = part.iter().position(|b| *b == b'=')?;
        let key = trim_start(&part[..equals]);
        let value = trim_end(&part[equals + 1..]);
        let taken = members.iter().any(|(before, _)| *before == key);
        if taken || !is_key(key) || !is_value(value) || members.len() == MEMBERS_MAX {
            return None;
        }
        members.push((key, value));
    }
    Some(members)
}

fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_blank(*b)).unwrap_or(text.len());
    &text[start..]
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !is_blank(*b)).map_or(0, |at| at + 1);
    &text[..end]
}

fn is_value(value: &[u8]) -> bool {
    let is_char = |b: &u8| matches!(b, 0x20..=0x7e) && *b != b',' && *b != b'=';
    (1..=256).contains(&value.len()) && value.iter().all(is_char) && value.last() != Some(&b' ')
}

fn is_key(key: &[u8]) -> bool {
    let part = |key: &[u8], rest_max: usize, digit_first: bool| {
        let Some((first, rest)) = key.split_first() else { return false };
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let inner = |b: &u8| alphanumeric(b) || matches!(b, b'_' | b'-' | b'*' | b'/');
        let begins = first.is_ascii_lowercase() || digit_first && first.is_ascii_digit();
        begins && rest.len() <= rest_max && rest.iter().all(inner)
    };
    match key.iter().position(|b| *b == b'@') {
        None => part(key, 255, false),
        Some(at) => part(&key[..at], 240, true) && part(&key[at + 1..], 13, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_member_spoils_the_header() {
        let count = |header: &str| members(header.as_bytes()).map(|m| m.len());
        assert_eq!(count(""), Some(0));
        assert_eq!(count("a=1, b=2 ,,1t@s=x"), Some(3));
        for bad in ["a", "a=", "A=1", "a=1,a=2", "a=b=c", "1a=x", "a@1=x", "a=\u{e9}"] {
            assert_eq!(count(bad), None, "{bad}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert_eq!(count(&many.join(",")), None);
        assert_eq!(count(&many[..32].join(",")), Some(32));
    }
}
