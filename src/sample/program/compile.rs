//! From options to predicates and nodes.

use super::{
    Bit, Bucket, Compiled, Condition, Conditions, KeyTests, Latency, Limiters, List, Node, Options,
    Pattern, Policy, Probabilistic, Program, Rule, Sub, TraceState, Wanted, Window,
};
use crate::sample::options::ErrorMode;

/// What a bit stands for, so that equal predicates are one.
#[derive(Clone, Debug, PartialEq)]
enum Predicate {
    Strings {
        key: u16,
        values: Vec<String>,
        regex: bool,
    },
    Range {
        key: u16,
        min: i64,
        max: i64,
    },
    Bool {
        key: u16,
        value: bool,
    },
    Status([bool; 3]),
    Flags,
    State(TraceState),
    Latency {
        over_ms: i64,
        upto_ms: Option<i64>,
    },
    Condition {
        error_mode: ErrorMode,
        span: Vec<String>,
        event: Vec<String>,
    },
    /// Of the condition before it.
    Failure,
}

#[derive(Default)]
struct Compiler {
    predicates: Vec<Predicate>,
    wanted: Wanted,
    limiters: Limiters,
    counts_bytes: bool,
}

pub(super) fn program(options: &Options) -> Result<(Program, Limiters), String> {
    let mut compiler = Compiler::default();
    let (drops, others): (Vec<&Policy>, Vec<&Policy>) =
        options.policies.iter().partition(|p| matches!(p.rule, Rule::Drop(_)));
    let (drop_count, mut policies) = (drops.len(), Vec::new());
    for policy in drops.into_iter().chain(others) {
        let node = compiler.node(&policy.rule);
        policies.push(Compiled { name: policy.name.as_str().into(), node });
    }
    let needs_size =
        compiler.counts_bytes || options.trace_bytes_max > 0 || options.gates.count_bytes_sampled;
    let words = compiler.predicates.len().div_ceil(64).max(1);
    let mut program = Program {
        policies,
        drops: drop_count,
        keys: (0..compiler.wanted.len()).map(|_| KeyTests::default()).collect(),
        wanted: compiler.wanted,
        words,
        needs_size,
        statuses: std::array::from_fn(|_| vec![0; words].into()),
        flags: None,
        states: Vec::new(),
        latencies: Vec::new(),
        conditions: Vec::new(),
    };
    for (at, predicate) in compiler.predicates.into_iter().enumerate() {
        program.install(bit(at), predicate)?;
    }
    Ok((program, compiler.limiters))
}

fn bit(at: usize) -> Bit {
    Bit(u16::try_from(at).expect("fewer predicates than bytes of a configuration"))
}

impl Compiler {
    fn predicate(&mut self, predicate: Predicate) -> Bit {
        let known = self.predicates.iter().position(|p| *p == predicate);
        bit(known.unwrap_or_else(|| {
            self.predicates.push(predicate);
            self.predicates.len() - 1
        }))
    }

    fn key(&mut self, key: &str) -> u16 {
        self.wanted.position(key.as_bytes())
    }

    fn attribute(&mut self, invert: bool, predicate: Predicate) -> Node {
        let bit = self.predicate(predicate);
        if invert { Node::HoldsNot(bit) } else { Node::Holds(bit) }
    }

    fn node(&mut self, rule: &Rule) -> Node {
        match rule {
            Rule::AlwaysSample => Node::Always,
            Rule::Latency { threshold_ms, upper_threshold_ms: upper } => {
                let upto_ms = Some(*upper).filter(|upper| *upper != 0);
                let latency = Predicate::Latency { over_ms: *threshold_ms, upto_ms };
                Node::Holds(self.predicate(latency))
            }
            Rule::NumericAttribute { key, min, max, invert } => {
                let key = self.key(key);
                self.attribute(*invert, Predicate::Range { key, min: *min, max: *max })
            }
            Rule::StringAttribute { key, values, regex, invert } => {
                let (key, values) = (self.key(key), values.clone());
                self.attribute(*invert, Predicate::Strings { key, values, regex: *regex })
            }
            Rule::BooleanAttribute { key, value, invert } => {
                let key = self.key(key);
                self.attribute(*invert, Predicate::Bool { key, value: *value })
            }
            Rule::StatusCode(codes) => Node::Holds(self.predicate(Predicate::Status(*codes))),
            Rule::TraceState { key, values } => {
                let state = Predicate::State(TraceState::new(key, values));
                Node::Holds(self.predicate(state))
            }
            Rule::TraceFlags => Node::Holds(self.predicate(Predicate::Flags)),
            Rule::OttlCondition { error_mode, span, spanevent } => {
                self.condition(*error_mode, span, spanevent)
            }
            Rule::SpanCount { min, max } => {
                Node::Count { min: i64::from(*min), max: i64::from(*max) }
            }
            Rule::Probabilistic { percentage, salt } => {
                Node::Probabilistic(Probabilistic::new(*percentage, salt))
            }
            Rule::RateLimiting { per_second, burst } => self.limit(*per_second, *burst, false),
            Rule::BytesLimiting { per_second, burst } => self.limit(*per_second, *burst, true),
            Rule::And(subs) => Node::And(self.nodes(subs)),
            Rule::Not(sub) => Node::Not(Box::new(self.node(&sub.rule))),
            Rule::Drop(subs) => Node::Drop(self.nodes(subs)),
            Rule::Composite { spans_per_second_max, subs } => {
                let subs = subs.iter().map(|(sub, share)| self.sub(sub, *share)).collect();
                Node::Composite { max: *spans_per_second_max, subs }
            }
        }
    }

    fn nodes(&mut self, subs: &[Policy]) -> Vec<Node> {
        subs.iter().map(|sub| self.node(&sub.rule)).collect()
    }

    fn sub(&mut self, sub: &Policy, share: i64) -> Sub {
        let node = self.node(&sub.rule);
        self.limiters.windows.push(Window::default());
        let window = self.limiters.windows.len() - 1;
        Sub { node, share, window, name: sub.name.as_str().into() }
    }

    fn limit(&mut self, per_second: i64, burst: i64, bytes: bool) -> Node {
        self.counts_bytes |= bytes;
        self.limiters.buckets.push(Bucket::new(per_second, burst));
        Node::Limit { bucket: self.limiters.buckets.len() - 1, bytes }
    }

    /// A condition has two bits that stand side by side.
    fn condition(&mut self, error_mode: ErrorMode, span: &[String], event: &[String]) -> Node {
        let (span, event) = (span.to_vec(), event.to_vec());
        let before = self.predicates.len();
        let holds = self.predicate(Predicate::Condition { error_mode, span, event });
        if usize::from(holds.0) == before {
            self.predicates.push(Predicate::Failure);
        }
        Node::Condition { holds, fails: Bit(holds.0 + 1) }
    }
}

impl Program {
    /// Puts a predicate where spans will meet it.
    fn install(&mut self, bit: Bit, predicate: Predicate) -> Result<(), String> {
        match predicate {
            Predicate::Strings { key, values, regex: false } => {
                for value in values.into_iter().filter(|v| !v.is_empty()) {
                    let exact = &mut self.keys[key as usize].exact;
                    exact.entry(value.into_bytes().into()).or_default().push(bit);
                }
            }
            Predicate::Strings { key, values, regex: true } => {
                let patterns: Result<Vec<Pattern>, _> =
                    values.iter().map(|v| Pattern::new(v)).collect();
                let patterns = patterns.map_err(|e| e.to_string())?;
                self.keys[key as usize].patterns.push((bit, patterns));
            }
            Predicate::Range { key, min, max } => {
                self.keys[key as usize].ranges.push((bit, min, max));
            }
            Predicate::Bool { key, value } => {
                self.keys[key as usize].bools[usize::from(value)].push(bit);
            }
            Predicate::Status(codes) => {
                for (mask, _) in self.statuses.iter_mut().zip(codes).filter(|(_, wanted)| *wanted) {
                    bit.set(mask);
                }
            }
            Predicate::Flags => self.flags = Some(bit),
            Predicate::State(state) => self.states.push((bit, state)),
            Predicate::Latency { over_ms, upto_ms } => {
                self.latencies.push(Latency { bit, over_ms, upto_ms });
            }
            Predicate::Condition { error_mode, span, event } => {
                let conditions = Conditions {
                    holds: bit,
                    fails: Bit(bit.0 + 1),
                    error_mode,
                    span: conditions(&span, List::Span, &mut self.wanted)?,
                    event: conditions(&event, List::SpanEvent, &mut self.wanted)?,
                };
                self.conditions.push(conditions);
                self.keys.resize_with(self.wanted.len(), KeyTests::default);
            }
            Predicate::Failure => {}
        }
        Ok(())
    }
}

fn conditions(texts: &[String], list: List, wanted: &mut Wanted) -> Result<Vec<Condition>, String> {
    let mut compile = |text: &String| {
        Condition::compile_with(text, list, Some(wanted)).map_err(|e| e.to_string())
    };
    texts.iter().map(&mut compile).collect()
}
