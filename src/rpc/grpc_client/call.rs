//! A call that is under way, and what its reply means. Codes and texts are grpc-go's where it has
//! them (otlp 2.2).

use bytes::Bytes;
use http::StatusCode;

use super::{Event, Outgoing};
use crate::http2::client::{self, Over, Want};
use crate::http2::frame::{REFUSED_STREAM, code_name};
use crate::http2::head::Head;
use crate::rpc::codec::Codec;
use crate::rpc::frame::{self, PREFIX_BYTES, Prefix};
use crate::rpc::grpc_call::{not_inflated, unpacked};
use crate::rpc::status::{Code, Status};

/// Largest reply (OTLP 1.11: clients limit replies to 4 MiB).
const REPLY_BYTES_MAX: usize = 4 << 20;

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) out: Outgoing,
    codec: Codec,
    bytes: Vec<u8>,
    result: Option<Result<Bytes, Status>>,
}

impl Call {
    pub(super) fn new(out: Outgoing) -> Self {
        Self { out, codec: Codec::None, bytes: Vec::new(), result: None }
    }

    /// What has become of it.
    pub(super) fn outcome(self, over: Over) -> Event {
        let key = self.out.key;
        let result = match over {
            Over::Heard => self.result.unwrap_or_else(|| Err(missing())),
            Over::LeftBehind => {
                let text = "the stream is rejected because server is draining the connection";
                return Event::Unprocessed { key, why: Status::new(Code::Unavailable, text) };
            }
            Over::Refused => return Event::Unprocessed { key, why: reset(REFUSED_STREAM) },
            Over::Reset(code) => Err(reset(code)),
            Over::Broken(code) => {
                let text = format!("the reply breaks HTTP/2: {}", code_name(code));
                Err(Status::new(Code::of_reset(code), text))
            }
        };
        Event::Done { key, result }
    }

    /// The outcome if the head is enough to know it.
    fn judge(&mut self, head: &Head, ended: bool) -> Option<Result<Bytes, Status>> {
        match Status::from_trailers(|name| head.get(name)) {
            Some(Err(status)) => return Some(Err(status)),
            Some(Ok(())) if ended => return Some(Err(no_message())),
            // Code 0 in the headers can stand before a body (clients 3: seen from servers).
            Some(Ok(())) => {}
            None => {
                let status = head.status().and_then(|status| StatusCode::from_u16(status).ok());
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                if status != StatusCode::OK {
                    let text =
                        format!("unexpected HTTP status code received from server: {status}");
                    return Some(Err(Status::new(Code::of_http(status.as_u16()), text)));
                }
            }
        }
        let encoding = head.get("grpc-encoding").unwrap_or_default();
        self.codec = Codec::of_grpc(encoding).unwrap_or_default();
        None
    }

    fn conclude(&mut self, trailers: Option<&Head>) -> Result<Bytes, Status> {
        let trailers = trailers.ok_or_else(missing)?;
        Status::from_trailers(|name| trailers.get(name)).ok_or_else(missing)??;
        let (prefix, message) =
            self.bytes.split_first_chunk::<PREFIX_BYTES>().ok_or_else(no_message)?;
        let prefix = Prefix::read(*prefix, REPLY_BYTES_MAX)?;
        if message.len() != prefix.len {
            return Err(Status::new(Code::Internal, "response is not one whole message"));
        }
        match (prefix.compressed, self.codec) {
            (false, _) => Ok(Bytes::copy_from_slice(message)),
            (true, Codec::None) => Err(unpacked()),
            (true, _) => {
                let reply = self.codec.inflate(message, REPLY_BYTES_MAX);
                reply.map(Bytes::from).map_err(|e| not_inflated(self.codec, e, REPLY_BYTES_MAX))
            }
        }
    }
}

fn reset(code: u32) -> Status {
    let text = format!("stream terminated by RST_STREAM with error code: {}", code_name(code));
    Status::new(Code::of_reset(code), text)
}

fn missing() -> Status {
    Status::new(Code::Internal, "server closed the stream without sending trailers")
}

/// Code 0, which says nothing without a reply.
fn no_message() -> Status {
    let text = "cardinality violation: received no response message from non-server-streaming RPC";
    Status::new(Code::Internal, text)
}

impl client::Call for Call {
    fn body(&self) -> &Bytes {
        &self.out.framed
    }

    fn head(&mut self, head: &Head, ended: bool) -> Want {
        self.result = self.judge(head, ended);
        if self.result.is_some() { Want::Nothing } else { Want::More }
    }

    fn data(&mut self, bytes: &[u8]) -> Want {
        let len = self.bytes.len() + bytes.len();
        if len > REPLY_BYTES_MAX + PREFIX_BYTES {
            self.result = Some(Err(frame::too_large(len, REPLY_BYTES_MAX)));
            return Want::Nothing;
        }
        self.bytes.extend_from_slice(bytes);
        Want::More
    }

    fn end(&mut self, trailers: Option<&Head>) {
        self.result = Some(self.conclude(trailers));
    }
}

#[cfg(test)]
mod tests {
    use super::client::Call as _;
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        head.clear(16 << 10);
        for (name, value) in fields {
            head.add(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn call() -> Call {
        let framed = Bytes::from_static(b"\0\0\0\0\0");
        Call::new(Outgoing { key: 7, path: "/p", framed, metadata: None })
    }

    /// Code and text of the outcome; code 0 with the reply.
    fn told(call: Call, over: Over) -> (u8, String) {
        let Event::Done { key: 7, result } = call.outcome(over) else { panic!("{over:?}") };
        match result {
            Ok(reply) => (0, String::from_utf8_lossy(&reply).into_owned()),
            Err(status) => (status.code as u8, status.message.into_owned()),
        }
    }

    const OK: (&str, &str) = (":status", "200");
    const DONE: (&str, &str) = ("grpc-status", "0");

    type Fields<'a> = &'a [(&'a str, &'a str)];
    /// Of a reply: its head, its body, its trailer; the code and the text that are told.
    type Row<'a> = (Fields<'a>, &'a [u8], Option<(&'a str, &'a str)>, u8, &'a str);

    #[test]
    #[allow(clippy::type_complexity, reason = "a table")]
    fn a_head_can_be_the_whole_answer() {
        let rows: [(Fields<'_>, bool, Option<(u8, &str)>); 8] = [
            (&[OK, ("grpc-status", "8"), ("grpc-message", "no%20way")], true, Some((8, "no way"))),
            (&[OK, ("grpc-status", "99")], false, Some((2, ""))),
            (&[OK, ("grpc-status", "x")], false, Some((2, ""))),
            (
                &[OK, DONE],
                true,
                Some((
                    13,
                    "cardinality violation: received no response message from \
                     non-server-streaming RPC",
                )),
            ),
            (&[OK, DONE], false, None),
            (&[OK], false, None),
            (
                &[(":status", "503"), ("content-type", "text/html")],
                false,
                Some((
                    14,
                    "unexpected HTTP status code received from server: 503 Service Unavailable",
                )),
            ),
            (&[(":status", "404"), ("grpc-status", "3")], true, Some((3, ""))),
        ];
        for (fields, ended, want) in rows {
            let mut call = call();
            let wants = call.head(&head(fields), ended);
            assert_eq!(wants == Want::Nothing, want.is_some(), "{fields:?}");
            if let Some((code, text)) = want {
                assert_eq!(told(call, Over::Heard), (code, text.to_owned()), "{fields:?}");
            }
        }
    }

    #[test]
    fn a_reply_is_one_whole_message_and_a_status() {
        let mut packed = vec![1, 0, 0, 0, 0];
        Codec::Gzip.deflate(b"packed", None, &mut packed);
        packed[4] = u8::try_from(packed.len() - 5).unwrap();
        let gzip: &[_] = &[OK, ("grpc-encoding", "gzip")];
        let denied = ("grpc-status", "7");
        let unpacked = "grpc: compressed flag set with identity or empty encoding";
        let rows: [Row<'_>; 11] = [
            (&[OK], b"\0\0\0\0\x02ab", Some(DONE), 0, "ab"),
            (&[OK, DONE], b"\0\0\0\0\0", Some(DONE), 0, ""),
            (gzip, &packed, Some(DONE), 0, "packed"),
            (gzip, b"\x01\0\0\0\x01x", Some(DONE), 13, "grpc: failed to decompress"),
            (&[OK], b"\x01\0\0\0\x02ab", Some(DONE), 13, unpacked),
            (&[OK, ("grpc-encoding", "identity")], b"\x01\0\0\0\0", Some(DONE), 13, unpacked),
            (&[OK], b"\0\0\0\0\x02ab", Some(denied), 7, ""),
            (&[OK], b"", Some(DONE), 13, "cardinality violation: received no response message"),
            (&[OK], b"\0\0\0\0\x02a", Some(DONE), 13, "response is not one whole message"),
            (&[OK], b"\0\0\0\0\0", None, 13, "server closed the stream without sending trailers"),
            (&[OK], b"\x02\0\0\0\0", Some(DONE), 13, "grpc: received unexpected payload format 2"),
        ];
        for (fields, body, trailer, code, text) in rows {
            let mut call = call();
            assert_eq!(call.head(&head(fields), false), Want::More);
            for piece in body.chunks(3) {
                assert_eq!(call.data(piece), Want::More);
            }
            call.end(trailer.map(|t| head(&[t])).as_ref());
            let (got, said) = told(call, Over::Heard);
            assert!(got == code && said.starts_with(text), "{body:?}: {got} {said}");
        }
    }

    #[test]
    fn a_reply_that_is_too_large_is_not_waited_for() {
        let mut call = call();
        assert_eq!(call.head(&head(&[OK]), false), Want::More);
        let piece = vec![0; 1 << 20];
        for _ in 0..4 {
            assert_eq!(call.data(&piece), Want::More);
        }
        assert_eq!(call.data(&[0; 6]), Want::Nothing);
        let (code, text) = told(call, Over::Heard);
        assert_eq!(code, 8);
        assert!(text.contains("(4194310 vs. 4194304)"), "{text}");
    }

    #[test]
    fn what_a_reset_means_stands_in_its_code() {
        for (over, want) in [
            (Over::Reset(7), 14),
            (Over::Reset(8), 1),
            (Over::Reset(11), 8),
            (Over::Reset(12), 7),
            (Over::Reset(0), 13),
            (Over::Reset(99), 13),
            (Over::Broken(1), 13),
        ] {
            assert_eq!(told(call(), over).0, want, "{over:?}");
        }
        let text = told(call(), Over::Reset(7)).1;
        assert_eq!(text, "stream terminated by RST_STREAM with error code: REFUSED_STREAM");
    }

    #[test]
    fn what_was_not_processed_is_told_as_that_and_would_be_unavailable() {
        for (over, text) in [
            (Over::Refused, "stream terminated by RST_STREAM with error code: REFUSED_STREAM"),
            (Over::LeftBehind, "the stream is rejected because server is draining the connection"),
        ] {
            let Event::Unprocessed { key: 7, why } = call().outcome(over) else {
                panic!("{over:?}")
            };
            assert_eq!((why.code, &*why.message), (Code::Unavailable, text));
        }
    }
}
