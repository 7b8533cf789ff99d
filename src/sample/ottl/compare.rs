//! Comparisons (tailsampling 7.2): values of unlike types differ and are in no order, which is
//! never an error; numbers compare across their types; nil equals nil alone.

use std::cmp::Ordering;

use super::parse::Comparison;
use super::value::{DEPTH_MAX, List, Map, Val};

/// Does `a op b` hold?
#[inline]
pub(super) fn compare(a: &Val<'_>, op: Comparison, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => ordered(a.cmp(b), op),
        (Val::Str(a), Val::Str(b)) => ordered(a.cmp(b), op),
        (Val::Bool(a), Val::Bool(b)) => ordered(a.cmp(b), op),
        (Val::Duration(a), Val::Duration(b)) => ordered(a.cmp(b), op),
        (Val::Time(a), Val::Time(b)) => ordered(a.nanos.cmp(&b.nanos), op),
        (Val::Int(_) | Val::Double(_), Val::Int(_) | Val::Double(_)) => {
            match float(a).partial_cmp(&float(b)) {
                Some(order) => ordered(order, op),
                None => op == Comparison::Ne,
            }
        }
        _ if is_nil(a) || is_nil(b) => match (is_nil(a) && is_nil(b), op) {
            (true, op) => ordered(Ordering::Equal, op),
            (false, op) => op == Comparison::Ne,
        },
        (Val::Bytes(a), Val::Bytes(b)) => ordered(a.cmp(b), op),
        _ => match op {
            Comparison::Eq => same(a, b),
            Comparison::Ne => !same(a, b),
            _ => false,
        },
    }
}

/// Empty bytes are nil to a comparison.
fn is_nil(value: &Val<'_>) -> bool {
    matches!(value, Val::Nil) || matches!(value, Val::Bytes(bytes) if bytes.is_empty())
}

#[expect(clippy::cast_precision_loss, reason = "as the collector compares unlike numbers")]
fn float(number: &Val<'_>) -> f64 {
    match number {
        Val::Int(n) => *n as f64,
        Val::Double(n) => *n,
        _ => f64::NAN,
    }
}

fn ordered(order: Ordering, op: Comparison) -> bool {
    match op {
        Comparison::Eq => order.is_eq(),
        Comparison::Ne => order.is_ne(),
        Comparison::Lt => order.is_lt(),
        Comparison::Le => order.is_le(),
        Comparison::Ge => order.is_ge(),
        Comparison::Gt => order.is_gt(),
    }
}

/// Of types that know no order.
fn same(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::TraceId(a), Val::TraceId(b)) => a == b,
        (Val::SpanId(a), Val::SpanId(b)) => a == b,
        (Val::Octet(a), Val::Octet(b)) => a == b,
        // there is one span to take them from
        (Val::Parts(_, a), Val::Parts(_, b)) => a == b,
        (Val::Status, Val::Status) => true,
        (Val::Map(a), Val::Map(b)) => {
            let plain = |map: &Map<'_>| matches!(map, Map::Plain(_));
            if plain(a) || plain(b) { maps_plain(a, b, 0) } else { maps(a, b, 0) }
        }
        (Val::List(List::Texts(_)), _) | (_, Val::List(List::Texts(_))) => false,
        (Val::List(a), Val::List(b)) => match (a, b) {
            (List::Plain(_), List::Plain(_)) => lists(a, b, |a, b| any_same(a, b, 0)),
            (List::Plain(_), _) => lists(a, b, |a, b| plain_same(a, b, 0)),
            (_, List::Plain(_)) => lists(b, a, |b, a| plain_same(b, a, 0)),
            _ => lists(a, b, |a, b| value_same(a, b, 0)),
        },
        _ => false,
    }
}

fn lists(a: &List<'_>, b: &List<'_>, same: impl Fn(&Val<'_>, &Val<'_>) -> bool) -> bool {
    let (a, b) = (a.items(), b.items());
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a, b))
}

/// Two values of the collector's type.
fn value_same(a: &Val<'_>, b: &Val<'_>, depth: usize) -> bool {
    if depth > DEPTH_MAX {
        return false;
    }
    match (a, b) {
        (Val::Map(a), Val::Map(b)) => maps(a, b, depth + 1),
        (Val::List(a), Val::List(b)) => lists(a, b, |a, b| value_same(a, b, depth + 1)),
        _ => scalar_same(a, b),
    }
}

fn scalar_same(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Nil, Val::Nil) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Int(a), Val::Int(b)) => a == b,
        (Val::Double(a), Val::Double(b)) => a == b,
        (Val::Str(a), Val::Str(b)) | (Val::Bytes(a), Val::Bytes(b)) => a == b,
        (Val::Time(a), Val::Time(b)) => a == b,
        (Val::Duration(a), Val::Duration(b)) => a == b,
        (Val::TraceId(a), Val::TraceId(b)) => a == b,
        (Val::SpanId(a), Val::SpanId(b)) => a == b,
        _ => false,
    }
}

/// Each entry of one has its like in the other; of duplicates the first is looked up.
fn maps(a: &Map<'_>, b: &Map<'_>, depth: usize) -> bool {
    let entries = a.entries();
    entries.len() == b.len()
        && entries
            .iter()
            .all(|(key, value)| b.get(key).is_some_and(|other| value_same(value, &other, depth)))
}

/// Of two maps, at least one of the language's type: of duplicates the last counts.
fn maps_plain(a: &Map<'_>, b: &Map<'_>, depth: usize) -> bool {
    let last = |map: &Map<'_>| -> std::collections::BTreeMap<Vec<u8>, Val<'static>> {
        let entries = map.entries().into_iter();
        entries.map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
    };
    let (a, b) = (last(a), last(b));
    a.len() == b.len()
        && a.iter()
            .all(|(key, value)| b.get(key).is_some_and(|other| value_same(value, other, depth + 1)))
}

/// A value that a condition spells out and one of the collector's type: within the former, a map
/// of the collector's type equals nothing.
fn plain_same(a: &Val<'_>, b: &Val<'_>, depth: usize) -> bool {
    match (a, b) {
        _ if depth > DEPTH_MAX => false,
        (Val::Map(map @ Map::Plain(_)), Val::Map(other)) => maps_plain(map, other, depth),
        (Val::Map(_), _) => false,
        (Val::List(list @ List::Plain(_)), Val::List(other)) => {
            lists(list, other, |a, b| plain_same(a, b, depth + 1))
        }
        (Val::List(_), _) => false,
        _ => scalar_same(a, b),
    }
}

/// Whether both are the same attribute: then nobody looks what is in it, be it NaN.
fn is_one(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Map(Map::Wire(a, field)), Val::Map(Map::Wire(b, other))) => {
            std::ptr::eq(*a, *b) && field == other
        }
        (Val::List(List::Wire(a)), Val::List(List::Wire(b))) => std::ptr::eq(*a, *b),
        _ => false,
    }
}

fn any_same(a: &Val<'_>, b: &Val<'_>, depth: usize) -> bool {
    match (a, b) {
        _ if depth > DEPTH_MAX => false,
        _ if is_one(a, b) => true,
        (Val::List(List::Plain(_)), Val::List(List::Plain(_))) => {
            let (Val::List(a), Val::List(b)) = (a, b) else { return false };
            lists(a, b, |a, b| any_same(a, b, depth + 1))
        }
        (Val::List(List::Texts(a)), Val::List(List::Texts(b))) => a == b,
        (Val::List(a @ (List::Wire(_) | List::Made(_))), Val::List(b)) => {
            matches!(b, List::Wire(_) | List::Made(_))
                && lists(a, b, |a, b| value_same(a, b, depth + 1))
        }
        (Val::Map(a), Val::Map(b)) => {
            matches!(a, Map::Plain(_)) == matches!(b, Map::Plain(_)) && maps(a, b, depth + 1)
        }
        _ => scalar_same(a, b),
    }
}
