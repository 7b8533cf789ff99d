//! Sending and hearing back, for both roles.

pub mod options;

pub use options::Options;
