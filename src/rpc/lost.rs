//! Why a connection ended before its time.

use std::fmt;
use std::io;

use crate::http2::client::Farewell;
use crate::http2::frame::{Violation, code_name};

/// A connection is gone.
#[derive(Debug)]
pub enum Lost {
    /// The peer broke HTTP/2: the error code (RFC 9113 §7) and how.
    Http2(u32, &'static str),
    /// The peer left for a reason: the error code, and its words, which may be none.
    Left(u32, String),
    /// The peer broke HTTP/1.1, or left in the middle of a message.
    Http(hyper::Error),
    /// The network or the OS.
    Io(io::Error),
}

impl From<Violation> for Lost {
    fn from(broken: Violation) -> Self {
        Self::Http2(broken.code, broken.what)
    }
}

impl From<Farewell> for Lost {
    fn from(farewell: Farewell) -> Self {
        Self::Left(farewell.code, farewell.words)
    }
}

impl From<hyper::Error> for Lost {
    fn from(e: hyper::Error) -> Self {
        Self::Http(e)
    }
}

impl From<io::Error> for Lost {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http2(_, what) => f.write_str(what),
            Self::Left(code, words) if words.is_empty() => {
                write!(f, "the peer left: {}", code_name(*code))
            }
            Self::Left(code, words) => {
                write!(f, "the peer left: {} ({words:?})", code_name(*code))
            }
            Self::Http(e) => e.fmt(f),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Lost {}
