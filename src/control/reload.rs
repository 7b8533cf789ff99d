//! Going over to a new configuration. Everything of it is opened and made beside the old one
//! first, so that what cannot be had changes nothing. Then new connections are its own, clients of
//! the old one are asked to leave (GOAWAY), and what the old one owns is delivered by it.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::fault::StartError;
use super::generation::Generation;
use super::{Core, Doorway, Running, arriving_bytes};
use crate::config::Plan;
use crate::router::core::{Left, Message};

/// Configurations that may be delivering what they own beside the one that runs.
const OLD_MAX: usize = 4;

/// A configuration that was replaced.
#[derive(Debug)]
pub(super) struct Old {
    generation: Rc<Generation>,
    /// Its last client had gone at the last look.
    is_left: bool,
}

impl Old {
    pub(super) fn into_inner(self) -> Rc<Generation> {
        self.generation
    }
}

/// Why a configuration does not take over.
#[derive(Debug)]
pub enum ReloadError {
    /// It asks for something that is chosen once in the life of a process.
    Restart(&'static str),
    /// Older ones have not delivered what they own.
    Busy,
    /// Something of it cannot be had.
    Start(StartError),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart(what) => write!(f, "{what} cannot change without a restart"),
            Self::Busy => write!(
                f,
                "{OLD_MAX} earlier configurations have not delivered what they own; try again later"
            ),
            Self::Start(e) => e.fmt(f),
        }
    }
}

impl Running {
    /// Goes over to `plan`. No request is lost: what is in flight ends in the old configuration,
    /// and a trace is decided by the one that its first span met.
    ///
    /// # Errors
    /// The old configuration runs on then.
    pub async fn reload(&self, plan: Arc<Plan>) -> Result<(), ReloadError> {
        let before = self.current();
        check(&before.plan, &plan)?;
        if self.old.borrow().len() >= OLD_MAX {
            return Err(ReloadError::Busy);
        }
        let (generation, blueprint, discoveries) =
            Generation::prepare(Arc::clone(&plan), &self.process, Some(&before))
                .await
                .map_err(ReloadError::Start)?;
        self.process.memory.set_max(plan.engine.hard_bytes);
        self.process.arriving.set_max(arriving_bytes(plan.engine.hard_bytes));
        self.ask(|ready| Message::Prepare(Box::new(blueprint.clone()), ready)).await;
        before.close().await;
        self.tell(|| Message::Switch);
        let doors: Vec<Doorway> = self.cores.iter().map(Core::doorway).collect();
        generation.open(discoveries, &doors);
        *self.current.borrow_mut() = Rc::new(generation);
        self.old.borrow_mut().push(Old { generation: before, is_left: false });
        Ok(())
    }

    /// Whether an earlier configuration still delivers what it owns.
    #[must_use]
    pub fn is_retiring(&self) -> bool {
        !self.old.borrow().is_empty()
    }

    /// Looks at the oldest of the earlier configurations, and ends it when it has nothing left.
    /// Twice without clients and then idle on every core: nothing can come any more.
    pub async fn retire(&self) {
        let Some(number) = self.old.borrow().first().map(|old| old.generation.number) else {
            return;
        };
        let left = self.ask(|to| Message::Left(number, to)).await;
        let is_left = left.iter().all(|left: &Left| left.connections == 0);
        let was_left = self.old.borrow().first().is_some_and(|old| old.is_left);
        if !(is_left && was_left && left.iter().all(|left| left.is_idle)) {
            if let Some(old) = self.old.borrow_mut().first_mut() {
                old.is_left = is_left;
            }
            return;
        }
        self.tell(|| Message::End(number));
        let old = self.old.borrow_mut().remove(0);
        old.generation.leave();
        if let Some(generation) = Rc::into_inner(old.generation) {
            generation.close_files();
        }
        tracing::info!("The configuration before has delivered everything.");
    }

    fn tell(&self, message: impl Fn() -> Message) {
        for core in &self.cores {
            if core.inbox.send(message()).is_err() {
                tracing::error!("A core does not take its messages; it keeps its configuration.");
            }
        }
    }
}

/// What a running process cannot change.
fn check(before: &Plan, after: &Plan) -> Result<(), ReloadError> {
    let (a, b) = (&before.engine, &after.engine);
    if (a.cores, &a.cpus, a.pin, a.spin) != (b.cores, &b.cpus, b.pin, b.spin) {
        return Err(ReloadError::Restart("tracemill: cores, cpus, pin and spin"));
    }
    if before.telemetry != after.telemetry {
        return Err(ReloadError::Restart("service::telemetry"));
    }
    if before.health_checks != after.health_checks {
        return Err(ReloadError::Restart("health_check"));
    }
    Ok(())
}
