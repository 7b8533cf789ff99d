//! The pipelines of both files, and the loopback ports that join them.

use std::collections::BTreeSet;

use super::homes::{Homes, Place};
use super::ports::Ports;
use crate::config::components::{Component, Section};
use crate::config::examine::Examined;
use crate::config::ids::Id;
use crate::config::service::{Draft, Reference};
use crate::otlp::Signal;

/// First port that is tried for a link.
const LINK_PORT: u16 = 14317;

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// `tracemill.yaml`.
    Here,
    /// `collector.yaml`.
    There,
}

impl File {
    /// Its name in the folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Here => "tracemill.yaml",
            Self::There => "collector.yaml",
        }
    }
}

/// A pipeline of one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pipe {
    /// In which file.
    pub(super) file: File,
    /// Index of the pipeline it was made of.
    pub(super) of: usize,
    /// Its id there.
    pub(super) id: Id,
    /// In order.
    pub(super) receivers: Vec<Id>,
    /// In order.
    pub(super) processors: Vec<Id>,
    /// In order.
    pub(super) exporters: Vec<Id>,
}

/// OTLP from one process to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Who listens.
    pub(super) to: File,
    /// On 127.0.0.1.
    pub(super) port: u16,
    /// What flows: each signal belongs to one pipeline on either side.
    pub(super) signals: Vec<Signal>,
    /// The listener's receiver.
    pub(super) receiver: Id,
    /// The sender's exporter.
    pub(super) exporter: Id,
}

/// Both files' pipelines.
#[derive(Debug)]
pub(super) struct Split {
    /// In the order in which data walk them, pipeline by pipeline.
    pub(super) pipes: Vec<Pipe>,
    /// In the order of their ports.
    pub(super) links: Vec<Link>,
}

impl Split {
    /// Cuts everything at its place.
    #[must_use]
    pub(super) fn new(examined: &Examined, homes: &Homes<'_>, ports: &mut Ports) -> Self {
        let taken = examined.components.keys().map(|(_, id)| id.to_string());
        let pipelines = examined.service.pipelines.iter().map(|d| d.id.to_string());
        let (taken, old_names) = (taken.chain(pipelines).collect(), has_old_names_only(examined));
        let mut cutter =
            Cutter { homes, ports, taken, old_names, pipes: Vec::new(), links: Vec::new() };
        for (of, draft) in examined.service.pipelines.iter().enumerate() {
            match homes.places[of] {
                Place::Here => cutter.whole(of, draft, File::Here),
                Place::There => cutter.there(of, draft),
                Place::Cut { front, behind } => cutter.cut(of, draft, (front, behind)),
            }
        }
        cutter.limit();
        Self { pipes: cutter.pipes, links: cutter.links }
    }

    /// Whether a pipeline of `file` names the component.
    #[must_use]
    pub(super) fn uses(&self, file: File, section: Section, id: &Id) -> bool {
        let named = |pipe: &Pipe| {
            section.named(&pipe.receivers, &pipe.processors, &pipe.exporters).any(|of| of == id)
        };
        self.pipes.iter().any(|pipe| pipe.file == file && named(pipe))
    }
}

/// Whether the user's collector may be too old for `otlp_grpc`, which today's also calls `otlp`.
fn has_old_names_only(examined: &Examined) -> bool {
    let is_new = |(section, id): &(Section, Id)| {
        *section == Section::Exporters
            && matches!(id.kind.as_str(), "otlp_grpc" | "otlp_http" | "load_balancing")
    };
    !examined.components.keys().any(is_new)
}

struct Cutter<'a, 'e> {
    homes: &'a Homes<'e>,
    ports: &'a mut Ports,
    taken: BTreeSet<String>,
    old_names: bool,
    pipes: Vec<Pipe>,
    links: Vec<Link>,
}

impl Cutter<'_, '_> {
    fn whole(&mut self, of: usize, draft: &Draft, file: File) {
        let (receivers, processors, exporters) =
            (ids(&draft.receivers), ids(&draft.processors), ids(&draft.exporters));
        self.pipes.push(Pipe { file, of, id: draft.id.clone(), receivers, processors, exporters });
    }

    /// The companion's own; what we receive for it is handed on.
    fn there(&mut self, of: usize, draft: &Draft) {
        let (ours, mut theirs) = self.receivers(draft);
        if !ours.is_empty() {
            let link = self.link(File::There, draft.signal);
            theirs.push(link.receiver);
            let (file, id, exporters) = (File::Here, draft.id.clone(), vec![link.exporter]);
            let processors = self.limiters(&draft.processors);
            self.pipes.push(Pipe { file, of, id, receivers: ours, processors, exporters });
        }
        let (processors, exporters) = (ids(&draft.processors), ids(&draft.exporters));
        let (file, id) = (File::There, draft.id.clone());
        self.pipes.push(Pipe { file, of, id, receivers: theirs, processors, exporters });
    }

    fn cut(&mut self, of: usize, draft: &Draft, (front, behind): (usize, usize)) {
        let (before, rest) = draft.processors.split_at(front);
        let (middle, after) = rest.split_at(behind - front);
        let (mut ours, theirs) = self.receivers(draft);
        let all_there = !after.is_empty();
        let is_here = |r: &&Reference| !all_there && self.homes.exports_here(&r.id);
        let (here, mut there): (Vec<_>, Vec<_>) = draft.exporters.iter().partition(is_here);
        let mut processors = [self.limiters(before), ids(middle)].concat();
        if !theirs.is_empty() {
            let link = self.link(File::Here, draft.signal);
            let mut in_front = match before.is_empty() {
                true => self.limiters(middle),
                false => ids(before),
            };
            let mut exporters = vec![link.exporter];
            // What is beside a balancer need not come here and go back.
            if ours.is_empty() && self.homes.sampler(draft).is_none() && self.is_plain(middle) {
                if !there.is_empty() {
                    in_front = once([in_front, ids(middle)].concat());
                }
                exporters.extend(there.drain(..).map(|r| r.id.clone()));
            }
            ours.push(link.receiver);
            let (file, id) = (File::There, draft.id.clone());
            let (receivers, processors) = (theirs.clone(), in_front);
            self.pipes.push(Pipe { file, of, id, receivers, processors, exporters });
        }
        let mut exporters: Vec<Id> = here.into_iter().map(|r| r.id.clone()).collect();
        let link = (!there.is_empty()).then(|| self.link(File::There, draft.signal));
        exporters.extend(link.iter().map(|link| link.exporter.clone()));
        processors = once(processors);
        let (file, id, receivers) = (File::Here, draft.id.clone(), ours);
        self.pipes.push(Pipe { file, of, id, receivers, processors, exporters });
        let Some(link) = link else { return };
        let id = match theirs.is_empty() {
            true => draft.id.clone(),
            false => self.name(&draft.id, "behind_tracemill"),
        };
        let processors = match self.limiters(after).is_empty() {
            true => [self.limiters(&draft.processors), ids(after)].concat(),
            false => ids(after),
        };
        let (file, receivers) = (File::There, vec![link.receiver]);
        let exporters = there.into_iter().map(|r| r.id.clone()).collect();
        self.pipes.push(Pipe { file, of, id, receivers, processors, exporters });
    }

    /// A limiter of the collector's holds for its process. If only the companion has one now, it
    /// stands in our pipelines too.
    fn limit(&mut self) {
        let limits = |id: &&Id| {
            self.homes.component(Section::Processors, id) == Some(Component::MemoryLimiter)
        };
        let of = |file| {
            let pipes = self.pipes.iter().filter(move |pipe| pipe.file == file);
            pipes.flat_map(|pipe| &pipe.processors).find(limits).cloned()
        };
        if let (None, Some(limiter)) = (of(File::Here), of(File::There)) {
            for pipe in self.pipes.iter_mut().filter(|pipe| pipe.file == File::Here) {
                pipe.processors.insert(0, limiter.clone());
            }
        }
    }

    /// Ours and the companion's.
    fn receivers(&self, draft: &Draft) -> (Vec<Id>, Vec<Id>) {
        ids(&draft.receivers).into_iter().partition(|id| self.homes.receives_here(id))
    }

    /// A limiter stands first in either process.
    fn limiters(&self, references: &[Reference]) -> Vec<Id> {
        let component = |r: &&Reference| self.homes.component(Section::Processors, &r.id);
        let limits = |r: &&Reference| component(r) == Some(Component::MemoryLimiter);
        references.iter().filter(limits).map(|r| r.id.clone()).collect()
    }

    /// Whether `references` leave the data as they are.
    fn is_plain(&self, references: &[Reference]) -> bool {
        let component = |r: &Reference| self.homes.component(Section::Processors, &r.id);
        let plain = [Component::MemoryLimiter, Component::Batch];
        references.iter().all(|r| component(r).is_some_and(|c| plain.contains(&c)))
    }

    /// A way to `file` for `signal` that no other pipeline takes.
    fn link(&mut self, to: File, signal: Signal) -> Link {
        let free = |link: &&mut Link| link.to == to && !link.signals.contains(&signal);
        if let Some(link) = self.links.iter_mut().find(free) {
            link.signals.push(signal);
            return link.clone();
        }
        let exporter = match (to, self.old_names) {
            (File::Here, true) => "otlp",
            _ => "otlp_grpc",
        };
        let (from_name, to_name) = match to {
            File::Here => ("from_collector", "to_tracemill"),
            File::There => ("from_tracemill", "to_collector"),
        };
        let id = |kind: &str| Id { kind: kind.into(), name: String::new() };
        let receiver = self.name(&id("otlp"), from_name);
        let exporter = self.name(&id(exporter), to_name);
        let port = self.ports.take(LINK_PORT);
        let link = Link { to, port, signals: vec![signal], receiver, exporter };
        self.links.push(link.clone());
        link
    }

    /// An id that nobody has: `kind/name`, with what `id` has as name in front.
    fn name(&mut self, id: &Id, name: &str) -> Id {
        let base = match id.name.as_str() {
            "" => name.to_owned(),
            own => format!("{own}_{name}"),
        };
        let numbered = (1..).map(|n| match n {
            1 => base.clone(),
            n => format!("{base}_{n}"),
        });
        let mut all = numbered.map(|name| Id { kind: id.kind.clone(), name });
        let free = all.find(|id| !self.taken.contains(&id.to_string()));
        let free = free.expect("numbers do not end");
        self.taken.insert(free.to_string());
        free
    }
}

/// Each once, where it first stands.
fn once(ids: Vec<Id>) -> Vec<Id> {
    let mut seen = BTreeSet::new();
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

fn ids(references: &[Reference]) -> Vec<Id> {
    references.iter().map(|r| r.id.clone()).collect()
}
