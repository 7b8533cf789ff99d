//! Why a request was refused: always the sender's fault, never worth a retry.

use std::fmt;

/// A malformed request. The texts are the collector's (loadbalancing 8.4); it answers INTERNAL on
/// gRPC and 400 on HTTP. `at` is the byte offset into the request, or into the field of the span
/// where [`super::span::read`] found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A varint, a fixed field or a length runs past the end of its message.
    UnexpectedEof {
        /// Where the value starts.
        at: u32,
    },
    /// A varint of more than 10 bytes.
    IntegerOverflow {
        /// Where the varint starts.
        at: u32,
    },
    /// A length of 2^63 or more.
    NegativeLength {
        /// Where the length starts.
        at: u32,
    },
    /// Field number 0, or a tag of more than 32 bits.
    IllegalField {
        /// The tag.
        tag: u64,
        /// Where it starts.
        at: u32,
    },
    /// Wire type 6 or 7.
    IllegalWireType {
        /// The wire type.
        wire: u8,
        /// Where the tag starts.
        at: u32,
    },
    /// A group ends that never began, or another one than began last.
    UnexpectedEndOfGroup {
        /// Where the end tag starts.
        at: u32,
    },
    /// Groups nested deeper than [`super::wire::GROUP_DEPTH_MAX`].
    GroupTooDeep {
        /// Where the innermost group starts.
        at: u32,
    },
    /// A value nested deeper than [`super::check::VALUE_DEPTH_MAX`].
    ValueTooDeep {
        /// Where the innermost message starts.
        at: u32,
    },
    /// A known field with another wire type than its own.
    WrongWireType {
        /// The field's name as the collector spells it.
        field: &'static str,
        /// The wire type that came.
        wire: u8,
        /// Where the tag starts.
        at: u32,
    },
    /// A trace id that is neither empty nor 16 bytes.
    TraceIdLength {
        /// Where the id's bytes start.
        at: u32,
    },
    /// A span id or parent span id that is neither empty nor 8 bytes.
    SpanIdLength {
        /// Where the id's bytes start.
        at: u32,
    },
    /// A request of 4 GiB or more.
    TooLarge,
}

impl Error {
    /// Byte offset, where there is one.
    #[must_use]
    pub const fn at(self) -> Option<u32> {
        match self {
            Self::UnexpectedEof { at }
            | Self::IntegerOverflow { at }
            | Self::NegativeLength { at }
            | Self::IllegalField { at, .. }
            | Self::IllegalWireType { at, .. }
            | Self::UnexpectedEndOfGroup { at }
            | Self::GroupTooDeep { at }
            | Self::ValueTooDeep { at }
            | Self::WrongWireType { at, .. }
            | Self::TraceIdLength { at }
            | Self::SpanIdLength { at } => Some(at),
            Self::TooLarge => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnexpectedEof { .. } => f.write_str("unexpected EOF"),
            Self::IntegerOverflow { .. } => f.write_str("proto: integer overflow"),
            Self::NegativeLength { .. } => {
                f.write_str("proto: negative length found during unmarshaling")
            }
            Self::IllegalField { tag, at } => {
                write!(f, "proto: illegal field={} (tag={tag}, pos={at})", tag >> 3)
            }
            Self::IllegalWireType { wire, .. } => write!(f, "proto: illegal wireType {wire}"),
            Self::UnexpectedEndOfGroup { .. } => f.write_str("proto: unexpected end of group"),
            Self::GroupTooDeep { .. } => f.write_str("proto: groups nested too deep"),
            Self::ValueTooDeep { .. } => f.write_str("proto: values nested too deep"),
            Self::WrongWireType { field, wire, .. } => {
                write!(f, "proto: wrong wireType = {wire} for field {field}")
            }
            Self::TraceIdLength { .. } => f.write_str("unmarshal: invalid TraceID length"),
            Self::SpanIdLength { .. } => f.write_str("unmarshal: invalid SpanID length"),
            Self::TooLarge => f.write_str("proto: message of 4 GiB or more"),
        }
    }
}

impl std::error::Error for Error {}
