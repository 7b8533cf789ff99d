//! Sockets: listening, and a stream whose reads land in page-aligned buffers of the core and whose
//! writes leave together; TLS is an arm of it.

pub mod buffer;
pub mod dial;
pub mod listener;
pub mod options;
pub mod outbox;
pub mod socket;
pub mod stream;
pub mod tls;

pub use outbox::Outbox;
pub use stream::Stream;
