//! The check of a call's credentials, with the slow ones where no core waits for them.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderMap;

use super::auth::{ServerAuth, Verdict, WRONG, refusal};
use super::status::Status;
use crate::runtime::aside::aside;

/// Hashes that are computed or wait for it, in the whole process. More logins than these at once
/// are asked to come again: each takes a CPU for some milliseconds.
const SLOW_MAX: usize = 64;
static SLOW: AtomicUsize = AtomicUsize::new(0);

/// Lets a call in, or says why not.
pub(super) async fn welcome(auth: Option<&ServerAuth>, headers: &HeaderMap) -> Result<(), Status> {
    let Some(auth) = auth else { return Ok(()) };
    match auth.look(headers) {
        Verdict::Welcome => Ok(()),
        Verdict::Refused(text) => Err(refusal(text)),
        Verdict::Slow(slow) => {
            let place = Place::take();
            if place.is_none() {
                let text = "too many logins are being checked";
                return Err(Status::unavailable(text, Duration::from_secs(1)));
            }
            match aside(move || slow.is_right()).await {
                true => Ok(()),
                false => Err(refusal(WRONG)),
            }
        }
    }
}

/// One of [`SLOW_MAX`].
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |n| (n < SLOW_MAX).then_some(n + 1);
        SLOW.fetch_update(Relaxed, Relaxed, more).is_ok().then_some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        SLOW.fetch_sub(1, Relaxed);
    }
}
