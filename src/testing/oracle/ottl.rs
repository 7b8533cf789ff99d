//! `ottl_condition` by way of the sampler's own evaluator: what this judges of it is which spans
//! and events are asked, in which order, and what an error does (tailsampling 2.12).

use std::collections::HashMap;

use prost::Message as _;

use super::{Errored, Ottl};
use crate::sample::options::ErrorMode;
use crate::sample::ottl::{Condition, List, Scene};

/// An evaluator that compiles each condition when it meets it first. A condition that does not
/// compile is one that fails.
#[must_use]
pub fn compiled() -> Ottl {
    let mut known = Known::default();
    Box::new(move |mode, span, spanevent, batches| {
        for batch in batches {
            let resource = batch.resource.as_ref().map_or_else(Vec::new, |r| r.encode_to_vec());
            for scope_spans in &batch.scope_spans {
                let scope =
                    scope_spans.scope.as_ref().map_or_else(Vec::new, |scope| scope.encode_to_vec());
                for one in &scope_spans.spans {
                    let bytes = one.encode_to_vec();
                    let scene = Scene {
                        resource: &resource,
                        scope: &scope,
                        span: &bytes,
                        event: None,
                        now_unix_nanos: 0,
                        noted: None,
                    };
                    if known.any(span, List::Span, mode, &scene)? {
                        return Ok(true);
                    }
                    for event in &one.events {
                        let event = event.encode_to_vec();
                        let scene = Scene { event: Some(&event), ..scene };
                        if known.any(spanevent, List::SpanEvent, mode, &scene)? {
                            return Ok(true);
                        }
                    }
                }
            }
        }
        Ok(false)
    })
}

/// Conditions by list and text.
#[derive(Default)]
struct Known(HashMap<(bool, String), Option<Condition>>);

impl Known {
    fn any(
        &mut self,
        conditions: &[String],
        list: List,
        mode: ErrorMode,
        scene: &Scene<'_>,
    ) -> Result<bool, Errored> {
        for text in conditions {
            let key = (list == List::Span, text.clone());
            let compile = || Condition::compile(text, list).ok();
            let condition = self.0.entry(key).or_insert_with(compile);
            match condition.as_ref().and_then(|condition| condition.eval(scene).ok()) {
                Some(true) => return Ok(true),
                None if mode == ErrorMode::Propagate => return Err(Errored),
                _ => {}
            }
        }
        Ok(false)
    }
}
