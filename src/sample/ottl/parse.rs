//! From tokens to a tree of syntax (tailsampling 7.1): ordered choice, as in the collector's
//! grammar, so that what it refuses is refused here. Names are not looked at.
//!
//! Nesting and chains of operators have limits, so that whoever walks the tree may recurse. The
//! time is quadratic in the depth of parentheses at worst.

use std::collections::BTreeMap;

use super::error::CompileError;
use super::lex::{self, Kind, Token};

/// Brackets within brackets.
const DEPTH_MAX: usize = 100;
/// Operators in one chain, entries in one list.
const CHAIN_MAX: usize = 1000;

/// A boolean expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bool {
    Literal(bool),
    Call(Call),
    Compare(Value, Comparison, Value),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// `==` and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Ge,
    Gt,
}

/// What can be compared or be an argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Str(String),
    Bytes(Vec<u8>),
    Enum(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    Math(Math),
    /// The name of a function that is not called.
    Function(String),
}

/// A number, a path, a call, or arithmetic with them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Math {
    Int(i64),
    Float(f64),
    Path(Path),
    Call(Call),
    Neg(Box<Self>),
    Binary(Box<Self>, Operator, Box<Self>),
}

/// Of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
}

/// `status.code`, `attributes["a"][0]`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub(super) fields: Vec<(String, Vec<Key>)>,
    /// Where it begins in the text.
    pub(super) offset: usize,
}

/// What stands in brackets after a path or a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    Str(String),
    Int(i64),
    Math(Math),
}

/// `Name(arguments)[keys]`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// Values with the names they were given.
    pub(super) arguments: Vec<(Option<String>, Value)>,
    pub(super) keys: Vec<Key>,
}

/// A condition's tree and where its paths begin.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) tree: Bool,
    /// Offsets in the text, each with the first name of its path if a dot follows that.
    pub(super) paths: BTreeMap<usize, Option<String>>,
}

/// The syntax of `text`.
pub(super) fn parse(text: &str) -> Result<Parsed, CompileError> {
    let tokens = lex::tokens(text)?;
    let strings = tokens.iter().filter(|token| token.kind == Kind::String);
    if let Some(bad) = strings.clone().find(|token| lex::unquote(token.text).is_none()) {
        let what = format!("invalid quoted string {:?}: invalid syntax", bad.text);
        return Err(CompileError::lexical(text, bad.offset, &what));
    }
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        farthest: (0, ""),
        refused: None,
        paths: BTreeMap::new(),
    };
    let parsed = parser.bool_expr();
    let parsed = parsed.filter(|_| parser.peek() == Kind::End || parser.fail(""));
    if let Some(what) = parser.refused {
        return Err(CompileError::grammar(&what));
    }
    let Some(tree) = parsed else {
        let (at, expected) = parser.farthest;
        return Err(CompileError::syntax(text, parser.tokens[at].offset, expected));
    };
    Ok(Parsed { tree, paths: parser.paths })
}

struct Parser<'t> {
    tokens: Vec<Token<'t>>,
    at: usize,
    depth: usize,
    /// The token nobody could go past, and what would have been right there.
    farthest: (usize, &'static str),
    /// Why the text is refused although its syntax may be right.
    refused: Option<String>,
    paths: BTreeMap<usize, Option<String>>,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Kind {
        self.tokens[self.at].kind
    }

    fn fail(&mut self, expected: &'static str) -> bool {
        if self.at >= self.farthest.0 {
            self.farthest = (self.at, expected);
        }
        false
    }

    fn refuse<T>(&mut self, what: String) -> Option<T> {
        self.refused.get_or_insert(what);
        None
    }

    fn take(&mut self, kind: Kind, expected: &'static str) -> Option<&'t str> {
        if self.peek() == kind {
            let text = self.tokens[self.at].text;
            // the end is never taken
            self.at += 1;
            return Some(text);
        }
        self.fail(expected);
        None
    }

    fn take_char(&mut self, c: u8, expected: &'static str) -> Option<()> {
        self.take(Kind::Punct(c), expected).map(|_| ())
    }

    /// Goes back if `parse` fails.
    fn attempt<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.refused.is_some() {
            return None;
        }
        let (at, depth) = (self.at, self.depth);
        let parsed = parse(self);
        if parsed.is_none() {
            self.at = at;
        }
        self.depth = depth;
        parsed
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.refuse(format!("condition nests deeper than {DEPTH_MAX} levels"));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// `item` and what `more` gives, as long as it gives something.
    fn chain<T>(
        &mut self,
        first: T,
        mut more: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut all = vec![first];
        while let Some(next) = self.attempt(&mut more) {
            all.push(next);
            if all.len() > CHAIN_MAX {
                return self.refuse(format!("condition has more than {CHAIN_MAX} in a row"));
            }
        }
        Some(all)
    }

    fn bool_expr(&mut self) -> Option<Bool> {
        let first = self.term()?;
        let mut all = self.chain(first, |p| {
            p.take(Kind::Or, "")?;
            p.term()
        })?;
        Some(if all.len() == 1 { all.remove(0) } else { Bool::Or(all) })
    }

    fn term(&mut self) -> Option<Bool> {
        let first = self.bool_value()?;
        let mut all = self.chain(first, |p| {
            p.take(Kind::And, "")?;
            p.bool_value()
        })?;
        Some(if all.len() == 1 { all.remove(0) } else { Bool::And(all) })
    }

    fn bool_value(&mut self) -> Option<Bool> {
        let negated = self.attempt(|p| p.take(Kind::Not, "")).is_some();
        let value = self
            .attempt(Self::comparison)
            .or_else(|| {
                let literal = self.attempt(|p| p.take(Kind::Boolean, ""))?;
                Some(Bool::Literal(literal == "true"))
            })
            .or_else(|| self.attempt(Self::call).map(Bool::Call))
            .or_else(|| self.attempt(|p| p.nested(Self::bool_group)))?;
        Some(if negated { Bool::Not(Box::new(value)) } else { value })
    }

    fn bool_group(&mut self) -> Option<Bool> {
        self.take_char(b'(', "expected Field (\".\" Field)*")?;
        let inner = self.bool_expr()?;
        self.take_char(b')', "expected \")\"")?;
        Some(inner)
    }

    fn comparison(&mut self) -> Option<Bool> {
        let left = self.value()?;
        let operator = match self.take(Kind::Comparison, "expected <opcomparison> Value")? {
            "==" => Comparison::Eq,
            "!=" => Comparison::Ne,
            "<" => Comparison::Lt,
            "<=" => Comparison::Le,
            ">=" => Comparison::Ge,
            _ => Comparison::Gt,
        };
        Some(Bool::Compare(left, operator, self.value()?))
    }

    fn value(&mut self) -> Option<Value> {
        match self.peek() {
            Kind::Nil => self.take(Kind::Nil, "").map(|_| Value::Nil),
            Kind::Bytes => self.bytes(),
            Kind::String => self.string().map(Value::Str),
            Kind::Boolean => self.take(Kind::Boolean, "").map(|text| Value::Bool(text == "true")),
            Kind::Punct(b'{') => self.nested(Self::map),
            Kind::Punct(b'[') => self.nested(Self::list),
            _ => self.attempt(Self::math).map(Value::Math).or_else(|| self.attempt(Self::symbol)),
        }
    }

    /// Only upper-case: a name of an enum's value.
    fn symbol(&mut self) -> Option<Value> {
        let symbol = self.take(Kind::Upper, "expected Field (\".\" Field)*")?;
        if self.peek() == Kind::Lower {
            self.fail("");
            return None;
        }
        Some(Value::Enum(symbol.to_owned()))
    }

    fn string(&mut self) -> Option<String> {
        lex::unquote(self.take(Kind::String, "expected <string>")?)
    }

    fn bytes(&mut self) -> Option<Value> {
        let text = self.take(Kind::Bytes, "")?;
        let digits = &text.as_bytes()[2..];
        if digits.len() % 2 != 0 {
            return self.refuse(format!(
                "condition has invalid syntax: byte literals must have an even number of \
                 hexadecimal digits, but got {text}"
            ));
        }
        let nibble = |b: u8| char::from(b).to_digit(16).unwrap_or(0);
        let octet = |pair: &[u8]| (nibble(pair[0]) << 4 | nibble(pair[1])).to_le_bytes()[0];
        Some(Value::Bytes(digits.chunks_exact(2).map(octet).collect()))
    }

    fn list(&mut self) -> Option<Value> {
        self.take_char(b'[', "expected \"[\"")?;
        let mut items = Vec::new();
        if let Some(first) = self.attempt(Self::value) {
            items = self.chain(first, |p| {
                p.take_char(b',', "expected \"]\"")?;
                p.value()
            })?;
        }
        self.take_char(b']', "expected \"]\"")?;
        Some(Value::List(items))
    }

    fn map(&mut self) -> Option<Value> {
        self.take_char(b'{', "expected \"{\"")?;
        let mut entries = Vec::new();
        let entry = |p: &mut Self| {
            let key = p.string()?;
            p.take_char(b':', "expected \":\"")?;
            let value = p.value()?;
            let _ = p.attempt(|p| p.take_char(b',', ""));
            Some((key, value))
        };
        if let Some(first) = self.attempt(entry) {
            entries = self.chain(first, entry)?;
        }
        self.take_char(b'}', "expected \"}\"")?;
        Some(Value::Map(entries))
    }

    fn math(&mut self) -> Option<Math> {
        let first = self.product()?;
        self.operations(first, Kind::AddSub, Self::product)
    }

    fn product(&mut self) -> Option<Math> {
        let first = self.math_value()?;
        self.operations(first, Kind::MultDiv, Self::math_value)
    }

    fn operations(
        &mut self,
        first: Math,
        kind: Kind,
        operand: fn(&mut Self) -> Option<Math>,
    ) -> Option<Math> {
        let mut left = first;
        let mut length = 0;
        while let Some((operator, right)) = self.attempt(|p| {
            let operator = match p.take(kind, "")? {
                "+" => Operator::Add,
                "-" => Operator::Sub,
                "*" => Operator::Mul,
                _ => Operator::Div,
            };
            Some((operator, operand(p)?))
        }) {
            left = Math::Binary(Box::new(left), operator, Box::new(right));
            length += 1;
            if length > DEPTH_MAX {
                return self.refuse(format!("condition has more than {DEPTH_MAX} operators"));
            }
        }
        Some(left)
    }

    fn math_value(&mut self) -> Option<Math> {
        let sign = self.attempt(|p| p.take(Kind::AddSub, ""));
        let negative = sign == Some("-");
        if let Some(literal) = self.attempt(Self::literal) {
            return Some(match literal {
                Math::Int(n) if negative => Math::Int(n.wrapping_neg()),
                Math::Float(n) if negative => Math::Float(-n),
                other if negative => Math::Neg(Box::new(other)),
                other => other,
            });
        }
        let inner = self.nested(|p| {
            p.take_char(b'(', "expected Field (\".\" Field)*")?;
            let inner = p.math()?;
            p.take_char(b')', "expected \")\"")?;
            Some(inner)
        })?;
        Some(if negative { Math::Neg(Box::new(inner)) } else { inner })
    }

    fn literal(&mut self) -> Option<Math> {
        match self.peek() {
            Kind::Float => {
                let text = self.take(Kind::Float, "")?;
                match text.parse::<f64>() {
                    Ok(number) if number.is_finite() => Some(Math::Float(number)),
                    _ => self.refuse(out_of_range("ParseFloat", text)),
                }
            }
            Kind::Int => self.int().map(Math::Int),
            Kind::Upper => self.call().map(Math::Call),
            Kind::Lower => {
                if let Some(name) = self.attempt(Self::editor) {
                    return self.refuse(format!(
                        "converter names must start with an uppercase letter but got '{name}'"
                    ));
                }
                self.path().map(Math::Path)
            }
            _ => {
                self.fail("expected Field (\".\" Field)*");
                None
            }
        }
    }

    /// An integer, octal after a zero.
    fn int(&mut self) -> Option<i64> {
        let text = self.take(Kind::Int, "expected <int>")?;
        let octal = text.strip_prefix('0').filter(|digits| !digits.is_empty());
        let parsed = match octal {
            Some(digits) => i64::from_str_radix(digits, 8),
            None => text.parse(),
        };
        match parsed {
            Ok(number) => Some(number),
            Err(_) => self.refuse(out_of_range("ParseInt", text)),
        }
    }

    /// A call of what only a statement may call.
    fn editor(&mut self) -> Option<String> {
        let name = self.name(Kind::Lower)?;
        self.nested(Self::arguments)?;
        Some(name)
    }

    /// Words without white space between them would be one; with it they are one too.
    fn name(&mut self, first: Kind) -> Option<String> {
        let mut name = self.take(first, "expected Field (\".\" Field)*")?.to_owned();
        while let Kind::Upper | Kind::Lower = self.peek() {
            name.push_str(self.tokens[self.at].text);
            self.at += 1;
        }
        Some(name)
    }

    fn call(&mut self) -> Option<Call> {
        let name = self.name(Kind::Upper)?;
        let arguments = self.nested(Self::arguments)?;
        Some(Call { name, arguments, keys: self.keys()? })
    }

    fn arguments(&mut self) -> Option<Vec<(Option<String>, Value)>> {
        self.take_char(b'(', "expected \"(\" (Argument (\",\" Argument)*)? \")\" Key*")?;
        let mut arguments = Vec::new();
        if let Some(first) = self.attempt(Self::argument) {
            arguments = self.chain(first, |p| {
                p.take_char(b',', "expected \")\" Key*")?;
                p.argument()
            })?;
        }
        self.take_char(b')', "expected \")\" Key*")?;
        Some(arguments)
    }

    fn argument(&mut self) -> Option<(Option<String>, Value)> {
        let name = self.attempt(|p| {
            let name = p.name(Kind::Lower)?;
            p.take(Kind::Equal, "").map(|_| name)
        });
        let value = self
            .attempt(Self::value)
            .or_else(|| self.attempt(|p| p.name(Kind::Upper)).map(Value::Function))?;
        Some((name, value))
    }

    fn path(&mut self) -> Option<Path> {
        let offset = self.tokens[self.at].offset;
        let first = self.field()?;
        let fields = self.chain(first, |p| {
            p.take_char(b'.', "")?;
            p.field()
        })?;
        let context = (fields.len() > 1 && fields[0].1.is_empty()).then(|| fields[0].0.clone());
        self.paths.insert(offset, context);
        Some(Path { fields, offset })
    }

    fn field(&mut self) -> Option<(String, Vec<Key>)> {
        let name = self.take(Kind::Lower, "expected Field (\".\" Field)*")?.to_owned();
        Some((name, self.keys()?))
    }

    fn keys(&mut self) -> Option<Vec<Key>> {
        match self.attempt(|p| p.nested(Self::key)) {
            None => Some(Vec::new()),
            Some(first) => self.chain(first, |p| p.nested(Self::key)),
        }
    }

    fn key(&mut self) -> Option<Key> {
        self.take_char(b'[', "")?;
        let key = match self.peek() {
            Kind::String => Key::Str(self.string()?),
            // an integer and nothing after it, as in the collector's grammar
            Kind::Int => Key::Int(self.int()?),
            _ => Key::Math(self.math()?),
        };
        self.take_char(b']', "expected \"]\"")?;
        Some(key)
    }
}

fn out_of_range(function: &str, text: &str) -> String {
    format!(
        "condition has invalid syntax: strconv.{function}: parsing {text:?}: value out of range"
    )
}
