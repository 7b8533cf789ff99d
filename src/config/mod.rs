//! The collector's YAML → a typed, checked [`Plan`] made of every room's options.

pub mod plan;

pub use plan::Plan;
