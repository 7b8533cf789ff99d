//! From options to what rustls wants: files are read, certificates and keys parsed and held
//! against each other. A fault is told with its key and file.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::options::{Basics, ClientOptions, Group, Pem, Protocol, ServerOptions, Suite, Version};
use super::verify::{self, Trusted};

/// Sessions that a client remembers, over all its endpoints.
const SESSIONS_MAX: usize = 1024;

/// What is wrong with a certificate, key or choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Key of the `tls` block.
    pub key: &'static str,
    /// The file, if it is one.
    pub file: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{} {file}: {}", self.key, self.reason),
            None => write!(f, "{}: {}", self.key, self.reason),
        }
    }
}

impl std::error::Error for Error {}

/// Files that a configuration was made of.
pub(super) struct Files(Vec<String>);

impl Files {
    fn of(basics: &Basics) -> Self {
        let identity = basics.identity.iter().flat_map(|i| [&i.cert, &i.key]);
        let file = |pem: &Pem| match pem {
            Pem::File(path) => Some(path.clone()),
            Pem::Inline(_) => None,
        };
        Self(basics.ca.iter().chain(identity).filter_map(file).collect())
    }

    /// Changes when the content of one of them does, however it was put there.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        for path in &self.0 {
            std::fs::read(path).ok().hash(&mut hash);
        }
        hash.finish()
    }
}

/// Files of a client.
pub(super) fn client_files(options: &ClientOptions) -> Files {
    Files::of(&options.basics)
}

/// Files of a server. Those that may not be reloaded are not among them.
pub(super) fn server_files(options: &ServerOptions) -> Files {
    let mut files = match options.basics.reload_interval {
        Some(_) => Files::of(&options.basics),
        None => Files(Vec::new()),
    };
    files.0.extend(options.client_ca_file.clone().filter(|_| options.client_ca_reload));
    files
}

/// A server's configuration. With `now`, a certificate that is not valid then is refused.
pub(super) fn server(
    options: &ServerOptions,
    protocols: &[Protocol],
    now: Option<SystemTime>,
) -> Result<ServerConfig, Error> {
    let basics = &options.basics;
    let provider = provider(basics);
    let no_identity = || fault("cert_file", None, "a server needs a certificate and its key");
    let identity = identity(basics, &provider, now)?.ok_or_else(no_identity)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(basics))
        .map_err(|e| fault("cipher_suites", None, e))?;
    let builder = match &options.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let pem = Pem::File(path.clone());
            let roots = roots("client_ca_file", Some(&pem), basics.system_roots_too)?;
            builder.with_client_cert_verifier(
                verify::clients(roots, &provider)
                    .map_err(|e| fault("client_ca_file", Some(&pem), e))?,
            )
        }
    };
    let mut config =
        builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    config.ticketer =
        ring::Ticketer::new().map_err(|e| fault("cert_file", None, format!("tickets: {e}")))?;
    config.alpn_protocols = names(protocols);
    Ok(config)
}

/// A client's configuration. With `now`, a certificate that is not valid then is refused.
pub(super) fn client(
    options: &ClientOptions,
    protocols: &[Protocol],
    now: Option<SystemTime>,
) -> Result<ClientConfig, Error> {
    let basics = &options.basics;
    let provider = provider(basics);
    let identity = identity(basics, &provider, now)?;
    // Read even if nothing is verified: the collector does not start without the files.
    let roots = roots("ca_file", basics.ca.as_ref(), basics.system_roots_too)?;
    let verifier = match options.skip_verify {
        true => verify::anyone(&provider),
        false => verify::servers(roots, &provider)
            .map_err(|e| fault("ca_file", basics.ca.as_ref(), e))?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(basics))
        .map_err(|e| fault("cipher_suites", None, e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity))),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    config.alpn_protocols = names(protocols);
    Ok(config)
}

/// Whether our own certificate is valid at `now`.
pub(super) fn untimely(basics: &Basics, now: SystemTime) -> Result<(), Error> {
    let Some(identity) = &basics.identity else { return Ok(()) };
    let key = key_of(&identity.cert, "cert_file", "cert_pem");
    timely(key, &identity.cert, &certificates(key, &identity.cert)?, now)
}

/// Refuses a chain whose first certificate is not valid at `now`.
fn timely(
    key: &'static str,
    pem: &Pem,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Result<(), Error> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    verify::timely(&chain[0], seconds).map_err(|reason| fault(key, Some(pem), reason))
}

fn fault(key: &'static str, pem: Option<&Pem>, reason: impl fmt::Display) -> Error {
    let file = match pem {
        Some(Pem::File(path)) => Some(path.clone()),
        _ => None,
    };
    Error { key, file, reason: reason.to_string() }
}

fn key_of(pem: &Pem, file: &'static str, inline: &'static str) -> &'static str {
    match pem {
        Pem::File(_) => file,
        Pem::Inline(_) => inline,
    }
}

fn read(key: &'static str, pem: &Pem) -> Result<Vec<u8>, Error> {
    match pem {
        Pem::File(path) => std::fs::read(path).map_err(|e| fault(key, Some(pem), e)),
        Pem::Inline(text) => Ok(text.0.clone().into_bytes()),
    }
}

fn certificates(key: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(key, pem)?;
    let all = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| fault(key, Some(pem), format!("is not PEM: {e}")))?;
    match all.is_empty() {
        true => Err(fault(key, Some(pem), "holds no certificate in PEM form")),
        false => Ok(all),
    }
}

/// Our certificate and key, if there are any; they fit each other, and are valid at `now`.
fn identity(
    basics: &Basics,
    provider: &CryptoProvider,
    now: Option<SystemTime>,
) -> Result<Option<CertifiedKey>, Error> {
    let Some(identity) = &basics.identity else { return Ok(None) };
    let cert_key = key_of(&identity.cert, "cert_file", "cert_pem");
    let key_key = key_of(&identity.key, "key_file", "key_pem");
    let chain = certificates(cert_key, &identity.cert)?;
    let text = read(key_key, &identity.key)?;
    let no_key = |_| {
        let forms = "holds no private key in PKCS#8, PKCS#1 or SEC1 form (an encrypted one cannot \
                     be used)";
        fault(key_key, Some(&identity.key), forms)
    };
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(no_key)?;
    let key = provider.key_provider.load_private_key(der);
    let key = key.map_err(|e| fault(key_key, Some(&identity.key), explain(&e)))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) => {}
        // A client may show a form of certificate that webpki cannot read.
        Err(e) if verify::is_narrow(&e) && verify::spki(&pair.cert[0]) == pair.key.public_key() => {
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            let what = "the private key does not belong to the certificate";
            return Err(fault(key_key, Some(&identity.key), what));
        }
        Err(e) => return Err(fault(cert_key, Some(&identity.cert), explain(&e))),
    }
    if let Some(now) = now {
        timely(cert_key, &identity.cert, &pair.cert, now)?;
    }
    Ok(Some(pair))
}

fn explain(e: &rustls::Error) -> String {
    match e {
        rustls::Error::InvalidCertificate(e) => {
            format!("is no certificate that can be used: {e:?}")
        }
        rustls::Error::General(text) => text.clone(),
        e => e.to_string(),
    }
}

/// The authorities that are trusted: the file's, the system's, or both (otlp 4.3).
fn roots(key: &'static str, own: Option<&Pem>, and_system: bool) -> Result<Trusted, Error> {
    let mut anchors = RootCertStore::empty();
    if own.is_none() || and_system {
        anchors.extend(system_roots().roots.iter().cloned());
    }
    let Some(own) = own else { return Ok(Trusted { anchors, own: Vec::new() }) };
    let key = if key == "ca_file" { key_of(own, "ca_file", "ca_pem") } else { key };
    let all = certificates(key, own)?;
    let (added, _) = anchors.add_parsable_certificates(all.iter().cloned());
    match added {
        0 => Err(fault(key, Some(own), "holds no certificate that can be used")),
        _ => Ok(Trusted { anchors, own: all }),
    }
}

/// Read once per process, as Go does.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Single files that cannot be read matter to nobody who does not need them.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

fn names(protocols: &[Protocol]) -> Vec<Vec<u8>> {
    protocols.iter().map(|p| p.name().to_vec()).collect()
}

fn versions(basics: &Basics) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(Version::Tls13, &version::TLS13), (Version::Tls12, &version::TLS12)];
    let spoken = |v: &Version| *v >= basics.min && *v <= basics.max;
    all.into_iter().filter(|(v, _)| spoken(v)).map(|(_, v)| v).collect()
}

fn provider(basics: &Basics) -> Arc<CryptoProvider> {
    use ring::cipher_suite as suite;
    let mut provider = ring::default_provider();
    if let Some(chosen) = &basics.suites {
        let of = |s: &Suite| match s {
            Suite::EcdsaAes128Gcm => suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            Suite::EcdsaAes256Gcm => suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            Suite::EcdsaChacha20 => suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            Suite::RsaAes128Gcm => suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            Suite::RsaAes256Gcm => suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            Suite::RsaChacha20 => suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        };
        provider.cipher_suites.retain(|s| s.tls13().is_some());
        provider.cipher_suites.extend(chosen.iter().map(of));
    }
    if !basics.groups.is_empty() {
        let of = |g: &Group| match g {
            Group::X25519 => ring::kx_group::X25519,
            Group::P256 => ring::kx_group::SECP256R1,
            Group::P384 => ring::kx_group::SECP384R1,
        };
        provider.kx_groups = basics.groups.iter().map(of).collect();
    }
    Arc::new(provider)
}
