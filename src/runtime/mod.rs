//! What a core is: executor, pinning, hand-over, shutdown. The only room that knows the
//! executor; `clock` is the only reader of OS time in the whole tree.

pub mod aside;
mod call;
pub mod clock;
pub mod cores;
pub mod drain;
pub mod executor;
pub mod gate;
pub mod lease;
pub mod mailbox;
pub mod mesh;
pub mod options;
mod places;
pub mod preflight;
mod pulse;
pub mod ring;
pub mod timer;
pub mod turn;

pub use options::Options;
