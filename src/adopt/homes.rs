//! Which of the two processes each receiver, connector and pipeline belongs to.
//!
//! A pipeline that balances or samples is cut where something stands that tracemill does not have;
//! what is in the middle is ours. Another pipeline comes along if it runs here whole and hangs on
//! such a pipeline, by a receiver or a `forward` connector: so its data take no detour. All others
//! stay with the companion. A receiver opens one port, so it is in one process; the other one is
//! sent what its pipelines need.

use std::collections::BTreeSet;

use crate::config::components::{Component, Section};
use crate::config::examine::Examined;
use crate::config::ids::Id;
use crate::config::service::{Draft, Reference};

/// Where a pipeline runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It balances or samples: what is in front of `front` and from `behind` on, as indices of its
    /// processors, is the companion's.
    Cut {
        /// Processors before this one are the companion's.
        front: usize,
        /// Processors from this one on are the companion's, and all exporters with them.
        behind: usize,
    },
    /// Whole in tracemill.
    Here,
    /// Whole in the companion.
    There,
}

/// Who is where.
#[derive(Debug)]
pub(super) struct Homes<'a> {
    examined: &'a Examined,
    /// In the order of the pipelines.
    pub(super) places: Vec<Place>,
    /// Connectors of tracemill.
    connectors: BTreeSet<&'a Id>,
    /// Receivers whose data must pass a processor of the companion first.
    forced: BTreeSet<&'a Id>,
}

impl<'a> Homes<'a> {
    /// Settles all of them.
    #[must_use]
    pub(super) fn new(examined: &'a Examined) -> Self {
        let all = examined.components.iter();
        let connectors = all.filter(|((s, _), v)| *s == Section::Connectors && v.lack.is_none());
        let connectors = connectors.map(|((_, id), _)| id).collect();
        let mut homes = Self { examined, places: Vec::new(), connectors, forced: BTreeSet::new() };
        homes.places = examined.service.pipelines.iter().map(|d| homes.first(d)).collect();
        while homes.settle() || homes.let_go() {}
        homes
    }

    /// The component that `id` is in `section`.
    #[must_use]
    pub(super) fn component(&self, section: Section, id: &Id) -> Option<Component> {
        self.examined.components.get(&(section, id.clone()))?.component
    }

    fn runs(&self, section: Section, id: &Id) -> bool {
        let verdict = self.examined.components.get(&(section, id.clone()));
        verdict.is_some_and(|v| v.lack.is_none())
    }

    fn is_connector(&self, id: &Id) -> bool {
        self.examined.components.contains_key(&(Section::Connectors, id.clone()))
    }

    fn is(&self, section: Section, reference: &Reference, component: Component) -> bool {
        self.component(section, &reference.id) == Some(component)
    }

    /// Index of the sampler.
    #[must_use]
    pub(super) fn sampler(&self, draft: &Draft) -> Option<usize> {
        let is_sampler = |r: &Reference| self.is(Section::Processors, r, Component::TailSampling);
        draft.processors.iter().position(is_sampler)
    }

    fn first(&self, draft: &Draft) -> Place {
        let sampler = self.sampler(draft);
        let balances = |r: &Reference| self.is(Section::Exporters, r, Component::LoadBalancing);
        if sampler.is_none() && !draft.exporters.iter().any(balances) {
            return if self.is_whole(draft) { Place::Here } else { Place::There };
        }
        let lacks = |r: &Reference| !self.runs(Section::Processors, &r.id);
        let (before, after) = draft.processors.split_at(sampler.unwrap_or(draft.processors.len()));
        let front = before.iter().rposition(lacks).map_or(0, |at| at + 1);
        let behind =
            after.iter().position(lacks).map_or(draft.processors.len(), |at| before.len() + at);
        Place::Cut { front, behind }
    }

    fn is_whole(&self, draft: &Draft) -> bool {
        draft.receivers.iter().all(|r| self.could_receive(&r.id))
            && draft.processors.iter().all(|r| self.runs(Section::Processors, &r.id))
            && draft.exporters.iter().all(|r| self.exports_here(&r.id))
    }

    fn could_receive(&self, id: &Id) -> bool {
        if self.is_connector(id) {
            return self.connectors.contains(id);
        }
        self.runs(Section::Receivers, id) && !self.forced.contains(id)
    }

    /// Whether tracemill has this receiver, or connector in the role of one.
    #[must_use]
    pub(super) fn receives_here(&self, id: &Id) -> bool {
        let users = || self.drafts().filter(|(_, draft)| names(&draft.receivers, id));
        self.could_receive(id) && users().any(|(place, _)| place != Place::There)
    }

    /// Whether tracemill can have this exporter, or connector in the role of one.
    #[must_use]
    pub(super) fn exports_here(&self, id: &Id) -> bool {
        match self.is_connector(id) {
            true => self.connectors.contains(id),
            false => self.runs(Section::Exporters, id),
        }
    }

    fn drafts(&self) -> impl Iterator<Item = (Place, &'a Draft)> {
        self.places.iter().copied().zip(&self.examined.service.pipelines)
    }

    /// Moves what cannot stay; whether something moved.
    fn settle(&mut self) -> bool {
        let before = (self.forced.len(), self.connectors.len(), self.places.clone());
        let mut lost = Vec::new();
        for (place, draft) in self.drafts().collect::<Vec<_>>() {
            let (takes, gives) = match place {
                Place::There => (false, false),
                Place::Here => (true, true),
                Place::Cut { front, behind } => (front == 0, behind == draft.processors.len()),
            };
            if !takes {
                lost.extend(draft.receivers.iter().filter(|r| self.is_connector(&r.id)));
                if place != Place::There {
                    self.forced.extend(draft.receivers.iter().map(|r| &r.id));
                }
            }
            if !gives {
                lost.extend(draft.exporters.iter().filter(|r| self.is_connector(&r.id)));
            }
        }
        for reference in lost {
            self.connectors.remove(&reference.id);
        }
        for at in 0..self.places.len() {
            let draft = &self.examined.service.pipelines[at];
            if self.places[at] == Place::Here && !self.is_whole(draft) {
                self.places[at] = Place::There;
            }
        }
        before != (self.forced.len(), self.connectors.len(), self.places.clone())
    }

    /// Leaves pipelines to the companion that hang on none of ours; whether there was one.
    fn let_go(&mut self) -> bool {
        let drafts: Vec<_> = self.drafts().collect();
        let is_cut = |&at: &usize| matches!(drafts[at].0, Place::Cut { .. });
        let mut held: Vec<usize> = (0..drafts.len()).filter(is_cut).collect();
        let mut look = held.clone();
        while let Some(at) = look.pop() {
            for (next, (place, draft)) in drafts.iter().enumerate() {
                if *place == Place::Here && !held.contains(&next) && self.hangs(drafts[at].1, draft)
                {
                    held.push(next);
                    look.push(next);
                }
            }
        }
        let gone = |(at, place): (usize, &mut Place)| {
            let goes = *place == Place::Here && !held.contains(&at);
            if goes {
                *place = Place::There;
            }
            goes
        };
        self.places.iter_mut().enumerate().map(gone).fold(false, |any, goes| any | goes)
    }

    fn hangs(&self, a: &Draft, b: &Draft) -> bool {
        let shared = a.receivers.iter().any(|r| {
            !self.is_connector(&r.id) && self.could_receive(&r.id) && names(&b.receivers, &r.id)
        });
        let joined = |from: &Draft, to: &Draft| {
            let mut out = from.exporters.iter().filter(|r| self.connectors.contains(&r.id));
            out.any(|r| names(&to.receivers, &r.id))
        };
        shared || joined(a, b) || joined(b, a)
    }
}

fn names(references: &[Reference], id: &Id) -> bool {
    references.iter().any(|r| r.id == *id)
}
