//! Patterns against what Go makes of them.

use super::*;

#[test]
fn a_pattern_finds_what_it_finds_in_go() {
    let table: &[(&str, &str, bool)] = &[
        ("^GET /health", "GET /health/1", true),
        ("v.l", "xvaly", true),
        ("", "", true),
        (r"^\d+$", "१२", false),
        (r"^\w+$", "é", false),
        (r"(?i)^K$", "\u{212a}", true),
        (r"\bé", "aé", true),
        (r"^.$", "é", true),
        (r"^..$", "é", false),
        ("a.b", "a\nb", false),
        ("(?s)a.b", "a\nb", true),
        ("^b", "a\nb", false),
        ("(?m)^b", "a\nb", true),
        (r"\Qa.b\E+", "a.bb", true),
        (r"\Qa.b", "axb", false),
        ("[a&&b]", "&", true),
        ("[+--b]", ",", true),
        ("(?i-i)a", "A", false),
        ("[[a]]", "a]", true),
        ("[[a]]", "a", false),
        ("[]a]", "]", true),
        ("[^]a]", "]", false),
        ("[[:^alpha:]]", "1", true),
        (r"[\d-z]", "-", true),
        (r"[^\D]", "5", true),
        (r"[^\D]", "x", false),
        ("a{,2}", "a{,2}", true),
        ("a{2", "a{2", true),
        ("^a{2}$", "aa", true),
        (r"\x41\101\x{41}", "AAA", true),
        ("(?i)straSSe", "STRASSE", true),
        ("a||b", "", true),
        ("(?)a", "a", true),
        (r"\pL\p{Greek}\P{Greek}\p{^Greek}", "aαaa", true),
        ("(?P<1a>x)(?<b>y)", "xy", true),
        ("#", "#", true),
        ("a b", "a b", true),
        ("a**", "", false),
    ];
    for (pattern, text, found) in table {
        let got = Pattern::new(pattern).map(|p| p.is_match(text.as_bytes()));
        if *pattern == "a**" {
            assert!(got.is_err());
        } else {
            assert_eq!(got.as_ref(), Ok(found), "{pattern} in {text:?}");
        }
    }
}

#[test]
fn a_byte_that_is_no_character_counts_as_one_replacement() {
    let is_match = |pattern, text: &[u8]| Pattern::new(pattern).unwrap().is_match(text);
    assert!(is_match("^.$", b"\xff"));
    assert!(is_match("^..$", b"\xe2\x82"));
    assert!(is_match("^\u{fffd}a$", b"\xffa"));
    assert!(!is_match("[a-z]", b"\xff"));
    assert!(is_match("[^a-z]", b"\xff"));
}

#[test]
fn a_bad_pattern_is_refused_in_words_of_go() {
    let table = [
        ("a(", "missing closing ): `a(`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}", "invalid repeat count: `{3,2}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"a\", "trailing backslash at end of expression"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?x)", "invalid or unsupported Perl syntax: `(?x`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
    ];
    for (pattern, want) in table {
        let error = Pattern::new(pattern).unwrap_err().to_string();
        assert_eq!(error, format!("error parsing regexp: {want}"), "{pattern}");
    }
}

#[test]
fn groups_are_captured_in_their_order() {
    let pattern = Pattern::new(r"(?P<a>\d)(x)?(?P<b>y)").unwrap();
    assert_eq!(pattern.groups(), ["a", "", "b"]);
    assert_eq!(pattern.captures(b"-1y"), Some(vec![b"1".to_vec(), vec![], b"y".to_vec()]));
    assert_eq!(pattern.captures(b"-"), None);
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_pattern_or_is_refused(pattern in ".{0,30}", text in ".{0,10}") {
        if let Ok(pattern) = Pattern::new(&pattern) {
            let _ = pattern.is_match(text.as_bytes());
        }
    }

    #[test]
    fn what_looks_like_a_pattern_never_panics(
        pattern in r"[ab(){}\[\]\\|*+?^$.\-&~:0-9dwsbQEpPLx<>=i,]{0,20}",
        text in proptest::collection::vec(proptest::num::u8::ANY, 0..12),
    ) {
        if let Ok(pattern) = Pattern::new(&pattern) {
            let _ = pattern.captures(&text);
        }
    }
}
