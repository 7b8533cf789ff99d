//! From syntax to what is evaluated: names are resolved, arguments checked, and what depends on
//! no span is computed once.
//!
//! What the collector calls a literal is kept apart from what merely has been computed: only a
//! literal of the wrong type is refused, and only literals decide `and` and `or` beforehand.

use std::collections::BTreeMap;

use super::compare::compare;
use super::convert as to;
use super::error::EvalError;
use super::eval::{Arg, Expr, Key, Scene, Test, storable};
use super::functions::{self, Function, Kind, Param, Reads, letters};
use super::parse::{Bool, Call, Key as Written, Math, Path, Value};
use super::path::{self, Source, Target};
use super::value::{List as Items, Map, Val};
use super::{List, path::is_context};
use crate::otlp::span::Wanted;

/// What a condition reads of its scene.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Anything but the resource.
    pub(super) more_than_resource: bool,
    /// The time of day.
    pub(super) now: bool,
}

pub(super) struct Compiler<'w> {
    pub(super) list: List,
    pub(super) needs: Needs,
    /// Where keys are added that the walk over a span is to note.
    pub(super) wanted: Option<&'w mut Wanted>,
}

/// An expression, and whether it is a literal.
type Compiled = Result<(Expr, bool), String>;

/// `text` with the context of `list` before all paths that have none.
pub(super) fn completed(text: &str, list: List, paths: &BTreeMap<usize, Option<String>>) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut from = 0;
    for (offset, context) in paths {
        if !context.as_deref().is_some_and(|name| is_context(name, list)) {
            out.push_str(&text[from..*offset]);
            out.push_str(list.context());
            out.push('.');
            from = *offset;
        }
    }
    out.push_str(&text[from..]);
    out
}

impl Compiler<'_> {
    pub(super) fn test(&mut self, tree: &Bool) -> Result<Test, String> {
        match tree {
            Bool::Literal(outcome) => Ok(Test::Literal(*outcome)),
            Bool::Call(call) => Ok(Test::Call(self.call(call)?)),
            Bool::Not(inner) => Ok(match self.test(inner)? {
                Test::Literal(outcome) => Test::Literal(!outcome),
                test => Test::Not(Box::new(test)),
            }),
            Bool::Compare(left, op, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                Ok(match (left, right) {
                    ((Expr::Const(left), true), (Expr::Const(right), true)) => {
                        Test::Literal(compare(&left, *op, &right))
                    }
                    ((left, _), (right, _)) => Test::Compare(left, *op, right),
                })
            }
            Bool::And(tests) => Ok(joined(self.tests(tests)?, false, Test::All)),
            Bool::Or(tests) => Ok(joined(self.tests(tests)?, true, Test::Any)),
        }
    }

    fn tests(&mut self, trees: &[Bool]) -> Result<Vec<Test>, String> {
        trees.iter().map(|tree| self.test(tree)).collect()
    }

    fn value(&mut self, value: &Value) -> Compiled {
        let literal = |value| Ok((Expr::Const(value), true));
        match value {
            Value::Nil => literal(Val::Nil),
            Value::Bool(b) => literal(Val::Bool(*b)),
            Value::Str(text) => literal(Val::text(text.as_str())),
            Value::Bytes(bytes) => literal(Val::Bytes(bytes.clone().into())),
            Value::Enum(symbol) => match enum_number(symbol) {
                Some(number) => literal(Val::Int(number)),
                None => Err(format!("enum symbol, {symbol}, not found")),
            },
            Value::Math(math) => self.math(math),
            Value::Function(name) => Err(format!("function {name} is not called")),
            Value::List(items) => {
                let items = items.iter().map(|item| self.value(item));
                let items = items.collect::<Result<Vec<_>, _>>()?;
                if items.iter().all(|(_, literal)| *literal) {
                    let values = items.into_iter().filter_map(|(item, _)| constant(item));
                    return literal(Val::List(Items::Plain(values.collect())));
                }
                Ok((Expr::List(items.into_iter().map(|(item, _)| item).collect()), false))
            }
            Value::Map(entries) => self.map(entries),
        }
    }

    fn map(&mut self, entries: &[(String, Value)]) -> Compiled {
        // of duplicates the last counts
        let mut compiled = BTreeMap::new();
        for (key, value) in entries {
            compiled.insert(key.clone().into_bytes(), self.value(value)?);
        }
        if compiled.values().all(|(_, literal)| *literal) {
            let mut made = Vec::with_capacity(compiled.len());
            for (key, (value, _)) in compiled {
                let value = constant(value).unwrap_or(Val::Nil);
                made.push((key.into(), storable(value).map_err(|error| error.to_string())?));
            }
            return Ok((Expr::Const(Val::Map(Map::Made(made))), true));
        }
        let entries = compiled.into_iter().map(|(key, (value, _))| (key, value)).collect();
        Ok((Expr::Map(entries), false))
    }

    fn math(&mut self, math: &Math) -> Compiled {
        match math {
            Math::Int(n) => Ok((Expr::Const(Val::Int(*n)), true)),
            Math::Float(n) => Ok((Expr::Const(Val::Double(*n)), true)),
            Math::Path(path) => Ok((self.path(path)?, false)),
            Math::Call(call) => Ok((self.call(call)?, false)),
            Math::Neg(inner) => {
                let (inner, _) = self.math(inner)?;
                Ok((folded(Expr::Neg(Box::new(inner))), false))
            }
            Math::Binary(left, operator, right) => {
                let ((left, _), (right, _)) = (self.math(left)?, self.math(right)?);
                let math = Expr::Math(Box::new(left), *operator, Box::new(right));
                Ok((folded(math), false))
            }
        }
    }

    fn path(&mut self, path: &Path) -> Result<Expr, String> {
        let first = &path.fields[0];
        let complete =
            path.fields.len() > 1 && first.1.is_empty() && is_context(&first.0, self.list);
        let context = if complete { first.0.as_str() } else { self.list.context() };
        let fields = &path.fields[usize::from(complete)..];
        let mut keys = Vec::new();
        for (_, written) in fields {
            keys.extend(self.keys(written)?);
        }
        let names: Vec<_> =
            fields.iter().map(|(name, keys)| (name.as_str(), !keys.is_empty())).collect();
        let target = path::resolve(context, &names, &text(context, fields), self.list)?;
        if target == Target::TraceState && keys.len() > 1 {
            return Err("must provide exactly 1 key when accessing trace_state".to_owned());
        }
        self.needs.more_than_resource |= !matches!(
            target,
            Target::Attributes(Source::Resource)
                | Target::Count(Source::Resource, _)
                | Target::EmptyText
                | Target::Nothing
                | Target::Nil
                | Target::KeyedNil
                | Target::EventIndex
        );
        let target = match (target, keys.first(), &mut self.wanted) {
            (Target::Attributes(Source::Span), Some(Key::Str(key)), Some(wanted)) => {
                Target::Wanted(wanted.position(key))
            }
            _ => target,
        };
        Ok(Expr::Path(target, keys))
    }

    fn keys(&mut self, written: &[Written]) -> Result<Vec<Key>, String> {
        let key = |key: &Written| match key {
            Written::Str(text) => Ok(Key::Str(text.clone().into_bytes())),
            Written::Int(index) => Ok(Key::Int(*index)),
            Written::Math(math) => Ok(Key::Expr(self.math(math)?.0)),
        };
        written.iter().map(key).collect()
    }

    fn call(&mut self, call: &Call) -> Result<Expr, String> {
        let Some(function) = functions::find(&call.name) else {
            if functions::is_missing(&call.name) {
                return Err(format!("function {:?} is not supported by tracemill", call.name));
            }
            return Err(format!("undefined function {:?}", call.name));
        };
        if call.name == "IsRootSpan" && self.list == List::SpanEvent {
            return Err(format!("undefined function {:?}", call.name));
        }
        match function.reads {
            Reads::Arguments => {}
            Reads::Span => self.needs.more_than_resource = true,
            Reads::Now => (self.needs.now, self.needs.more_than_resource) = (true, true),
        }
        let mut args = if function.params.is_empty() {
            Vec::new()
        } else {
            self.arguments(function, call).map_err(|error| {
                format!("error while parsing arguments for call to {:?}: {error}", call.name)
            })?
        };
        if let Some(prepare) = function.prepare {
            prepare(&mut args).map_err(|error| format!("couldn't create function: {error}"))?;
        }
        let pure = function.reads == Reads::Arguments && args.iter().all(is_known);
        let called = Expr::Call(function.eval, args);
        let called = if pure { folded(called) } else { called };
        if call.keys.is_empty() {
            return Ok(called);
        }
        let known = matches!(called, Expr::Const(_));
        let keys = self.keys(&call.keys)?;
        let known = known && keys.iter().all(|key| matches!(key, Key::Str(_) | Key::Int(_)));
        let indexed = Expr::Index(Box::new(called), keys);
        Ok(if known { folded(indexed) } else { indexed })
    }

    fn arguments(&mut self, function: &Function, call: &Call) -> Result<Vec<Arg>, String> {
        let params = function.params;
        let given = &call.arguments;
        let named = given.iter().position(|(name, _)| name.is_some()).unwrap_or(given.len());
        if given[named..].iter().any(|(name, _)| name.is_none()) {
            return Err("unnamed argument used after named argument".to_owned());
        }
        let required = params.iter().filter(|param| !param.optional).count();
        if given.len() < required || given.len() > params.len() {
            let (expected, received) = (params.len(), given.len());
            return Err(format!(
                "incorrect number of arguments. Expected: {expected} Received: {received}"
            ));
        }
        let mut args: Vec<Option<Arg>> = params.iter().map(|_| None).collect();
        for (at, (name, value)) in given.iter().enumerate() {
            let at = match name {
                None => at,
                Some(name) => {
                    let camel = letters::camel(name.as_bytes());
                    let of_name = |param: &Param| param.name.as_bytes() == camel;
                    let found = params.iter().position(of_name);
                    found.ok_or_else(|| format!("no such parameter: {name}"))?
                }
            };
            let arg = self.argument(params[at].kind, value);
            args[at] =
                Some(arg.map_err(|error| format!("invalid argument at position {at}: {error}"))?);
        }
        let args = args.into_iter().zip(params).map(|(arg, param)| match arg {
            None if !param.optional => Err(format!("argument {} is missing", param.name)),
            arg => Ok(arg.unwrap_or(Arg::Absent)),
        });
        args.collect()
    }

    fn argument(&mut self, kind: Kind, value: &Value) -> Result<Arg, String> {
        match (kind, value) {
            (Kind::RawText, Value::Str(text)) => Ok(Arg::Text(text.clone())),
            (Kind::RawText, _) => Err("must be a string".to_owned()),
            (Kind::RawBool, Value::Bool(flag)) => Ok(Arg::Flag(*flag)),
            (Kind::RawBool, _) => Err("must be a bool".to_owned()),
            (Kind::Anys, Value::List(items)) => self.args(Kind::Any, items),
            (Kind::Texts, Value::List(items)) => self.args(Kind::Text, items),
            (Kind::TextsLike, Value::List(items)) => self.args(Kind::TextLike, items),
            (Kind::Anys | Kind::Texts, _) => Err("must be a list of type".to_owned()),
            (kind, value) => match self.value(value)? {
                (Expr::Const(value), true) => {
                    check(kind, &value).map_err(|error| error.to_string())?;
                    Ok(Arg::Literal(value))
                }
                (expr, _) => Ok(Arg::Expr(expr)),
            },
        }
    }

    fn args(&mut self, kind: Kind, items: &[Value]) -> Result<Arg, String> {
        let args = items.iter().enumerate().map(|(at, item)| {
            self.argument(kind, item).map_err(|error| {
                format!("error while parsing list argument at index {at}: {error}")
            })
        });
        args.collect::<Result<_, _>>().map(Arg::Args)
    }
}

/// Is a literal of the type that `kind` wants?
fn check(kind: Kind, value: &Val<'static>) -> Result<(), EvalError> {
    match kind {
        Kind::Text => to::text(value.clone()).map(drop),
        Kind::TextLike => to::text_like(value.clone()).map(drop),
        Kind::Int => to::int(value).map(drop),
        Kind::IntLike => to::int_like(value).map(drop),
        Kind::Double => to::double(value).map(drop),
        Kind::DoubleLike => to::double_like(value).map(drop),
        Kind::Bool => to::boolean(value).map(drop),
        Kind::BoolLike => to::bool_like(value).map(drop),
        Kind::BytesLike => to::bytes_like(value.clone()).map(drop),
        Kind::Map => to::map(value.clone()).map(drop),
        Kind::List => to::list(value.clone()).map(drop),
        Kind::Time => to::time(value).map(drop),
        Kind::Duration => to::duration(value).map(drop),
        _ => Ok(()),
    }
}

fn constant(expr: Expr) -> Option<Val<'static>> {
    match expr {
        Expr::Const(value) => Some(value),
        _ => None,
    }
}

fn is_known(arg: &Arg) -> bool {
    match arg {
        Arg::Expr(expr) => matches!(expr, Expr::Const(_) | Expr::Fail(_)),
        Arg::Args(args) => args.iter().all(is_known),
        _ => true,
    }
}

fn is_const(expr: &Expr) -> bool {
    matches!(expr, Expr::Const(_) | Expr::Fail(_))
}

/// `expr` computed, if it depends on no span; a call says so itself.
fn folded(expr: Expr) -> Expr {
    let known = match &expr {
        Expr::Neg(inner) => is_const(inner),
        Expr::Math(left, _, right) => is_const(left) && is_const(right),
        Expr::Call(..) | Expr::Index(..) => true,
        _ => false,
    };
    if !known {
        return expr;
    }
    match expr.eval(&Scene::EMPTY).map(Val::into_owned) {
        Ok(value) => Expr::Const(value),
        Err(error) => Expr::Fail(error),
    }
}

/// Tests joined by `and` or `or`, where a literal of `deciding` decides and another is left out.
fn joined(tests: Vec<Test>, deciding: bool, join: fn(Vec<Test>) -> Test) -> Test {
    let mut open = Vec::with_capacity(tests.len());
    for test in tests {
        match test {
            Test::Literal(outcome) if outcome == deciding => return Test::Literal(deciding),
            Test::Literal(_) => {}
            test => open.push(test),
        }
    }
    match open.len() {
        0 => Test::Literal(!deciding),
        1 => open.remove(0),
        _ => join(open),
    }
}

/// A path as it would be written in full.
fn text(context: &str, fields: &[(String, Vec<Written>)]) -> String {
    let mut out = context.to_owned();
    for (name, keys) in fields {
        out.push('.');
        out.push_str(name);
        for key in keys {
            match key {
                Written::Str(key) => out.push_str(&format!("[{key}]")),
                Written::Int(index) => out.push_str(&format!("[{index}]")),
                Written::Math(_) => out.push_str("[]"),
            }
        }
    }
    out
}

fn enum_number(symbol: &str) -> Option<i64> {
    let number = match symbol {
        "SPAN_KIND_UNSPECIFIED" | "STATUS_CODE_UNSET" => 0,
        "SPAN_KIND_INTERNAL" | "STATUS_CODE_OK" => 1,
        "SPAN_KIND_SERVER" | "STATUS_CODE_ERROR" => 2,
        "SPAN_KIND_CLIENT" => 3,
        "SPAN_KIND_PRODUCER" => 4,
        "SPAN_KIND_CONSUMER" => 5,
        _ => return None,
    };
    Some(number)
}
