//! What a pipeline becomes: positions of its receivers and exporters, the processors that have an
//! effect as they have it here, and what others change on each way.

use super::Parts;
use crate::config::ids::Id;
use crate::config::plan::{Leg, Pipeline, Sampling};
use crate::config::service::Reference;
use crate::config::splice::Spliced;
use crate::otlp::edit::Edits;

impl Parts<'_> {
    pub(super) fn pipeline(&self, spliced: &Spliced<'_>) -> Pipeline {
        let Spliced { draft, processors, behind, .. } = spliced;
        let (receivers, edits) = self.feeds(spliced);
        let exporters = self.exporters_of(&spliced.exporters);
        let all = || processors.iter().chain(behind);
        let caps = all().filter_map(|r| self.batches.get(&r.id)).map(|b| b.items_max);
        let limiters = all().filter(|r| self.limiters.contains_key(&r.id));
        // Only behind the sampler nobody waits, so that a batch may gather.
        let sampler = processors.iter().position(|r| self.samplers.contains_key(&r.id));
        let after = processors[sampler.map_or(0, |at| at + 1)..].iter().chain(behind);
        let batch = after.filter_map(|r| self.batches.get(&r.id)).next_back().copied();
        let sampling = processors.iter().find_map(|r| {
            let options = self.samplers.get(&r.id)?.clone();
            Some(Sampling { id: r.id.to_string(), options })
        });
        Pipeline {
            id: draft.id.to_string(),
            signal: draft.signal,
            receivers,
            edits,
            legs: self.legs(spliced, &exporters),
            exporters,
            batch_items_max: caps.filter(|max| *max > 0).min().unwrap_or(0),
            batch,
            memory_limiters: limiters.map(|r| r.id.to_string()).collect(),
            sampling,
        }
    }

    fn exporters_of(&self, ids: &[&Id]) -> Vec<usize> {
        let at = |id: &&Id| self.exporters.iter().position(|(other, _)| other == *id);
        ids.iter().filter_map(at).collect()
    }

    /// What processors on a way change, in their order.
    fn edits<'r>(&self, way: impl IntoIterator<Item = &'r &'r Reference>) -> Edits {
        let mut all = Edits::default();
        for more in way.into_iter().filter_map(|r| self.edits.get(&r.id)) {
            all.extend(more);
        }
        all
    }

    /// The receivers of a pipeline, and what is changed in what each brings before it is sampled
    /// or exported.
    fn feeds(&self, spliced: &Spliced<'_>) -> (Vec<usize>, Vec<Edits>) {
        let mut feeds: Vec<(usize, Edits)> = Vec::new();
        let mut samples = false;
        for feed in &spliced.feeds {
            let Some(at) = self.receivers.iter().position(|(id, _)| id == feed.receiver) else {
                continue;
            };
            let sampler = feed.through.iter().position(|r| self.samplers.contains_key(&r.id));
            samples |= sampler.is_some();
            let before = &feed.through[..sampler.unwrap_or(feed.through.len())];
            let feed = (at, self.edits(before));
            // A sampler takes a request once, by however many ways it comes.
            if !samples || !feeds.contains(&feed) {
                feeds.push(feed);
            }
        }
        feeds.into_iter().unzip()
    }

    /// The ways of what a sampler keeps, by what is changed on them.
    fn legs(&self, spliced: &Spliced<'_>, exporters: &[usize]) -> Vec<Leg> {
        let mut legs: Vec<Leg> = Vec::new();
        for way in &spliced.legs {
            let edits = self.edits(&way.through);
            let ends = self.exporters_of(&way.exporters);
            match legs.iter_mut().find(|leg| leg.edits == edits) {
                Some(leg) => leg.exporters.extend(ends),
                None => legs.push(Leg { edits, exporters: ends }),
            }
        }
        for leg in &mut legs {
            let ends = std::mem::take(&mut leg.exporters);
            leg.exporters = exporters.iter().filter(|at| ends.contains(at)).copied().collect();
        }
        legs.retain(|leg| !leg.exporters.is_empty());
        legs
    }
}
