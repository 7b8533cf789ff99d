//! Sockets: listener, stream.
