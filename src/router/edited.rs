//! What processors change in a request before it is routed or sampled. The edited request is
//! charged to the process like one that waits, instead of the one that came.

use std::sync::Arc;

use super::{Course, Lack, Router, unreadable};
use crate::otlp::Signal;
use crate::otlp::edit::{Edits, Refusal};
use crate::rpc::service::Call;
use crate::rpc::{Code, Status};

/// The same call once more.
pub(super) fn again(call: &Call) -> Call {
    Call {
        method: call.method,
        message: call.message.clone(),
        charge: None,
        timeout: call.timeout,
        metadata: call.metadata.clone(),
        transport: call.transport,
    }
}

impl Router {
    /// The request as the pipelines of an exit make it.
    pub(super) fn edited(&self, course: Course, call: Call) -> Result<Call, Status> {
        let Course { way, signal, exit, .. } = course;
        let edits = Arc::clone(&self.state.borrow().ways[way].exits[signal as usize][exit].edits);
        self.edited_by(&edits, way, signal, call)
    }

    /// The request with `edits`. One that they do not change is left as it is, and not copied.
    pub(super) fn edited_by(
        &self,
        edits: &Edits,
        way: usize,
        signal: Signal,
        mut call: Call,
    ) -> Result<Call, Status> {
        if edits.is_empty() {
            return Ok(call);
        }
        let mut state = self.state.borrow_mut();
        let length = match state.editor.plan(edits, signal, call.message.region()) {
            Ok(None) => return Ok(call),
            Ok(Some(length)) => length,
            Err(Refusal::Unreadable(e)) => return Err(unreadable(&call, e)),
            Err(Refusal::TooMuch) => {
                let what = "the processors of this pipeline change more in one request than there \
                            is memory for";
                return Err(Status::new(Code::ResourceExhausted, what));
            }
        };
        let Some(charge) = self.memory.take(length as u64) else {
            drop(state);
            return Err(self.refuse(way, signal, &call, Lack::Memory));
        };
        let mut message = Vec::with_capacity(length);
        state.editor.write(call.message.region(), &mut message);
        call.message = message.into();
        call.charge = Some(charge);
        Ok(call)
    }
}
