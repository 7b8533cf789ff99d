//! Conditions: what they cost and what they need; their outcomes are judged by recordings.

use proptest::prelude::*;

use super::*;
use crate::otlp::wire::push_varint;
use crate::testing::fuzz;

fn compile(text: &str) -> Condition {
    Condition::compile(text, List::Span).unwrap()
}

#[test]
fn a_condition_knows_what_it_reads() {
    let table = [
        ("resource.attributes[\"a\"] == \"b\"", true, false),
        ("IsMatch(resource.attributes[\"a\"], \"b\") and 1 < 2", true, false),
        ("resource.attributes[name] == 1", false, false),
        ("scope.name == \"a\"", false, false),
        ("IsRootSpan()", false, false),
        ("UUID() != \"\"", false, false),
        ("Year(Now()) > 2000", false, true),
        ("true", true, false),
    ];
    for (text, only_resource, now) in table {
        let condition = compile(text);
        assert_eq!(condition.reads_only_resource(), only_resource, "{text}");
        assert_eq!(condition.needs_now(), now, "{text}");
    }
}

#[test]
fn what_no_span_changes_is_computed_once() {
    for (text, outcome) in [("1 < 2", true), ("not (nil == nil)", false), ("[1] == [1]", true)] {
        assert!(matches!(compile(text).test, eval::Test::Literal(o) if o == outcome), "{text}");
    }
    for text in ["Duration(\"1s\") < end_time - start_time", "1 + 2 * 3 == kind"] {
        let eval::Test::Compare(left, ..) = compile(text).test else { panic!("{text}") };
        assert!(matches!(left, eval::Expr::Const(_)), "{text}: {left:?}");
    }
    // a value that fails without a span fails on each, and where it stands is still respected
    assert!(compile("1 / 0 == 1").eval(&Scene::EMPTY).is_err());
    assert_eq!(compile("1 / 0 == 1 and false").eval(&Scene::EMPTY), Ok(false));
}

#[test]
fn empty_bytes_within_a_value_are_null() {
    let empty = field(7, b"");
    let map = field(6, &field(1, &[field(1, b"b"), field(2, &empty)].concat()));
    let attribute = |key, value: &[u8]| field(9, &[field(1, key), field(2, value)].concat());
    let list = field(5, &field(1, &empty));
    let span = [attribute(b"m", &map), attribute(b"a", &list)].concat();
    let scene = Scene { span: &span, ..Scene::EMPTY };
    for text in [
        r#"String(attributes["m"]) == "{\"b\":null}""#,
        r#"IsMatch(attributes["a"], "^\\[null\\]$")"#,
        r#"String(attributes["a"][0]) == """#,
    ] {
        assert_eq!(compile(text).eval(&scene), Ok(true), "{text}");
    }
}

#[test]
fn an_attribute_in_a_list_is_itself() {
    let attribute = |key, value: &[u8]| field(9, &[field(1, key), field(2, value)].concat());
    let nan = [&[0x21][..], &f64::NAN.to_le_bytes()].concat();
    let list = field(5, &field(1, &nan));
    let entry = |n| field(1, &[field(1, b"k"), field(2, &[0x18, n])].concat());
    let map = field(6, &[entry(1), entry(2)].concat());
    let span = [attribute(b"l", &list), attribute(b"m", &map)].concat();
    let scene = Scene { span: &span, ..Scene::EMPTY };
    for (text, outcome) in [
        (r#"[attributes["l"]] == [attributes["l"]]"#, true),
        (r#"[attributes["m"]] == [attributes["m"]]"#, true),
        (r#"attributes["l"] == attributes["l"]"#, false),
        (r#"{"a": 1,} == {"a": 1}"#, true),
    ] {
        assert_eq!(compile(text).eval(&scene), Ok(outcome), "{text}");
    }
}

#[test]
fn nesting_ends_somewhere() {
    for (open, close) in [("(", ")"), ("not (", ")"), ("1 == (", ")"), ("1 == [", "]")] {
        let nested = |depth: usize| format!("{}{}{}", open.repeat(depth), "1", close.repeat(depth));
        assert!(Condition::compile(&nested(10_000), List::Span).is_err());
        let _ = Condition::compile(&nested(90), List::Span);
    }
    let chain = format!("1 == 1{}", " + 1".repeat(10_000));
    assert!(Condition::compile(&chain, List::Span).is_err());
    let mut value = field(1, b"x");
    for _ in 0..10_000 {
        value = field(5, &field(1, &value));
    }
    let span = field(9, &[field(1, b"x"), field(2, &value)].concat());
    let scene = Scene { span: &span, ..Scene::EMPTY };
    for text in [
        "attributes[\"x\"] == attributes[\"x\"]",
        "attributes == {\"x\": attributes[\"x\"]}",
        "IsMatch(attributes[\"x\"], \"x\")",
        "ContainsValue(attributes[\"x\"], attributes[\"x\"])",
        "[attributes[\"x\"]] == attributes[\"x\"]",
    ] {
        let _ = compile(text).eval(&scene);
    }
}

/// A field that holds bytes or a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    push_varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

/// Spans with an attribute `x`: a text, bytes, an integer; and with odd times.
fn spans(text: &[u8], number: i64) -> Vec<Vec<u8>> {
    let mut int = vec![3 << 3];
    push_varint(&mut int, number.cast_unsigned());
    let times = [&[7 << 3 | 1][..], &number.to_le_bytes(), &[8 << 3 | 1], text_time(text)].concat();
    let values = [field(1, text), field(7, text), int];
    let attribute = |value: &Vec<u8>| field(9, &[field(1, b"x"), field(2, value)].concat());
    values.iter().map(|value| [attribute(value), times.clone()].concat()).collect()
}

/// Eight bytes of `text`, or zeros.
fn text_time(text: &[u8]) -> &[u8] {
    text.get(..8).unwrap_or(&[0; 8])
}

const WORDS: &[&str] = &[
    "attributes[\"x\"]",
    "name",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\"a\"",
    ",",
    ":",
    "==",
    "<",
    "+",
    "-",
    "*",
    "/",
    "and",
    "or",
    "not",
    "nil",
    "true",
    "5",
    "1.5",
    "0x61",
    "IsMatch(",
    "Int(",
    "Concat([",
    "Len(",
    "Split(",
    ".",
    "=",
    "resource.",
    "spanevent.",
    "cache",
    "trace_state",
    "Substring(name, 0, 2)",
    "Time(name, \"%Y\")",
    "ParseJSON(",
    "Trim(",
    "events",
    "status.code",
    "kind",
    "SPAN_KIND_SERVER",
    "Duration(\"1s\")",
    "end_time",
    "start_time",
    "Keys(",
    "[0]",
];

proptest! {
    #[test]
    fn any_text_and_any_span_are_taken_without_a_panic(
        text in ".{0,40}",
        span in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
    ) {
        let mut data = text.replace('\0', "").into_bytes();
        data.push(0);
        data.extend_from_slice(&span);
        fuzz::ottl(&data);
    }

    #[test]
    fn words_of_the_language_in_any_order_are_taken_without_a_panic(
        words in proptest::collection::vec(proptest::sample::select(WORDS), 0..14),
        span in proptest::collection::vec(proptest::num::u8::ANY, 0..60),
    ) {
        let mut data = words.join(" ").into_bytes();
        data.push(0);
        data.extend_from_slice(&span);
        fuzz::ottl(&data);
    }

    #[test]
    fn functions_of_anything_never_panic(
        name in proptest::sample::select(functions::names()),
        args in proptest::collection::vec(
            proptest::sample::select(&[
                "name", "attributes[\"x\"]", "attributes", "1", "\"%Y-%m-%d\"", "\"a\"", "start_time",
                "end_time - start_time", "[name]", "true", "Unix(attributes[\"x\"])", "nil",
                "9223372036854775807",
            ][..]), 0..4),
        value in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        number in proptest::num::i64::ANY,
    ) {
        let condition = format!("{name}({}) == 1", args.join(", "));
        if let Ok(condition) = Condition::compile(&condition, List::Span) {
            for span in spans(&value, number) {
                let _ = condition.eval(&Scene { span: &span, ..Scene::EMPTY });
            }
        }
    }
}
