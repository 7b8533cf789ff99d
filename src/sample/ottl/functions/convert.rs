//! Functions that convert a value or ask for its type.

use super::super::convert as to;
use super::super::error::EvalError;
use super::super::eval::{Arg, Scene};
use super::super::path::{self, hex};
use super::super::value::{List, Val};
use super::{Function, Kind, Reads, f, p, prepared, reading};

type Outcome<'a> = Result<Val<'a>, EvalError>;

pub(super) const FUNCTIONS: &[Function] = &[
    f("Int", &[p("Target", Kind::IntLike)], |args, scene| {
        Ok(to::int_like(&args[0].any(scene)?)?.map_or(Val::Nil, Val::Int))
    }),
    f("Double", &[p("Target", Kind::DoubleLike)], |args, scene| {
        Ok(to::double_like(&args[0].any(scene)?)?.map_or(Val::Nil, Val::Double))
    }),
    f("String", &[p("Target", Kind::TextLike)], |args, scene| {
        Ok(args[0].text_like(scene)?.map_or(Val::Nil, Val::Str))
    }),
    f("Bool", &[p("Target", Kind::BoolLike)], |args, scene| {
        Ok(to::bool_like(&args[0].any(scene)?)?.map_or(Val::Nil, Val::Bool))
    }),
    f("IsString", &[p("Target", Kind::Text)], |args, scene| {
        Ok(Val::Bool(matches!(args[0].any(scene)?, Val::Str(_))))
    }),
    f("IsInt", &[p("Target", Kind::Int)], |args, scene| {
        Ok(Val::Bool(matches!(args[0].any(scene)?, Val::Int(_))))
    }),
    f("IsDouble", &[p("Target", Kind::Double)], |args, scene| {
        Ok(Val::Bool(matches!(args[0].any(scene)?, Val::Double(_))))
    }),
    f("IsBool", &[p("Target", Kind::Bool)], |args, scene| {
        Ok(Val::Bool(matches!(args[0].any(scene)?, Val::Bool(_))))
    }),
    f("IsMap", &[p("Target", Kind::Map)], |args, scene| {
        Ok(Val::Bool(matches!(args[0].any(scene)?, Val::Map(_))))
    }),
    f("IsList", &[p("Target", Kind::Any)], |args, scene| {
        Ok(Val::Bool(matches!(args[0].any(scene)?, Val::List(_) | Val::Parts(..))))
    }),
    f("IsEmpty", &[p("Target", Kind::Any)], is_empty),
    reading(f("IsRootSpan", &[], |_, scene| Ok(Val::Bool(path::is_root(scene.span)))), Reads::Span),
    prepared(f("TraceID", &[p("Target", Kind::BytesLike)], trace_id), |args| {
        literal_id(args, trace_id, "TraceID", 16)
    }),
    prepared(f("SpanID", &[p("Target", Kind::BytesLike)], span_id), |args| {
        literal_id(args, span_id, "SpanID", 8)
    }),
    f("Hex", &[p("Target", Kind::BytesLike)], |args, scene| {
        Ok(Val::text(hex(&args[0].bytes_like(scene)?.unwrap_or_default())))
    }),
    prepared(f("Coalesce", &[p("Values", Kind::Anys)], coalesce), |args| match args[0].args() {
        [] => Err("Coalesce requires at least one argument".to_owned()),
        _ => Ok(()),
    }),
    f("Log", &[p("Target", Kind::DoubleLike)], |args, scene| {
        match to::double_like(&args[0].any(scene)?)? {
            Some(n) if n > 0.0 || n.is_nan() => Ok(Val::Double(n.ln())),
            _ => Err(EvalError::Failed("expected number greater than zero")),
        }
    }),
    reading(f("UUID", &[], uuid), Reads::Span),
];

fn is_empty<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    Ok(Val::Bool(match args[0].any(scene)? {
        Val::Nil => true,
        Val::Bool(b) => !b,
        Val::Int(n) | Val::Duration(n) => n == 0,
        Val::Double(n) => n == 0.0,
        Val::Str(text) | Val::Bytes(text) => text.is_empty(),
        Val::Map(map) => map.len() == 0,
        Val::List(list) => list.len() == 0,
        Val::TraceId(id) => id == [0; 16],
        Val::SpanId(id) => id == [0; 8],
        Val::Octet(octet) => octet == 0,
        Val::Time(_) | Val::Parts(..) | Val::Status => false,
    }))
}

/// `N` bytes, or twice as many hexadecimal digits.
fn id<const N: usize>(args: &[Arg], scene: &Scene<'_>) -> Result<[u8; N], EvalError> {
    let bytes = args[0].bytes_like(scene)?.unwrap_or_default();
    if let Ok(id) = bytes.as_ref().try_into() {
        return Ok(id);
    }
    if bytes.len() != 2 * N {
        return Err(EvalError::Failed("could not decode ID: invalid length"));
    }
    let mut id = [0; N];
    for (byte, pair) in id.iter_mut().zip(bytes.chunks_exact(2)) {
        let digits = std::str::from_utf8(pair).ok();
        let plain = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = plain
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or(EvalError::Failed("could not decode ID: invalid hex"))?;
    }
    Ok(id)
}

fn trace_id<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    id(args, scene).map(Val::TraceId)
}

fn span_id<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    id(args, scene).map(Val::SpanId)
}

fn literal_id(
    args: &mut [Arg],
    function: super::Evaluate,
    name: &str,
    bytes: usize,
) -> Result<(), String> {
    if let [Arg::Literal(value)] = args {
        let got = to::bytes_like(value.clone()).ok().flatten().map_or(0, |bytes| bytes.len());
        if let Err(error) = function(args, &Scene::EMPTY) {
            let twice = 2 * bytes;
            return Err(format!("{name}: {error}: expected {bytes} or {twice} bytes, got {got}"));
        }
    }
    Ok(())
}

fn coalesce<'a>(args: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    for arg in args[0].args() {
        match arg.any(scene)? {
            Val::Nil => {}
            value => return Ok(value),
        }
    }
    Ok(Val::Nil)
}

/// Nothing random is to be had here: a version 4 UUID made of the span's ids, so that each span
/// has another.
fn uuid<'a>(_: &'a [Arg], scene: &Scene<'a>) -> Outcome<'a> {
    let path = |target| path::read(target, &[], scene);
    let (Val::TraceId(mut id), Val::SpanId(span)) =
        (path(path::Target::TraceId)?, path(path::Target::SpanId(2))?)
    else {
        return Ok(Val::Nil);
    };
    for (byte, other) in id.iter_mut().skip(8).zip(span) {
        *byte ^= other;
    }
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let digits = hex(&id);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(Val::text(parts.join(&b'-')))
}

/// Items of a list as the language's own values, which is what comparisons with them are about.
pub(super) fn plain(item: Val<'_>) -> Val<'_> {
    match item {
        Val::Map(map) => Val::Map(super::super::value::Map::Plain(map.entries())),
        Val::List(list) => Val::List(List::Plain(list.items().into_iter().map(nested).collect())),
        other => other,
    }
}

/// Within a list, what is deeper still is compared as it is.
fn nested(item: Val<'_>) -> Val<'_> {
    match item {
        Val::Map(map) => Val::Map(super::super::value::Map::Plain(map.entries())),
        other => other,
    }
}
