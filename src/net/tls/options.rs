//! What can be set on TLS, as plain values (otlp 4.3). Whether files exist and fit is found by
//! `load`.

use std::fmt;
use std::time::Duration;

/// PEM text, or the file that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// Path as written.
    File(String),
    /// The text itself.
    Inline(Secret),
}

/// Text that no log line shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// A version of TLS. Older ones are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// A cipher suite of TLS 1.2. Those of 1.3 cannot be chosen, as in Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Suite {
    EcdsaAes128Gcm,
    EcdsaAes256Gcm,
    EcdsaChacha20,
    RsaAes128Gcm,
    RsaAes256Gcm,
    RsaChacha20,
}

/// A group of the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Group {
    X25519,
    P256,
    P384,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `cert_file` or `cert_pem`: the leaf first.
    pub cert: Pem,
    /// `key_file` or `key_pem`: PKCS#8, PKCS#1 or SEC1.
    pub key: Pem,
}

/// What clients and servers have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basics {
    /// `ca_file` or `ca_pem`. Read by servers too, where it has no effect.
    pub ca: Option<Pem>,
    /// `include_system_ca_certs_pool`: the system's roots beside the own ones.
    pub system_roots_too: bool,
    /// What we show of ourselves.
    pub identity: Option<Identity>,
    /// `min_version`.
    pub min: Version,
    /// `max_version`.
    pub max: Version,
    /// `cipher_suites`, those of TLS 1.2; `None` for all.
    pub suites: Option<Vec<Suite>>,
    /// `curve_preferences`; empty for all.
    pub groups: Vec<Group>,
    /// `reload_interval`: how often files are looked at; `None` for never.
    pub reload_interval: Option<Duration>,
}

/// `tls` of an exporter that speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// In common with servers.
    pub basics: Basics,
    /// `insecure_skip_verify`: any certificate will do.
    pub skip_verify: bool,
    /// `server_name_override`: the name that the certificate must have.
    pub server_name: Option<String>,
}

/// `tls` of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// In common with clients.
    pub basics: Basics,
    /// `client_ca_file`: clients must show a certificate of these authorities.
    pub client_ca_file: Option<String>,
    /// `client_ca_file_reload`: the file is looked at again.
    pub client_ca_reload: bool,
}

impl Default for Basics {
    fn default() -> Self {
        Self {
            ca: None,
            system_roots_too: false,
            identity: None,
            min: Version::Tls12,
            max: Version::Tls13,
            suites: None,
            groups: Vec::new(),
            reload_interval: None,
        }
    }
}

/// What is spoken inside, as both sides agree in the handshake (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `h2`.
    Http2,
    /// `http/1.1`.
    Http1,
}

impl Protocol {
    /// As it is written on the wire.
    #[must_use]
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}
