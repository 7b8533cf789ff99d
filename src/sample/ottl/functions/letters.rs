//! Letters in other cases, as Go maps them: one character to one, whatever the language.

/// `change` of each character, with U+FFFD for each byte that is none.
fn mapped(text: &[u8], change: fn(char) -> char) -> Vec<u8> {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        out.extend(chunk.valid().chars().map(change));
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    out.into_bytes()
}

/// In lower case.
pub(super) fn lower(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    mapped(text, |c| c.to_lowercase().next().unwrap_or(c))
}

/// In upper case.
pub(super) fn upper(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_uppercase();
    }
    mapped(text, |c| {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(one), None) => one,
            _ => simple_upper(c),
        }
    })
}

/// Of characters whose full mapping is several ones: a few Greek ones have a single one too.
fn simple_upper(c: char) -> char {
    let code = u32::from(c);
    let by = match code {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => 9,
        _ => 0,
    };
    char::from_u32(code + by).unwrap_or(c)
}

fn trimmed(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

fn is_break(b: u8) -> bool {
    matches!(b, b' ' | b'_' | b'-' | b'.')
}

/// `SomeName` as `some_name`: a break where the kind of letters changes.
pub(super) fn snake(text: &[u8]) -> Vec<u8> {
    let text = trimmed(text);
    let mut out = Vec::with_capacity(text.len() + 2);
    for (at, byte) in text.iter().copied().enumerate() {
        let (cap, low, digit) =
            (byte.is_ascii_uppercase(), byte.is_ascii_lowercase(), byte.is_ascii_digit());
        let next = text.get(at + 1).copied().unwrap_or(b' ');
        let (next_cap, next_low, next_digit) =
            (next.is_ascii_uppercase(), next.is_ascii_lowercase(), next.is_ascii_digit());
        let changes = cap && (next_low || next_digit)
            || low && (next_cap || next_digit)
            || digit && (next_cap || next_low);
        let byte = byte.to_ascii_lowercase();
        if changes {
            if cap && next_low && at > 0 && text[at - 1].is_ascii_uppercase() {
                out.push(b'_');
            }
            out.push(byte);
            if low || digit || next_digit {
                out.push(b'_');
            }
        } else {
            out.push(if is_break(byte) { b'_' } else { byte });
        }
    }
    out
}

/// `some_name` as `SomeName`.
pub(in crate::sample::ottl) fn camel(text: &[u8]) -> Vec<u8> {
    let text = trimmed(text);
    let mut out = Vec::with_capacity(text.len());
    let (mut raise, mut after_cap) = (true, false);
    for byte in text.iter().copied() {
        let letter = byte.is_ascii_alphabetic();
        let cap = byte.is_ascii_uppercase();
        let written = if raise {
            byte.to_ascii_uppercase()
        } else if after_cap && cap {
            byte.to_ascii_lowercase()
        } else {
            byte
        };
        after_cap = cap;
        if letter {
            out.push(written);
            raise = false;
        } else if byte.is_ascii_digit() {
            out.push(byte);
            raise = true;
        } else {
            raise = is_break(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_becomes_one_character() {
        assert_eq!(upper("straße ᾳ é".as_bytes()), "STRAßE ᾼ É".as_bytes());
        assert_eq!(lower("İÉ".as_bytes()), "ié".as_bytes());
        assert_eq!(lower(b"A\xff"), "A\u{fffd}".to_lowercase().as_bytes());
    }

    #[test]
    fn words_are_joined_and_parted() {
        let table = [
            ("some_name", "some_name", "SomeName"),
            ("SomeJSONData", "some_json_data", "SomeJsondata"),
            ("a1b", "a_1_b", "A1B"),
            ("ID", "id", "Id"),
            ("x-y.z w", "x_y_z_w", "XYZW"),
        ];
        for (text, want_snake, want_camel) in table {
            assert_eq!(snake(text.as_bytes()), want_snake.as_bytes(), "{text}");
            assert_eq!(camel(text.as_bytes()), want_camel.as_bytes(), "{text}");
        }
    }
}
