//! Sockets: listening, and a stream whose reads land in page-aligned buffers of the core and whose
//! writes leave together.

pub mod buffer;
pub mod dial;
pub mod listener;
pub mod stream;

pub use stream::Stream;
