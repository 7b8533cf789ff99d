//! Authenticators: the extensions `basicauth`, `bearertokenauth` and `headers_setter`, and the key
//! `auth` of receivers and exporters that names one. Files are read here, so that a missing one is
//! told with its line; they are read again while tracemill runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::config::ids::Id;
use crate::config::print::{Out, REDACTED};
use crate::config::read::{Absent, Block, Kind};
use crate::rpc::auth::{Action, ClientAuth, HeaderRule, Htpasswd, Known, ServerAuth, Source};
use crate::rpc::secret::Secret;
use crate::upstream;

/// What an extension can do.
#[derive(Clone, Debug, Default)]
pub struct Authenticator {
    /// For receivers.
    pub server: Option<ServerAuth>,
    /// For exporters.
    pub client: Option<ClientAuth>,
}

/// By id, those that `service.extensions` names.
pub type Authenticators = BTreeMap<Id, Authenticator>;

/// The key `auth`: its types, and what took effect. Which authenticator it names is looked up by
/// [`named`].
pub fn key(b: &mut Block<'_>) {
    b.optional("auth", Absent::OffAlsoIfNull, |b| {
        b.text("authenticator", "");
        if b.has("request_params") {
            let what = "credentials in the query of a URL are not in this release";
            b.refuse_at("request_params", what, "");
        }
    });
}

/// The authenticator that the key `auth` of `b` names.
pub fn named<'a>(b: &mut Block<'_>, known: &'a Authenticators) -> Option<&'a Authenticator> {
    let mut found = None;
    b.lenient("auth", |b| {
        let text = b.unrecorded(|b| b.text("authenticator", ""));
        match Id::parse(&text).ok().and_then(|id| known.get(&id)) {
            Some(authenticator) => found = Some(authenticator),
            None => {
                let what = format!("failed to resolve authenticator \"{text}\": not found");
                let right = "declare it under extensions, and name it in service.extensions";
                b.start_error_at("authenticator", what, right);
            }
        }
    });
    found
}

/// The same, for a receiver.
pub fn server(b: &mut Block<'_>, known: &Authenticators) -> Option<ServerAuth> {
    let found = named(b, known)?;
    if found.server.is_none() {
        b.start_error_at("auth", "the named extension is no server authenticator", "");
    }
    found.server.clone()
}

/// The same, for an exporter.
pub fn client(b: &mut Block<'_>, known: &Authenticators) -> Option<ClientAuth> {
    let found = named(b, known)?;
    if found.client.is_none() {
        b.start_error_at("auth", "the named extension is no client authenticator", "");
    }
    found.client.clone()
}

/// As in gRPC, a password or token is not shown in plaintext.
pub fn check_secrecy(b: &Block<'_>, options: &upstream::Options) {
    let is_secret =
        matches!(options.auth, Some(ClientAuth::Basic { .. } | ClientAuth::Bearer { .. }));
    if is_secret && options.tls.is_none() {
        let what = "the credentials require transport level security, as in gRPC";
        b.start_error_at("auth", what, "leave tls.insecure out, or use headers");
    }
}

/// `basicauth`.
pub fn basic(b: &mut Block<'_>) -> Authenticator {
    let server = b.optional("htpasswd", Absent::OffAlsoIfNull, |b| {
        let file = b.text("file", "");
        let inline = secret_text(b, "inline");
        if file.is_empty() && inline.is_empty() {
            b.start_error("no credential source provided", "file: /etc/tracemill/htpasswd");
        }
        // The inline ones come last, because the last one counts.
        let text = format!("{}\n{inline}", contents(b, "file", &file));
        match Htpasswd::parse(&text) {
            Ok(users) => {
                Some(ServerAuth::Basic { users: Arc::new(users), known: Known::default() })
            }
            Err(what) => {
                b.start_error(what, "name:hash, as htpasswd -B writes it");
                None
            }
        }
    });
    let client = b.optional("client_auth", Absent::OffAlsoIfNull, |b| {
        let username = secret(b, "username", "username_file");
        let password = secret(b, "password", "password_file");
        ClientAuth::Basic { username, password }
    });
    match (&server, &client) {
        (None, None) => b.error("no credential source provided", "htpasswd: {inline: ...}"),
        (Some(_), Some(_)) => {
            b.error("only one of htpasswd and client_auth can be given", "two extensions");
        }
        _ => {}
    }
    Authenticator { server: server.flatten(), client }
}

/// `bearertokenauth`.
pub fn bearer(b: &mut Block<'_>) -> Authenticator {
    let name = b.text("header", AUTHORIZATION.as_str());
    let scheme = b.text("scheme", "Bearer");
    let token = secret_text(b, "token");
    let tokens = b.unrecorded(|b| b.texts("tokens", &[]));
    if !tokens.is_empty() {
        b.record("tokens", Out::texts(tokens.iter().map(|_| REDACTED)));
    }
    let file = b.text("filename", "");
    if token.is_empty() && tokens.is_empty() && file.is_empty() {
        b.error("no bearer token provided", "token: ${env:TOKEN}, or filename");
    }
    if !token.is_empty() && !tokens.is_empty() {
        b.error("either tokens or token should be provided, not both", "");
    }
    b.ignore("retry_on_failure", Kind::Any, "the file must be there at start");
    b.ignore("wait_for_token_file", Kind::Flag, "the file must be there at start");
    let header = HeaderName::from_bytes(name.as_bytes()).unwrap_or_else(|_| {
        b.error_at("header", format!("\"{name}\" is no name of a header"), "");
        AUTHORIZATION
    });
    let tokens = match (tokens.is_empty(), file.is_empty()) {
        (false, _) => Secret::fixed(&tokens.join("\n")),
        (true, true) => Secret::fixed(&token),
        (true, false) => {
            if !token.is_empty() {
                b.warn_at("token", "has no effect beside filename", "leave one of them out");
            }
            let text = contents(b, "filename", &file);
            Secret::of_file(PathBuf::from(&file), &text)
        }
    };
    let server = ServerAuth::Bearer {
        header: header.clone(),
        scheme: scheme.clone(),
        tokens: tokens.clone(),
    };
    let client = ClientAuth::Bearer { header, scheme, tokens };
    Authenticator { server: Some(server), client: Some(client) }
}

/// `headers_setter`.
pub fn headers_setter(b: &mut Block<'_>) -> Authenticator {
    let rules = b.list("headers", rule);
    if rules.is_empty() {
        b.error(
            "missing headers configuration",
            "headers: [{key: x-tenant, from_context: x-tenant}]",
        );
    }
    let rules = rules.into_iter().flatten().collect();
    Authenticator { server: None, client: Some(ClientAuth::Headers(rules)) }
}

fn rule(b: &mut Block<'_>) -> Option<HeaderRule> {
    let key = b.text("key", "");
    let actions = [
        ("insert", Action::Insert),
        ("update", Action::Update),
        ("upsert", Action::Upsert),
        ("delete", Action::Delete),
        ("", Action::Upsert),
    ];
    let action = b.choice("action", "", &actions, Action::Upsert);
    let given = ["value", "value_file", "from_context", "from_attribute"]
        .into_iter()
        .filter(|key| b.has(key))
        .count();
    b.refuse("from_attribute", "attributes of clients are not in this release", "");
    let source = if b.has("from_context") {
        let name = b.text("from_context", "");
        let default = b.text_if_given("default_value");
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Some(Source::Metadata { name, default }),
            Err(_) => {
                let what = format!("\"{name}\" is no header of a request that comes in");
                b.start_error_at("from_context", what, "from_context: x-tenant");
                None
            }
        }
    } else {
        Some(Source::Value(secret(b, "value", "value_file")))
    };
    if key.is_empty() {
        b.error("missing header name", "key: x-tenant");
    }
    if action != Action::Delete && given != 1 {
        let what = match given {
            0 => "missing header source, must be 'from_context' or 'value'",
            _ => "invalid header source, must either be 'from_context' or 'value'",
        };
        b.error(what, "value: ..., or from_context: x-tenant");
    }
    let Ok(key) = HeaderName::from_bytes(key.as_bytes()) else {
        if !key.is_empty() {
            b.start_error_at("key", format!("\"{key}\" is no name of a header"), "");
        }
        return None;
    };
    Some(HeaderRule { key, action, source: source? })
}

/// A text that is not printed.
fn secret_text(b: &mut Block<'_>, key: &'static str) -> String {
    if !b.has(key) {
        return String::new();
    }
    let text = b.unrecorded(|b| b.text(key, ""));
    b.record(key, Out::text(REDACTED));
    text
}

/// A text from one key, or from the file that the other names.
fn secret(b: &mut Block<'_>, key: &'static str, file_key: &'static str) -> Secret {
    let text = secret_text(b, key);
    let file = b.text_if_given(file_key);
    if file.is_empty() {
        return Secret::fixed(&text);
    }
    let text = contents(b, file_key, &file);
    Secret::of_file(PathBuf::from(&file), text.trim())
}

fn contents(b: &mut Block<'_>, key: &str, file: &str) -> String {
    if file.is_empty() || !b.in_use() {
        return String::new();
    }
    std::fs::read_to_string(file).unwrap_or_else(|e| {
        b.start_error_at(key, format!("{file} cannot be read: {e}"), "");
        String::new()
    })
}
