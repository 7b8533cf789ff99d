//! What the calls of a connection have in common: their headers, and how they are written.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::Outgoing;
use crate::http2::hpack::{self, Block, Header, Name};
use crate::http2::unpack::ENTRY_BYTES;
use crate::rpc::auth::ClientAuth;
use crate::rpc::codec::{self, Codec};
use crate::rpc::frame;
use crate::rpc::status::Status;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// What may enter the peer's table: that it has the default size is all that is asked of it.
const TABLE_BYTES: usize = 4096;

/// Entries of the static table (RFC 7541 appendix A).
const METHOD_POST: u8 = 3;
const SCHEME_HTTP: u8 = 6;
const SCHEME_HTTPS: u8 = 7;
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;
const STATIC_NAMES: [(HeaderName, u8); 3] =
    [(AUTHORIZATION, 23), (CONTENT_TYPE, 31), (USER_AGENT, 58)];

/// The same for every call of a connection: its headers.
#[derive(Clone, Debug)]
pub struct Template {
    scheme: &'static str,
    authority: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    auth: Option<ClientAuth>,
}

/// A header that HTTP/2 does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHeader(pub String);

impl Template {
    /// Headers of calls to `authority` over `scheme` (`http` or `https`), in `codec`.
    ///
    /// # Errors
    /// Names the header that cannot be sent.
    pub fn new(
        (scheme, authority): (&'static str, &str),
        codec: Codec,
        timeout: Duration,
        user_agent: &str,
        extra: &[(String, String)],
    ) -> Result<Self, BadHeader> {
        let agent =
            HeaderValue::from_str(user_agent).map_err(|_| BadHeader("user-agent".into()))?;
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (TE, HeaderValue::from_static("trailers")),
            (USER_AGENT, agent),
        ];
        if let Some(name) = codec.grpc_name() {
            headers.push((GRPC_ENCODING, HeaderValue::from_static(name)));
        }
        headers.push((GRPC_ACCEPT_ENCODING, HeaderValue::from_static(codec::ACCEPTED)));
        if !timeout.is_zero() {
            let text = frame::format_timeout(timeout);
            let value = HeaderValue::from_str(&text).expect("digits and a unit");
            headers.push((GRPC_TIMEOUT, value));
        }
        for (name, value) in extra {
            let bad = || BadHeader(name.clone());
            // HTTP/2 header names are lower case.
            let name =
                HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| bad())?;
            headers.push((name, HeaderValue::from_str(value).map_err(|_| bad())?));
        }
        Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query("/")
            .build()
            .map_err(|_| BadHeader(":authority".into()))?;
        Ok(Self { scheme, authority: authority.to_owned(), headers, auth: None })
    }

    /// The same, with what `auth` adds to each call.
    #[must_use]
    pub fn with_auth(self, auth: Option<ClientAuth>) -> Self {
        Self { auth, ..self }
    }

    /// The headers that all calls of a path have. `room` is what may enter the peer's table.
    fn block(&self, path: &str, mut room: usize) -> Block {
        let mut enter = |name, name_len: usize, value: &[u8]| {
            let bytes = name_len + value.len() + ENTRY_BYTES;
            let left = room.checked_sub(bytes);
            room = left.unwrap_or(room);
            match left {
                Some(_) => Header::Indexed(name, value.to_vec()),
                None => Header::Literal(name, value.to_vec()),
            }
        };
        let scheme = if self.scheme == "https" { SCHEME_HTTPS } else { SCHEME_HTTP };
        let mut fields = vec![
            Header::Static(METHOD_POST),
            Header::Static(scheme),
            enter(Name::Static(PATH), ":path".len(), path.as_bytes()),
            enter(Name::Static(AUTHORITY), ":authority".len(), self.authority.as_bytes()),
        ];
        for (name, value) in &self.headers {
            let known = STATIC_NAMES.iter().find(|(n, _)| n == name);
            let written = known.map_or(Name::New(name.as_str()), |(_, at)| Name::Static(*at));
            fields.push(enter(written, name.as_str().len(), value.as_bytes()));
        }
        Block::new(&fields, 0)
    }
}

/// The headers of the calls of one connection, written.
#[derive(Debug)]
pub(super) struct Headers {
    template: Template,
    /// By path. The first was used first and is in the peer's table; others enter nothing.
    blocks: Vec<(&'static str, Block)>,
    own: Vec<u8>,
}

impl Headers {
    pub(super) fn new(template: Template) -> Self {
        Self { template, blocks: Vec::new(), own: Vec::new() }
    }

    /// The headers of a call: those that all have, and its own, which enter no table. As in the
    /// collector, rules of an authenticator see only what it has set itself, and headers that the
    /// exporter sets stay beside it.
    ///
    /// # Errors
    /// If a value of the authenticator's cannot be sent, or is not one.
    pub(super) fn of(&mut self, call: &Outgoing) -> Result<(&Block, &[u8]), Status> {
        self.own.clear();
        if let Some(auth) = &self.template.auth {
            let mut own = HeaderMap::new();
            auth.apply(&mut own, call.metadata.as_deref())?;
            for (name, value) in &own {
                let put = if value.is_sensitive() { hpack::put_secret } else { hpack::put_literal };
                put(&mut self.own, name.as_str(), value.as_bytes());
            }
        }
        let at = self.blocks.iter().position(|(path, _)| *path == call.path).unwrap_or_else(|| {
            let room = if self.blocks.is_empty() { TABLE_BYTES } else { 0 };
            self.blocks.push((call.path, self.template.block(call.path, room)));
            self.blocks.len() - 1
        });
        Ok((&self.blocks[at].1, &self.own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::table::Table;
    use crate::http2::unpack::Decoder;
    use crate::rpc::secret::Secret;

    fn template(extra: &[(String, String)]) -> Result<Template, BadHeader> {
        let timeout = Duration::from_secs(5);
        Template::new(("http", "backend:4317"), Codec::Gzip, timeout, "test", extra)
    }

    fn outgoing(path: &'static str) -> Outgoing {
        Outgoing { key: 0, path, framed: bytes::Bytes::new(), metadata: None }
    }

    /// What a peer reads of the calls, and how long their blocks are.
    fn read(headers: &mut Headers, calls: &[Outgoing], mut table: Table) -> Vec<(String, usize)> {
        let mut decoder = Decoder::new(4096, 1 << 20);
        let mut read = |call: &Outgoing| {
            let (block, own) = headers.of(call).unwrap();
            let mut bytes = Vec::new();
            table.put(&mut bytes, block);
            table = table.used();
            bytes.extend_from_slice(own);
            let mut text = String::new();
            let each = |name: &[u8], value: &[u8]| {
                let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                text += &format!("{name}={value}\n");
            };
            decoder.decode(&bytes, each).unwrap();
            (text, bytes.len())
        };
        calls.iter().map(&mut read).collect()
    }

    const COMMON: &str = ":authority=backend:4317\ncontent-type=application/grpc\nte=trailers\n\
        user-agent=test\ngrpc-encoding=gzip\ngrpc-accept-encoding=gzip,snappy,zstd\n\
        grpc-timeout=5000000u\n";

    #[test]
    fn the_headers_of_all_calls_are_a_byte_each_from_the_second_call_on() {
        let extra = [("X-Tenant".to_owned(), "red".to_owned())];
        for (table, len) in [(Table::Fresh, 11), (Table::Refused, 200)] {
            let mut headers = Headers::new(template(&extra).unwrap());
            let calls = ["/a", "/a", "/other", "/a", "/other"].map(outgoing);
            let blocks = read(&mut headers, &calls, table);
            for (call, (text, _)) in calls.iter().zip(&blocks) {
                let path = call.path;
                let want =
                    format!(":method=POST\n:scheme=http\n:path={path}\n{COMMON}x-tenant=red\n");
                assert_eq!(*text, want);
            }
            assert!(blocks[1].1 <= len && blocks[3].1 <= len, "{blocks:?}");
        }
    }

    #[test]
    fn headers_that_the_table_does_not_hold_stay_out_of_it() {
        let value = |n: usize| (format!("x-{n}"), "y".repeat(900));
        let extra: Vec<_> = (0..9).map(value).collect();
        let mut headers = Headers::new(template(&extra).unwrap());
        let blocks = read(&mut headers, &["/a", "/a", "/a"].map(outgoing), Table::Fresh);
        assert_eq!((&blocks[0].0, &blocks[1].0), (&blocks[1].0, &blocks[2].0));
        assert_eq!(blocks[0].0.matches(&"y".repeat(900)).count(), 9);
        assert!(blocks[1].1 < 6 * 1000 && blocks[1].1 == blocks[2].1);
    }

    #[test]
    fn a_secret_of_the_authenticator_is_read_anew_and_may_be_indexed_by_nobody() {
        let tokens = Secret::fixed("one");
        let auth = ClientAuth::Bearer {
            header: AUTHORIZATION,
            scheme: "Bearer".into(),
            tokens: tokens.clone(),
        };
        let mut headers = Headers::new(template(&[]).unwrap().with_auth(Some(auth)));
        for token in ["one", "two"] {
            tokens.replace(token);
            let (_, own) = headers.of(&outgoing("/a")).unwrap();
            assert_eq!(own[0], 0x10);
            assert!(own.ends_with(format!("Bearer {token}").as_bytes()));
        }
        tokens.replace("a\u{7f}b");
        assert!(headers.of(&outgoing("/a")).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        let bad = |name: &str, value: &str| template(&[(name.to_owned(), value.to_owned())]);
        assert_eq!(bad("a b", "x").map(drop), Err(BadHeader("a b".into())));
        assert_eq!(bad("a", "x\ny").map(drop), Err(BadHeader("a".into())));
        let timeout = Duration::ZERO;
        let authority = Template::new(("http", "a b"), Codec::None, timeout, "t", &[]);
        assert_eq!(authority.map(drop), Err(BadHeader(":authority".into())));
        let agent = Template::new(("http", "a"), Codec::None, timeout, "\n", &[]);
        assert_eq!(agent.map(drop), Err(BadHeader("user-agent".into())));
    }
}
