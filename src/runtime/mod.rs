//! What a core is: executor, pinning, hand-over, shutdown.

pub mod options;

pub use options::Options;
