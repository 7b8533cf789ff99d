//! Seeded workloads shared by tests, benches, the demo and the load tool, and the bodies of the
//! fuzz targets. The data path may not name it.
//!
//! - [`workload`]: believable microservice traces as OTLP requests, ready to be sent with fresh
//!   trace ids patched in;
//! - [`random`]: the small generator of pseudo-random numbers behind it;
//! - [`oracle`]: the tail sampler once more, naive, to judge the real one;
//! - [`scenario`]: random configurations and traffic of a sampler, and how to shrink them;
//! - [`scatter`]: a message in pieces;
//! - [`wakes`]: a waker that counts;
//! - [`cores`]: a real core;
//! - [`fuzz`]: one function per fuzz target, which ordinary tests run as well.
#![forbid(unsafe_code)]

pub mod cores;
mod encode;
pub mod fuzz;
mod model;
pub mod oracle;
pub mod random;
pub mod scatter;
pub mod scenario;
pub mod wakes;
pub mod workload;
