//! Who a client is: what a server wants to see (`auth` of a receiver), and what a client shows and
//! sets (`auth` of an exporter). Rules and words are those of the collector's extensions
//! `basicauth`, `bearertokenauth` and `headers_setter`. Pure: hashes that take long are handed out
//! as a [`Slow`] check, to be made where no core waits.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::metadata::Metadata;
use super::secret::Secret;
use super::status::{Code, Status};

mod htpasswd;

pub use htpasswd::Htpasswd;

/// Logins remembered, so that a slow hash is computed once per client and not per call.
const REMEMBERED_MAX: usize = 4096;

/// What a server wants to see.
#[derive(Clone, Debug)]
pub enum ServerAuth {
    /// `basicauth` with `htpasswd`.
    Basic {
        /// Who may call.
        users: Arc<Htpasswd>,
        /// Digests of logins that were right.
        known: Known,
    },
    /// `bearertokenauth`.
    Bearer {
        /// Where the token stands.
        header: HeaderName,
        /// Before the token; may be empty.
        scheme: String,
        /// Tokens, one per line.
        tokens: Secret,
    },
}

/// Logins that were right, shared by all cores.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<HashSet<[u8; 32]>>>);

impl PartialEq for ServerAuth {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Basic { users: a, .. }, Self::Basic { users: b, .. }) => a == b,
            (
                Self::Bearer { header: a, scheme: b, tokens: c },
                Self::Bearer { header: x, scheme: y, tokens: z },
            ) => a == x && b == y && c == z,
            _ => false,
        }
    }
}

/// What a look at the headers of a call yields.
#[derive(Debug)]
pub enum Verdict {
    /// The call may go on.
    Welcome,
    /// Why not.
    Refused(Cow<'static, str>),
    /// It takes some milliseconds to say.
    Slow(Slow),
}

/// A login whose hash is to be computed.
#[derive(Debug)]
pub struct Slow {
    users: Arc<Htpasswd>,
    known: Known,
    login: String,
    digest: [u8; 32],
}

impl Slow {
    /// Computes it; takes milliseconds.
    #[must_use]
    pub fn is_right(self) -> bool {
        let right = self
            .login
            .split_once(':')
            .is_some_and(|(name, password)| self.users.matches(name, password));
        if right {
            let mut known = self.known.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            known.insert(self.digest);
        }
        right
    }
}

/// What a wrong login is told.
pub const WRONG: &str = "invalid credentials";

impl ServerAuth {
    /// A text that may stand in a file.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        if let Self::Bearer { tokens, .. } = self { Some(tokens) } else { None }
    }

    /// Looks at the headers of a call.
    #[must_use]
    pub fn look(&self, headers: &HeaderMap) -> Verdict {
        match self {
            Self::Basic { users, known } => basic(users, known, headers),
            Self::Bearer { header, scheme, tokens } => {
                let Some(shown) = headers.get(header) else {
                    let name = header.as_str();
                    let text = format!("missing or empty authorization header: {name}");
                    return Verdict::Refused(text.into());
                };
                let tokens = tokens.text();
                let mut right = false;
                for token in tokens_of(&tokens) {
                    right |= is_same(shown.as_bytes(), credential(scheme, token).as_bytes());
                }
                match right {
                    true => Verdict::Welcome,
                    false => Verdict::Refused(
                        "provided authorization does not match expected scheme or token".into(),
                    ),
                }
            }
        }
    }
}

/// UNAUTHENTICATED, in these words.
#[must_use]
pub fn refusal(text: impl Into<Cow<'static, str>>) -> Status {
    Status::new(Code::Unauthenticated, text)
}

fn basic(users: &Arc<Htpasswd>, known: &Known, headers: &HeaderMap) -> Verdict {
    let shown = headers.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    if shown.is_empty() {
        return Verdict::Refused("no basic auth provided".into());
    }
    let parts = shown.split_at_checked(6);
    let Some((_, coded)) = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"basic "))
    else {
        return Verdict::Refused("invalid authorization scheme prefix".into());
    };
    let login = BASE64.decode(coded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(login) = login.filter(|login| login.contains(':')) else {
        return Verdict::Refused("invalid authorization format".into());
    };
    let digest: [u8; 32] = Sha256::digest(login.as_bytes()).into();
    if known.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
        return Verdict::Welcome;
    }
    let (users, known) = (Arc::clone(users), known.clone());
    Verdict::Slow(Slow { users, known, login, digest })
}

/// The first word of each line; what stands behind it is a comment.
fn tokens_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_whitespace().next())
}

fn credential(scheme: &str, token: &str) -> String {
    if scheme.is_empty() { token.to_owned() } else { format!("{scheme} {token}") }
}

/// Takes the same time wherever the first difference is.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// What a client shows or sets on its calls.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuth {
    /// `basicauth` with `client_auth`.
    Basic {
        /// Name.
        username: Secret,
        /// Password.
        password: Secret,
    },
    /// `bearertokenauth`.
    Bearer {
        /// Where the token stands.
        header: HeaderName,
        /// Before the token; may be empty.
        scheme: String,
        /// Tokens, one per line; the first is shown.
        tokens: Secret,
    },
    /// `headers_setter`.
    Headers(Vec<HeaderRule>),
}

/// One entry of `headers_setter`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderRule {
    /// Which header.
    pub key: HeaderName,
    /// What is done with it.
    pub action: Action,
    /// What it is set to.
    pub source: Source,
}

/// `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only if it is not there.
    Insert,
    /// Only if it is there.
    Update,
    /// In any case.
    Upsert,
    /// It goes.
    Delete,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// `value`, `value_file`.
    Value(Secret),
    /// `from_context`: a header of the request that came in.
    Metadata {
        /// Which.
        name: HeaderName,
        /// `default_value`.
        default: String,
    },
}

impl ClientAuth {
    /// The headers of requests that it reads.
    #[must_use]
    pub fn wanted(&self) -> Vec<HeaderName> {
        let Self::Headers(rules) = self else { return Vec::new() };
        let names = rules.iter().filter_map(|rule| match &rule.source {
            Source::Metadata { name, .. } => Some(name.clone()),
            Source::Value(_) => None,
        });
        names.collect()
    }

    /// Texts that stand in files.
    #[must_use]
    pub fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Basic { username, password } => vec![username, password],
            Self::Bearer { tokens, .. } => vec![tokens],
            Self::Headers(rules) => {
                let values = rules.iter().filter_map(|rule| match &rule.source {
                    Source::Value(value) => Some(value),
                    Source::Metadata { .. } => None,
                });
                values.collect()
            }
        }
    }

    /// Sets the headers of an HTTP request.
    ///
    /// # Errors
    /// If a value cannot be sent, or is not one.
    pub fn apply(
        &self,
        headers: &mut HeaderMap,
        metadata: Option<&Metadata>,
    ) -> Result<(), Status> {
        match self {
            Self::Basic { username, password } => {
                let login = format!("{}:{}", username.text(), password.text());
                let text = format!("Basic {}", BASE64.encode(login));
                headers.insert(AUTHORIZATION, value(&text)?);
            }
            Self::Bearer { header, scheme, tokens } => {
                let tokens = tokens.text();
                let token = tokens_of(&tokens).next();
                let text = token.map(|token| credential(scheme, token)).unwrap_or_default();
                headers.insert(header, value(&text)?);
            }
            Self::Headers(rules) => {
                for rule in rules {
                    rule.apply(headers, metadata)?;
                }
            }
        }
        Ok(())
    }
}

fn value(text: &str) -> Result<HeaderValue, Status> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Status::new(Code::Internal, "a header of the exporter's authenticator cannot be sent")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl HeaderRule {
    fn apply(&self, headers: &mut HeaderMap, metadata: Option<&Metadata>) -> Result<(), Status> {
        let there = headers.contains_key(&self.key);
        match self.action {
            Action::Delete => {
                headers.remove(&self.key);
                return Ok(());
            }
            Action::Insert if there => return Ok(()),
            Action::Update if !there => return Ok(()),
            Action::Insert | Action::Update | Action::Upsert => {}
        }
        let value = match &self.source {
            Source::Value(text) => value(&text.text())?,
            Source::Metadata { name, default } => {
                match metadata.map_or(&[][..], |metadata| metadata.get(name)) {
                    [] => value(default)?,
                    [one] => one.clone(),
                    more => {
                        let text = format!(
                            "{} source keys found in the context, can't determine which one to use",
                            more.len()
                        );
                        return Err(Status::new(Code::Internal, text));
                    }
                }
            }
        };
        headers.insert(&self.key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn verdict(auth: &ServerAuth, pairs: &[(&'static str, &str)]) -> String {
        match auth.look(&headers(pairs)) {
            Verdict::Welcome => String::new(),
            Verdict::Refused(text) => text.into_owned(),
            Verdict::Slow(slow) => match slow.is_right() {
                true => String::new(),
                false => WRONG.to_owned(),
            },
        }
    }

    #[test]
    fn basic_logins_are_checked_and_remembered() {
        let users = Arc::new(Htpasswd::parse("a:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\n").unwrap());
        let auth = ServerAuth::Basic { users, known: Known::default() };
        // a:test, a:no, a
        for (shown, want) in [
            ("Basic YTp0ZXN0", ""),
            ("basic YTp0ZXN0", ""),
            ("Basic YTpubw==", WRONG),
            ("Basic YQ==", "invalid authorization format"),
            ("Basic ?", "invalid authorization format"),
            ("Bearer YTp0ZXN0", "invalid authorization scheme prefix"),
            ("Bas", "invalid authorization scheme prefix"),
            ("", "no basic auth provided"),
        ] {
            assert_eq!(verdict(&auth, &[("authorization", shown)]), want, "{shown}");
        }
        assert_eq!(verdict(&auth, &[]), "no basic auth provided");
        let again = auth.look(&headers(&[("authorization", "Basic YTp0ZXN0")]));
        assert!(matches!(again, Verdict::Welcome), "its hash is not computed again");
    }

    #[test]
    fn bearer_tokens_may_be_several_and_change() {
        let tokens = Secret::fixed("one # old\n\n two\n");
        let (header, scheme) = (AUTHORIZATION, "Bearer".to_owned());
        let auth = ServerAuth::Bearer { header, scheme, tokens: tokens.clone() };
        for (shown, right) in [
            ("Bearer one", true),
            ("Bearer two", true),
            ("bearer one", false),
            ("Bearer old", false),
            ("one", false),
            ("", false),
        ] {
            assert_eq!(verdict(&auth, &[("authorization", shown)]).is_empty(), right, "{shown}");
        }
        assert!(verdict(&auth, &[]).starts_with("missing or empty authorization header"));
        assert!(tokens.replace("three"));
        assert_eq!(verdict(&auth, &[("authorization", "Bearer three")]), "");
        let client = ClientAuth::Bearer { header: AUTHORIZATION, scheme: String::new(), tokens };
        let mut map = headers(&[("authorization", "x")]);
        client.apply(&mut map, None).unwrap();
        assert_eq!(map[AUTHORIZATION], "three");
    }

    fn rule(key: &'static str, action: Action, source: Source) -> HeaderRule {
        HeaderRule { key: HeaderName::from_static(key), action, source }
    }

    #[test]
    fn headers_are_set_by_their_actions() {
        let text = |t: &str| Source::Value(Secret::fixed(t));
        let tenant =
            Source::Metadata { name: HeaderName::from_static("x-t"), default: "none".into() };
        let auth = ClientAuth::Headers(vec![
            rule("x-a", Action::Insert, text("1")),
            rule("x-b", Action::Insert, text("2")),
            rule("x-c", Action::Update, text("3")),
            rule("x-d", Action::Update, text("4")),
            rule("x-e", Action::Upsert, tenant.clone()),
            rule("x-f", Action::Delete, text("")),
        ]);
        let came = headers(&[("x-t", "red")]);
        let metadata = Metadata::of(&came, &auth.wanted());
        let given = [("x-a", "0"), ("x-c", "0"), ("x-e", "0"), ("x-f", "0")];
        let mut map = headers(&given);
        auth.apply(&mut map, metadata.as_deref()).unwrap();
        let want = [("x-a", "0"), ("x-b", "2"), ("x-c", "3"), ("x-e", "red")];
        assert_eq!(map, headers(&want));
        auth.apply(&mut map, None).unwrap();
        assert_eq!(map["x-e"], "none");
        let two = Metadata::of(&headers(&[("x-t", "a"), ("x-t", "b")]), &auth.wanted());
        assert!(auth.apply(&mut HeaderMap::new(), two.as_deref()).is_err());
    }
}
