//! Arithmetic (tailsampling 7.2): numbers, times and durations; integers wrap around, and a
//! division by zero is an error for floats too.

use super::error::EvalError;
use super::parse::Operator;
use super::value::{Time, Val};

const UNLIKE: EvalError = EvalError::Failed("time and duration do not combine so");

/// `-value`
pub(super) fn negate<'a>(value: &Val<'_>) -> Result<Val<'a>, EvalError> {
    match value {
        Val::Int(n) => Ok(Val::Int(n.wrapping_neg())),
        Val::Double(n) => Ok(Val::Double(-n)),
        other => Err(EvalError::Type { want: "a number to negate", got: other.type_name() }),
    }
}

/// `left operator right`
#[expect(clippy::cast_precision_loss, reason = "unlike numbers are computed as floats")]
pub(super) fn operate<'a>(
    left: &Val<'_>,
    operator: Operator,
    right: &Val<'_>,
) -> Result<Val<'a>, EvalError> {
    match (left, right) {
        (Val::Int(a), Val::Int(b)) => ints(*a, operator, *b).map(Val::Int),
        (Val::Int(a), Val::Double(b)) => floats(*a as f64, operator, *b).map(Val::Double),
        (Val::Double(a), Val::Int(b)) => floats(*a, operator, *b as f64).map(Val::Double),
        (Val::Double(a), Val::Double(b)) => floats(*a, operator, *b).map(Val::Double),
        (Val::Time(_) | Val::Duration(_), _) => times(left, operator, right),
        (Val::Int(_) | Val::Double(_), other) | (other, _) => {
            Err(EvalError::Type { want: "int64 or float64", got: other.type_name() })
        }
    }
}

const BY_ZERO: EvalError = EvalError::Failed("attempted to divide by 0");

fn ints(a: i64, operator: Operator, b: i64) -> Result<i64, EvalError> {
    match operator {
        Operator::Add => Ok(a.wrapping_add(b)),
        Operator::Sub => Ok(a.wrapping_sub(b)),
        Operator::Mul => Ok(a.wrapping_mul(b)),
        Operator::Div if b == 0 => Err(BY_ZERO),
        Operator::Div => Ok(a.wrapping_div(b)),
    }
}

fn floats(a: f64, operator: Operator, b: f64) -> Result<f64, EvalError> {
    match operator {
        Operator::Add => Ok(a + b),
        Operator::Sub => Ok(a - b),
        Operator::Mul => Ok(a * b),
        Operator::Div if b == 0.0 => Err(BY_ZERO),
        Operator::Div => Ok(a / b),
    }
}

fn times<'a>(left: &Val<'_>, operator: Operator, right: &Val<'_>) -> Result<Val<'a>, EvalError> {
    let moved = |time: &Time, by: i64| Time { nanos: time.nanos + i128::from(by), ..*time };
    match (left, operator, right) {
        (Val::Time(a), Operator::Add, Val::Duration(b))
        | (Val::Duration(b), Operator::Add, Val::Time(a)) => Ok(Val::Time(moved(a, *b))),
        (Val::Time(a), Operator::Sub, Val::Duration(b)) => {
            Ok(Val::Time(moved(a, b.wrapping_neg())))
        }
        (Val::Time(a), Operator::Sub, Val::Time(b)) => {
            // what does not fit is cut to what does
            let between = (a.nanos - b.nanos).clamp(i64::MIN.into(), i64::MAX.into());
            Ok(Val::Duration(i64::try_from(between).unwrap_or(i64::MAX)))
        }
        (Val::Duration(a), Operator::Add, Val::Duration(b)) => {
            Ok(Val::Duration(a.wrapping_add(*b)))
        }
        (Val::Duration(a), Operator::Sub, Val::Duration(b)) => {
            Ok(Val::Duration(a.wrapping_sub(*b)))
        }
        _ => Err(UNLIKE),
    }
}
