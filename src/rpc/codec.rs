//! Message encodings of gRPC and HTTP bodies.

/// A message encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As it is.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The framed (stream) format on gRPC.
    Snappy,
}
