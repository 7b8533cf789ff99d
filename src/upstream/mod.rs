//! Sending and hearing back, for both roles: a bounded [`queue`] per endpoint, the [`replies`] that
//! wait for what is in it, the [`link`] to the endpoint, and the [`lane`] that drives the three.
//! [`resolve`] finds out which endpoints there are.
//! Beside them [`debug`], which sends nowhere and only tells, and [`mod@file`], which writes to
//! disk.

pub mod backoff;
pub mod batch;
mod client;
pub mod debug;
pub mod file;
pub mod lane;
pub mod link;
pub mod options;
pub mod outlet;
pub mod place;
pub mod queue;
pub mod replies;
pub mod resolve;
mod spare;
pub mod stats;

pub use options::Options;
