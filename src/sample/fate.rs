//! What became of a trace, one line of it: for tools that show verdicts trace by trace. A shard
//! notes it only when asked to.

use super::stats::Outcome;

/// How the wait of a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The policies decided.
    Decided(Outcome),
    /// It grew beyond `maximum_trace_size_bytes` and is not kept.
    TooLarge,
    /// `num_traces` pushed it out before a decision.
    Evicted,
    /// Given up at shutdown, with `drop_pending_traces_on_shutdown`.
    Shutdown,
}

impl End {
    /// The word for it in tables and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decided(Outcome::Sampled) => "sampled",
            Self::Decided(Outcome::NotSampled) => "not_sampled",
            Self::Decided(Outcome::Dropped) => "dropped",
            Self::TooLarge => "too_large",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A trace and its end. A trace that is evicted or forgotten and comes again has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Its id.
    pub id: [u8; 16],
    /// How its wait ended.
    pub end: End,
    /// Position in the program of the policy that decided: the first that samples it, or the drop
    /// policy. None where no policy speaks up.
    pub policy: Option<u16>,
    /// Spans that had come by then.
    pub spans: u64,
}
