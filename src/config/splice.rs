//! `forward` connectors: a pipeline's exporter that is another pipeline's receiver. They are
//! resolved here, so that nothing behind the configuration knows of them.
//!
//! A pipeline is given the receivers of the pipelines in front of it. Only where one of those
//! samples it cannot be: the sampler keeps its receivers and is given the exporters of the
//! pipelines behind it. Processors of all pipelines on the way apply. A pipeline that is left
//! without receivers or without exporters is gone.
//!
//! That each connector leads somewhere, and none in a circle, is checked here too, in the
//! collector's words.

use std::collections::BTreeSet;

use super::components::tail_sampling;
use super::ids::Id;
use super::report::{At, Log, quote};
use super::service::{Draft, Reference};

/// What a pipeline becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced<'a> {
    /// The pipeline.
    pub draft: &'a Draft,
    /// From its receivers, and from those in front of it; one that comes by several ways stands
    /// as often.
    pub feeds: Vec<Feed<'a>>,
    /// The processors of the pipelines in front, and its own.
    pub processors: Vec<&'a Reference>,
    /// Processors of the pipelines behind, which take what its sampler keeps.
    pub behind: Vec<&'a Reference>,
    /// Its exporters, and behind a sampler those of the pipelines behind, each once.
    pub exporters: Vec<&'a Id>,
    /// The ways from its sampler to those, if it samples.
    pub legs: Vec<Leg<'a>>,
}

/// A way from a receiver to the end of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed<'a> {
    /// The receiver.
    pub receiver: &'a Id,
    /// The processors on it, in their order.
    pub through: Vec<&'a Reference>,
}

/// A way from a sampler to the end of its pipeline, or of one behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg<'a> {
    /// The processors on it, in their order.
    pub through: Vec<&'a Reference>,
    /// The exporters at that end.
    pub exporters: Vec<&'a Id>,
}

/// The pipelines and the connectors between them.
#[derive(Debug)]
pub struct Graph<'a> {
    drafts: &'a [Draft],
    connectors: BTreeSet<&'a Id>,
}

impl<'a> Graph<'a> {
    /// Of these pipelines; `connectors` are the ids of all `forward` connectors.
    pub fn new(drafts: &'a [Draft], connectors: impl IntoIterator<Item = &'a Id>) -> Self {
        Self { drafts, connectors: connectors.into_iter().collect() }
    }

    fn is_connector(&self, reference: &&Reference) -> bool {
        self.connectors.contains(&reference.id)
    }

    /// Connectors by which one pipeline gives to another.
    fn connectors_between(&self, from: usize, to: usize) -> impl Iterator<Item = &'a Id> {
        let (from, to) = (&self.drafts[from], &self.drafts[to]);
        let connectors = from.exporters.iter().filter(|r| self.is_connector(r));
        let both = connectors.filter(|out| to.receivers.iter().any(|r| r.id == out.id));
        both.filter(|_| from.signal == to.signal).map(|r| &r.id)
    }

    /// Pipelines that `at` gives to.
    fn next(&self, at: usize) -> impl Iterator<Item = usize> {
        let all = 0..self.drafts.len();
        all.filter(move |&to| self.connectors_between(at, to).next().is_some())
    }

    fn samples(&self, at: usize) -> bool {
        self.drafts[at].processors.iter().any(|r| r.id.kind == tail_sampling::TYPE)
    }

    /// Reports connectors that lead nowhere or in a circle, and samplers behind samplers.
    pub fn check(&self, declared: &[(&Id, At)], log: &Log) {
        for (id, at) in declared {
            self.check_ends(id, *at, log);
        }
        if let Some(circle) = (0..self.drafts.len()).find_map(|start| self.circle(start)) {
            let first = &self.drafts[circle[0]];
            let signal = first.signal.name();
            let mut ways: Vec<_> = circle
                .windows(2)
                .filter_map(|pair| self.connectors_between(pair[0], pair[1]).next())
                .map(|id| format!("connector {} ({signal} to {signal})", quote(&id.to_string())))
                .collect();
            ways.extend(ways.first().cloned());
            let path = format!("service::pipelines::{}", first.id);
            log.error(first.at, &path, format!("cycle detected: {}", ways.join(" -> ")), None);
            return;
        }
        for from in (0..self.drafts.len()).filter(|&at| self.samples(at)) {
            for to in self.behind(from).into_iter().filter(|&to| self.samples(to)) {
                let (from, to) = (&self.drafts[from], &self.drafts[to]);
                let what = format!("its sampler stands behind that of {}", from.id);
                let right = "put the policies of both into one: \
                             policies of type and, not and drop combine conditions";
                let path = format!("service::pipelines::{}", to.id);
                log.error(to.at, &path, what, Some(right.into()));
            }
        }
    }

    /// A connector that is used on one side wants the other for the same signal.
    fn check_ends(&self, id: &Id, at: At, log: &Log) {
        let users = |of: fn(&Draft) -> &[Reference]| {
            let names = move |draft: &&Draft| of(draft).iter().any(|r| r.id == *id);
            self.drafts.iter().filter(names).collect::<Vec<_>>()
        };
        let inlets = users(|draft| &draft.exporters);
        let outlets = users(|draft| &draft.receivers);
        let alone = |mine: &[&Draft], others: &[&Draft], role: &str, other: &str| {
            for draft in mine {
                if others.iter().any(|o| o.signal == draft.signal) {
                    continue;
                }
                let what = format!(
                    "connector {} used as {role} in [{}] pipeline but not used in any supported \
                     {other} pipeline",
                    quote(&id.to_string()),
                    draft.id
                );
                log.error(at, &format!("connectors::{id}"), what, None);
            }
        };
        alone(&inlets, &outlets, "exporter", "receiver");
        alone(&outlets, &inlets, "receiver", "exporter");
    }

    /// A way from a pipeline back to it.
    fn circle(&self, start: usize) -> Option<Vec<usize>> {
        let mut seen = BTreeSet::new();
        let mut ways = vec![vec![start]];
        while let Some(way) = ways.pop() {
            for next in self.next(*way.last().expect("it has a start")) {
                let longer = [&way[..], &[next]].concat();
                if next == start {
                    return Some(longer);
                }
                if seen.insert(next) {
                    ways.push(longer);
                }
            }
        }
        None
    }

    /// All pipelines behind one, nearest first.
    fn behind(&self, start: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut look = vec![start];
        while let Some(at) = look.pop() {
            for next in self.next(at) {
                if !found.contains(&next) {
                    found.push(next);
                    look.push(next);
                }
            }
        }
        found
    }

    /// What each pipeline becomes. Only of a graph that [`Self::check`] found good.
    #[must_use]
    pub fn spliced(&self) -> Vec<Spliced<'a>> {
        let order = self.in_order();
        let mut fed: Vec<Vec<Feed<'a>>> = vec![Vec::new(); self.drafts.len()];
        let mut passed: Vec<Vec<&'a Reference>> = vec![Vec::new(); self.drafts.len()];
        for &at in &order {
            let own = self.drafts[at].receivers.iter().filter(|r| !self.is_connector(r));
            fed[at].extend(own.map(|r| Feed { receiver: &r.id, through: Vec::new() }));
            let processors = &self.drafts[at].processors;
            fed[at].iter_mut().for_each(|feed| feed.through.extend(processors));
            passed[at].extend(&self.drafts[at].processors);
            if self.samples(at) {
                continue;
            }
            for next in self.next(at) {
                let feeds = fed[at].clone();
                for _ in self.connectors_between(at, next) {
                    fed[next].extend_from_slice(&feeds);
                }
                fed[next].truncate(FEEDS_MAX);
                let more = passed[at].iter().filter(|r| !passed[next].contains(r));
                let more: Vec<_> = more.copied().collect();
                passed[next].extend(more);
            }
        }
        let all = (0..self.drafts.len())
            .map(|at| self.one(at, std::mem::take(&mut fed[at]), std::mem::take(&mut passed[at])));
        all.filter(|s| !s.feeds.is_empty() && !s.exporters.is_empty()).collect()
    }

    fn one(&self, at: usize, feeds: Vec<Feed<'a>>, processors: Vec<&'a Reference>) -> Spliced<'a> {
        let draft = &self.drafts[at];
        let mut out: Vec<&Id> = self.exporters(at).collect();
        let (mut behind, mut legs) = (Vec::new(), Vec::new());
        if self.samples(at) {
            for next in self.behind(at) {
                behind.extend(&self.drafts[next].processors);
                for id in self.exporters(next) {
                    if !out.contains(&id) {
                        out.push(id);
                    }
                }
            }
            let is_sampler = |r: &Reference| r.id.kind == tail_sampling::TYPE;
            let own = draft.processors.iter().skip_while(|r| !is_sampler(r)).skip(1);
            self.legs(at, own.collect(), self.drafts.len(), &mut legs);
        }
        Spliced { draft, feeds, processors, behind, exporters: out, legs }
    }

    fn exporters(&self, at: usize) -> impl Iterator<Item = &'a Id> {
        let own = self.drafts[at].exporters.iter().filter(|r| !self.is_connector(r));
        own.map(|r| &r.id)
    }

    /// Adds every way from pipeline `at` on, through so many more at most.
    fn legs(&self, at: usize, through: Vec<&'a Reference>, more: usize, legs: &mut Vec<Leg<'a>>) {
        if legs.len() >= FEEDS_MAX {
            return;
        }
        for next in self.next(at).filter(|_| more > 0) {
            let through = through.iter().copied().chain(&self.drafts[next].processors);
            self.legs(next, through.collect(), more - 1, legs);
        }
        legs.push(Leg { through, exporters: self.exporters(at).collect() });
    }

    /// Pipelines so that each stands behind all that give to it.
    fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        while order.len() < self.drafts.len() {
            let before = order.len();
            for at in 0..self.drafts.len() {
                let waits = (0..self.drafts.len())
                    .any(|from| !order.contains(&from) && self.next(from).any(|to| to == at));
                if !waits && !order.contains(&at) {
                    order.push(at);
                }
            }
            if order.len() == before {
                // A circle, which was reported.
                break;
            }
        }
        order
    }
}

/// Ways from receivers to one pipeline, or behind a sampler. Diamonds in a row double them each
/// time.
const FEEDS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::Signal;

    fn reference(id: &str) -> Reference {
        Reference { id: Id::parse(id).unwrap(), at: At::default() }
    }

    /// `name: receivers | processors | exporters`
    fn draft(text: &str) -> Draft {
        let (id, rest) = text.split_once(": ").unwrap();
        let mut lists =
            rest.split('|').map(|list| list.split_whitespace().map(reference).collect::<Vec<_>>());
        let mut list = || lists.next().unwrap();
        let (id, at) = (Id::parse(id).unwrap(), At::default());
        let (receivers, processors, exporters) = (list(), list(), list());
        Draft { id, at, signal: Signal::Traces, receivers, processors, exporters }
    }

    fn connectors() -> Vec<Id> {
        ["forward", "forward/2", "forward/3"].map(|id| Id::parse(id).unwrap()).to_vec()
    }

    /// The same form, with the processors behind a sampler in brackets.
    fn spliced(texts: &[&str]) -> Vec<String> {
        let drafts: Vec<_> = texts.iter().map(|text| draft(text)).collect();
        let connectors = connectors();
        let join = |list: Vec<String>| list.join(" ");
        Graph::new(&drafts, &connectors)
            .spliced()
            .into_iter()
            .map(|s| {
                let receivers = s.feeds.iter().map(|feed| feed.receiver.to_string());
                let receivers = join(receivers.collect());
                let processors = join(s.processors.iter().map(|r| r.id.to_string()).collect());
                let behind = join(s.behind.iter().map(|r| r.id.to_string()).collect());
                let exporters = join(s.exporters.iter().map(ToString::to_string).collect());
                format!("{}: {receivers} | {processors} [{behind}] | {exporters}", s.draft.id)
            })
            .collect()
    }

    #[test]
    fn a_pipeline_is_given_the_receivers_in_front_of_it() {
        let got = spliced(&[
            "traces/in: otlp | memory_limiter | forward",
            "traces/also: otlp/2 | | forward nop",
            "traces/out: forward | batch | debug",
        ]);
        assert_eq!(
            got,
            [
                "traces/also: otlp/2 |  [] | nop",
                "traces/out: otlp otlp/2 | memory_limiter batch [] | debug",
            ]
        );
    }

    #[test]
    fn pipelines_in_a_row_and_by_two_ways() {
        let got = spliced(&[
            "traces/last: forward/2 forward/3 | | nop",
            "traces/a: otlp | | forward/2 forward",
            "traces/b: forward | batch | forward/3",
        ]);
        assert_eq!(got, ["traces/last: otlp otlp | batch [] | nop"]);
    }

    #[test]
    fn what_a_sampler_keeps_goes_to_the_exporters_behind_it() {
        let got = spliced(&[
            "traces/in: otlp | | forward",
            "traces/keep: forward otlp/2 | tail_sampling | forward/2 debug",
            "traces/out: forward/2 otlp/3 | batch | nop debug",
        ]);
        assert_eq!(
            got,
            [
                "traces/keep: otlp otlp/2 | tail_sampling [batch] | debug nop",
                "traces/out: otlp/3 | batch [] | nop debug",
            ]
        );
    }

    #[test]
    fn each_way_has_its_own_processors_in_their_order() {
        let texts = [
            "traces/a: otlp | resource | forward",
            "traces/b: otlp otlp/2 | batch attributes | forward",
            "traces/c: forward | resource/c tail_sampling resource/d | nop forward/2",
            "traces/d: forward/2 | attributes/e | debug",
        ];
        let drafts: Vec<_> = texts.iter().map(|text| draft(text)).collect();
        let connectors = connectors();
        let spliced = Graph::new(&drafts, &connectors).spliced();
        let [c] = &spliced[..] else { panic!("{spliced:?}") };
        let words = |through: &[&Reference]| {
            through.iter().map(|r| r.id.to_string()).collect::<Vec<_>>().join(" ")
        };
        let feeds = c.feeds.iter().map(|f| format!("{}: {}", f.receiver, words(&f.through)));
        let feeds: Vec<_> = feeds.collect();
        assert_eq!(
            feeds,
            [
                "otlp: resource resource/c tail_sampling resource/d",
                "otlp: batch attributes resource/c tail_sampling resource/d",
                "otlp/2: batch attributes resource/c tail_sampling resource/d",
            ]
        );
        let legs: Vec<_> = c.legs.iter().map(|leg| words(&leg.through)).collect();
        assert_eq!(legs, ["resource/d attributes/e", "resource/d"]);
    }

    #[test]
    fn a_circle_ends() {
        let texts = ["traces/a: otlp forward | | forward/2", "traces/b: forward/2 | | forward"];
        let drafts: Vec<_> = texts.iter().map(|text| draft(text)).collect();
        let connectors = connectors();
        let graph = Graph::new(&drafts, &connectors);
        assert_eq!(graph.circle(0), Some(vec![0, 1, 0]));
        assert_eq!(graph.spliced(), []);
    }
}
