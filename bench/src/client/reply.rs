//! The reply to one call, as it comes in: headers, message, trailers → outcome.

use super::stats::Outcome;
use crate::proto;
use crate::wire::grpc;
use crate::wire::headers::Said;

/// Longest reply message that is read: a partial success is short.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// What has come so far.
#[derive(Debug, Default)]
pub(super) struct Reply {
    http_status: Option<u16>,
    grpc_status: Option<u32>,
    retry_info: bool,
    message: String,
    /// The body, unless it came in one DATA frame.
    body: Vec<u8>,
    /// What that frame said.
    whole: Option<Option<u64>>,
}

impl Reply {
    pub(super) fn headers(&mut self, said: &Said) {
        self.http_status = said.http_status.or(self.http_status);
        self.grpc_status = said.grpc_status.or(self.grpc_status);
        self.retry_info |= said.has_details;
        if !said.message.is_empty() {
            self.message.clone_from(&said.message);
        }
    }

    /// False if there is more than can be a reply.
    pub(super) fn data(&mut self, payload: &[u8]) -> bool {
        if self.body.is_empty()
            && self.whole.is_none()
            && let Some(rejected) = rejected(payload)
        {
            self.whole = Some(rejected);
            return true;
        }
        self.body.extend_from_slice(payload);
        self.body.len() <= REPLY_BYTES_MAX
    }

    /// How the call ended, after END_STREAM.
    pub(super) fn outcome(&mut self) -> Outcome {
        let message = std::mem::take(&mut self.message);
        let retry_info = self.retry_info;
        let code = match self.grpc_status {
            Some(grpc::OK) => match self.whole.or_else(|| rejected(&self.body)) {
                Some(rejected) => return Outcome::Ok { rejected },
                None => {
                    let message = "OK without one valid message".to_owned();
                    return Outcome::Status { code: grpc::INTERNAL, retry_info, message };
                }
            },
            Some(code) => code,
            None => grpc::code_of_http(self.http_status),
        };
        Outcome::Status { code, retry_info, message }
    }

    /// A stream that the receiver reset.
    pub(super) fn reset(error: u32) -> Outcome {
        if error == crate::wire::frame::REFUSED_STREAM {
            return Outcome::Unprocessed;
        }
        let message = format!("stream reset with HTTP/2 error {error}");
        Outcome::Status { code: grpc::code_of_reset(error), retry_info: false, message }
    }

    /// A call that took too long.
    pub(super) fn expired() -> Outcome {
        let message = "no answer within --timeout".to_owned();
        Outcome::Status { code: grpc::DEADLINE_EXCEEDED, retry_info: false, message }
    }
}

/// `rejected_spans` of a whole reply body, if it is one valid message.
fn rejected(body: &[u8]) -> Option<Option<u64>> {
    let (prefix, message) = body.split_at_checked(grpc::PREFIX_BYTES)?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if len != message.len() || prefix[0] > 1 {
        return None;
    }
    if prefix[0] == 1 {
        let mut inflated = Vec::new();
        grpc::inflate(message, &mut inflated)?;
        return proto::partial_success(&inflated).ok();
    }
    proto::partial_success(message).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: Option<u32>, http: u16, pieces: &[&[u8]]) -> Outcome {
        let mut reply = Reply::default();
        reply.headers(&Said { http_status: Some(http), ..Said::default() });
        for piece in pieces {
            assert!(reply.data(piece));
        }
        reply.headers(&Said { grpc_status: status, ..Said::default() });
        reply.outcome()
    }

    #[test]
    fn a_message_may_come_in_pieces() {
        assert_eq!(ended(Some(0), 200, &[&[0; 5]]), Outcome::Ok { rejected: None });
        assert_eq!(
            ended(Some(0), 200, &[&[0, 0, 0], &[0, 4, 0x0a], &[2, 8, 9]]),
            Outcome::Ok { rejected: Some(9) }
        );
    }

    #[test]
    fn ok_without_a_message_is_an_error() {
        for pieces in [&[][..], &[&[0, 0, 0, 0, 1][..]]] {
            let outcome = ended(Some(0), 200, pieces);
            assert!(matches!(outcome, Outcome::Status { code: grpc::INTERNAL, .. }));
        }
    }

    #[test]
    fn without_a_grpc_status_the_http_status_counts() {
        for (http, code) in [(503, grpc::UNAVAILABLE), (404, grpc::UNIMPLEMENTED)] {
            assert!(matches!(ended(None, http, &[]), Outcome::Status { code: c, .. } if c == code));
        }
    }
}
