//! Policies, compiled: the predicates that spans and resources are asked on arrival, and the nodes
//! that combine them when the time comes.
//!
//! Equal predicates of several policies are one. Only the keys and fields that a predicate names
//! are read. A predicate that holds for a trace is not asked again for it.

use std::collections::BTreeMap;

use super::bits::{self, Bit};
use super::options::{ErrorMode, Options, Policy, Rule};
use super::ottl::{Condition, List, Noted, Scene};
use super::pattern::Pattern;
use super::policy::limiter::{Bucket, Window};
use super::policy::probabilistic::Probabilistic;
use super::policy::trace_state::TraceState;
use super::policy::{Limiters, Node, Sub};
use crate::otlp::span::{Facts, Found, Wanted};
use crate::otlp::value::{Value, attributes};

mod compile;
mod ignored;
mod times;

pub use ignored::Ignored;
pub use times::Times;

/// Field of a span: its events.
const EVENTS: u32 = 11;

/// A top-level policy.
#[derive(Debug)]
pub struct Compiled {
    /// `name`.
    pub name: Box<str>,
    /// What it asks.
    pub node: Node,
}

/// All policies of a processor.
#[derive(Debug)]
pub struct Program {
    /// Drop policies first, each kind in the order of the file (tailsampling 2.15).
    pub policies: Vec<Compiled>,
    /// How many of them are drop policies.
    pub drops: usize,
    /// Attribute keys that predicates ask for.
    pub wanted: Wanted,
    /// Words in a trace's set of predicates.
    pub words: usize,
    /// Somebody counts the bytes of a trace.
    pub needs_size: bool,
    /// Position in the file of each policy.
    keys: Vec<KeyTests>,
    statuses: [Box<[u64]>; 3],
    flags: Option<Bit>,
    states: Vec<(Bit, TraceState)>,
    latencies: Vec<Latency>,
    conditions: Vec<Conditions>,
}

/// What is asked of the attribute of one key.
#[derive(Debug, Default)]
struct KeyTests {
    /// Values of whole strings, and who they are for.
    exact: BTreeMap<Box<[u8]>, Vec<Bit>>,
    patterns: Vec<(Bit, Vec<Pattern>)>,
    ranges: Vec<(Bit, i64, i64)>,
    /// For false and for true.
    bools: [Vec<Bit>; 2],
}

#[derive(Debug)]
struct Latency {
    bit: Bit,
    over_ms: i64,
    /// `None` is no limit.
    upto_ms: Option<i64>,
}

/// An `ottl_condition`: any of its conditions.
#[derive(Debug)]
struct Conditions {
    holds: Bit,
    fails: Bit,
    error_mode: ErrorMode,
    span: Vec<Condition>,
    event: Vec<Condition>,
}

/// A span in its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its field, that `facts` and `found` point into.
    pub field: &'a [u8],
    /// What was noted on the walk.
    pub facts: &'a Facts,
    /// The attributes that were found in the span.
    pub found: &'a [Found],
    /// Content of its Resource.
    pub resource: &'a [u8],
    /// Content of its InstrumentationScope.
    pub scope: &'a [u8],
}

impl<'a> Subject<'a> {
    /// Content of the span.
    #[must_use]
    pub fn span(&self) -> &'a [u8] {
        self.facts.content(self.field)
    }
}

impl Program {
    /// Compiles the policies; the limiters are for all cores together.
    ///
    /// # Errors
    /// A text that names the policy, for the first regular expression or condition that does not
    /// compile. Configuration has compiled each of them before.
    pub fn compile(options: &Options) -> Result<(Self, Limiters), String> {
        compile::program(options)
    }

    /// Adds the predicates that hold for a resource.
    pub fn ask_resource(&self, resource: &[u8], holds: &mut [u64]) {
        if self.wanted.is_empty() {
            return;
        }
        let mut seen: Vec<u16> = Vec::new();
        for (key, value) in attributes(resource, 1) {
            if let Some(at) = self.wanted.find(key)
                && !seen.contains(&at)
            {
                seen.push(at);
                let tests = &self.keys[at as usize];
                tests.strings(text(value), holds);
                tests.others(value, holds);
            }
        }
    }

    /// Adds the predicates that hold for a span; errors that are told of go to `ignored`. The
    /// `subject` is what `facts` were noted of, asked for only if a predicate reads on in it.
    #[inline]
    pub fn ask_span<'a>(
        &self,
        facts: &Facts,
        subject: impl FnOnce() -> Subject<'a>,
        unix_nanos: u64,
        holds: &mut [u64],
        ignored: &mut [Ignored],
    ) {
        if let Some(mask) = self.statuses.get(facts.status as usize) {
            bits::add(holds, mask);
        }
        if let Some(bit) = self.flags
            && facts.flags & 1 == 1
        {
            bit.set(holds);
        }
        let has_attributes = facts.found.0 < facts.found.1;
        if has_attributes || !self.states.is_empty() || !self.conditions.is_empty() {
            self.ask_subject(&subject(), unix_nanos, holds, ignored);
        }
    }

    /// Adds those that hold for its attributes, its state, and what conditions read.
    fn ask_subject(
        &self,
        subject: &Subject<'_>,
        unix_nanos: u64,
        holds: &mut [u64],
        ignored: &mut [Ignored],
    ) {
        for found in subject.found {
            let tests = &self.keys[found.key as usize];
            let value = Value::read(found.value.of(subject.field));
            // Of a span, what reads as empty is not even asked (tailsampling 2.4).
            if let Value::Str(text) = value
                && !text.is_empty()
            {
                tests.strings(text, holds);
            }
            tests.others(value, holds);
        }
        for (bit, state) in &self.states {
            if !bit.is_in(holds) && state.matches(subject.facts.trace_state.of(subject.field)) {
                bit.set(holds);
            }
        }
        for (conditions, ignored) in self.conditions.iter().zip(ignored) {
            if !conditions.holds.is_in(holds) && !conditions.fails.is_in(holds) {
                conditions.ask(subject, unix_nanos, holds, ignored);
            }
        }
    }

    /// Adds the latency predicates that hold now that the trace has one more span.
    #[inline]
    pub fn ask_times(&self, times: &mut Times, facts: &Facts, holds: &mut [u64]) {
        if self.latencies.is_empty() {
            return;
        }
        let ms = times.add(facts.start, facts.end);
        for latency in &self.latencies {
            if latency.over_ms < ms && latency.upto_ms.is_none_or(|upto| ms <= upto) {
                latency.bit.set(holds);
            }
        }
    }
}

/// As the collector reads an attribute as a string: what is none is empty.
const fn text(value: Value<'_>) -> &[u8] {
    if let Value::Str(text) = value { text } else { b"" }
}

impl KeyTests {
    fn strings(&self, text: &[u8], holds: &mut [u64]) {
        if let Some(bits) = self.exact.get(text) {
            bits.iter().for_each(|bit| bit.set(holds));
        }
        for (bit, patterns) in &self.patterns {
            if !bit.is_in(holds) && patterns.iter().any(|p| p.is_match(text)) {
                bit.set(holds);
            }
        }
    }

    /// Numbers and bools: what is none reads as 0 and false.
    fn others(&self, value: Value<'_>, holds: &mut [u64]) {
        if !self.ranges.is_empty() {
            let int = if let Value::Int(int) = value { int } else { 0 };
            for (bit, min, max) in &self.ranges {
                if *min <= int && int <= *max {
                    bit.set(holds);
                }
            }
        }
        let bool = matches!(value, Value::Bool(true));
        self.bools[usize::from(bool)].iter().for_each(|bit| bit.set(holds));
    }
}

impl Conditions {
    /// The first condition that holds, or that fails where failures count, decides.
    fn ask(
        &self,
        subject: &Subject<'_>,
        unix_nanos: u64,
        holds: &mut [u64],
        ignored: &mut Ignored,
    ) {
        let mut scene = Scene {
            resource: subject.resource,
            scope: subject.scope,
            span: subject.span(),
            event: None,
            now_unix_nanos: unix_nanos,
            noted: Some(Noted { field: subject.field, facts: subject.facts, found: subject.found }),
        };
        if self.any((&self.span, 0), &scene, holds, ignored) || self.event.is_empty() {
            return;
        }
        for event in crate::otlp::value::messages(subject.span(), EVENTS) {
            scene.event = Some(event);
            if self.any((&self.event, self.span.len()), &scene, holds, ignored) {
                return;
            }
        }
    }

    /// True if it is decided. The position of the first of `conditions` is `first`.
    fn any(
        &self,
        (conditions, first): (&[Condition], usize),
        scene: &Scene<'_>,
        holds: &mut [u64],
        ignored: &mut Ignored,
    ) -> bool {
        for (at, condition) in conditions.iter().enumerate() {
            match condition.eval(scene) {
                Ok(true) => {
                    self.holds.set(holds);
                    return true;
                }
                Ok(false) => {}
                Err(_) if self.error_mode == ErrorMode::Propagate => {
                    self.fails.set(holds);
                    return true;
                }
                Err(error) if self.error_mode == ErrorMode::Ignore => {
                    ignored.add(first + at, error);
                }
                Err(_) => {}
            }
        }
        false
    }
}
