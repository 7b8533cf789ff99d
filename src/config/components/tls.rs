//! TLS blocks (otlp 4.3, configs 7). What cannot be spoken here is refused by name: nothing is ever
//! weaker than the file says. Files are read as well, so that a bad one is told with its line.

use std::time::Duration;

use crate::config::print::{Out, REDACTED};
use crate::config::read::{Absent, Block};
use crate::net::tls::options::{
    Basics, ClientOptions, Group, Identity, Pem, Secret, ServerOptions, Suite, Version,
};
use crate::net::tls::{ClientTls, Error, Protocol, ServerTls};
use crate::runtime::clock;

/// Suites by Go's names; `None`: of TLS 1.3, which are always on.
const SUITES: [(&str, Option<Suite>); 11] = [
    ("TLS_AES_128_GCM_SHA256", None),
    ("TLS_AES_256_GCM_SHA384", None),
    ("TLS_CHACHA20_POLY1305_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(Suite::EcdsaAes128Gcm)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(Suite::EcdsaAes256Gcm)),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Some(Suite::EcdsaChacha20)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(Suite::RsaAes128Gcm)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(Suite::RsaAes256Gcm)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(Suite::RsaChacha20)),
    // Older names of the two.
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Some(Suite::EcdsaChacha20)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Some(Suite::RsaChacha20)),
];

/// Suites that Go calls secure and we do not speak.
const CBC_SUITES: [&str; 4] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];

/// Suites that Go takes only with `include_insecure_cipher_suites`.
const INSECURE_SUITES: [&str; 14] = [
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
];

/// Curves by the collector's names.
const CURVES: [(&str, Option<Group>); 5] = [
    ("X25519", Some(Group::X25519)),
    ("P256", Some(Group::P256)),
    ("P384", Some(Group::P384)),
    ("P521", None),
    ("X25519MLKEM768", None),
];

/// The `tls` block of a client; `None` for plaintext. `insecure_beside` is the old `insecure` key
/// next to `endpoint`; `https` says that the endpoint's scheme asks for TLS.
pub fn client(
    b: &mut Block<'_>,
    insecure_beside: bool,
    https: bool,
    protocols: &[Protocol],
) -> Option<ClientOptions> {
    b.block("tls", |b| {
        let insecure = b.flag("insecure", insecure_beside);
        let skip_verify = b.flag("insecure_skip_verify", false);
        let server_name = b.text("server_name_override", "");
        let (basics, refused) = basics(b);
        // As in the collector, an authority turns TLS on although it is called insecure.
        if insecure && basics.ca.is_none() {
            return https.then(ClientOptions::default);
        }
        say_refused(b, &refused);
        let server_name = (!server_name.is_empty()).then_some(server_name);
        let options = ClientOptions { basics, skip_verify, server_name };
        if refused.is_empty() && b.reads_files() {
            match ClientTls::new(&options, protocols) {
                Ok(tls) => say_untimely(b, tls.untimely(clock::wall())),
                Err(e) => say_fault(b, &e),
            }
        }
        Some(options)
    })
}

/// The `tls` block of a server; `None` for plaintext.
pub fn server(b: &mut Block<'_>, protocols: &[Protocol]) -> Option<ServerOptions> {
    b.optional("tls", Absent::OffAlsoIfNull, |b| {
        let client_ca_file = b.text("client_ca_file", "");
        let client_ca_reload = b.flag("client_ca_file_reload", false);
        let (basics, refused) = basics(b);
        if basics.identity.is_none() && !b.has("cert_file") && !b.has("cert_pem") {
            let what = "a server needs a certificate and its key";
            b.error(what, "tls:\n  cert_file: server.crt\n  key_file: server.key");
        }
        say_refused(b, &refused);
        let client_ca_file = (!client_ca_file.is_empty()).then_some(client_ca_file);
        let options = ServerOptions { basics, client_ca_file, client_ca_reload };
        if options.basics.identity.is_some() && refused.is_empty() && b.reads_files() {
            match ServerTls::new(&options, protocols) {
                Ok(tls) => say_untimely(b, tls.untimely(clock::wall())),
                Err(e) => say_fault(b, &e),
            }
        }
        options
    })
}

/// What the collector speaks and we do not: key, what, instead.
type Refused = Vec<(&'static str, String, &'static str)>;

fn basics(b: &mut Block<'_>) -> (Basics, Refused) {
    let mut refused = Refused::new();
    let ca = pem(b, "ca_file", "ca_pem");
    let system_roots_too = b.flag("include_system_ca_certs_pool", false);
    let cert = pem(b, "cert_file", "cert_pem");
    let key = pem(b, "key_file", "key_pem");
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (None, None) => None,
        (cert, _) => {
            let (has, lacks) =
                if cert.is_some() { ("certificate", "key") } else { ("key", "certificate") };
            let what = format!("there is a {has} and no {lacks}");
            b.error(what, "cert_file: own.crt\nkey_file: own.key");
            None
        }
    };
    let min = version(b, "min_version", Version::Tls12, &mut refused);
    let max = version(b, "max_version", Version::Tls13, &mut refused);
    if min > max && refused.is_empty() {
        b.error_at("min_version", "is greater than max_version", "");
    }
    let suites = suites(b, &mut refused);
    let groups = groups(b, &mut refused);
    let interval = b.duration("reload_interval", Duration::ZERO);
    let reload_interval = (!interval.is_zero()).then_some(interval);
    tpm(b, &mut refused);
    let basics =
        Basics { ca, system_roots_too, identity, min, max, suites, groups, reload_interval };
    (basics, refused)
}

fn pem(b: &mut Block<'_>, file: &'static str, inline: &'static str) -> Option<Pem> {
    let path = b.text(file, "");
    let text = b.unrecorded(|b| b.text(inline, ""));
    if !text.is_empty() {
        b.record(inline, Out::text(REDACTED));
    }
    match (path.is_empty(), text.is_empty()) {
        (true, true) => None,
        (false, true) => Some(Pem::File(path)),
        (true, false) => Some(Pem::Inline(Secret(text))),
        (false, false) => {
            b.error_at(inline, format!("cannot stand beside {file}"), "");
            None
        }
    }
}

fn version(
    b: &mut Block<'_>,
    key: &'static str,
    default: Version,
    refused: &mut Refused,
) -> Version {
    let written = b.unrecorded(|b| b.text(key, ""));
    let shown = match default {
        _ if !written.is_empty() => &written,
        Version::Tls12 => "1.2",
        Version::Tls13 => "1.3",
    };
    b.record(key, Out::text(shown));
    match written.as_str() {
        "" => default,
        "1.2" => Version::Tls12,
        "1.3" => Version::Tls13,
        "1.0" | "1.1" => {
            let what =
                format!("TLS {written} is not spoken: it is broken, and was given up in 2021");
            refused.push((key, what, "\"1.2\""));
            default
        }
        other => {
            let what = format!("\"{other}\" is no version of TLS");
            b.error_at(key, what, &format!("{key}: \"1.2\""));
            default
        }
    }
}

fn suites(b: &mut Block<'_>, refused: &mut Refused) -> Option<Vec<Suite>> {
    let names = b.texts("cipher_suites", &[]);
    let insecure_too = b.flag("include_insecure_cipher_suites", false);
    if names.is_empty() {
        return None;
    }
    let mut suites = Vec::new();
    for name in &names {
        let insecure = INSECURE_SUITES.contains(&name.as_str());
        if let Some((_, suite)) = SUITES.iter().find(|(n, _)| n == name) {
            suites.extend(*suite);
        } else if CBC_SUITES.contains(&name.as_str()) || insecure && insecure_too {
            let what = format!("{name} is not spoken: only suites with AEAD and ECDHE are");
            refused.push(("cipher_suites", what, "[TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, ...]"));
        } else {
            let why = if insecure { ": include_insecure_cipher_suites is not set" } else { "" };
            let what = format!("\"{name}\" is no cipher suite{why}");
            b.start_error_at("cipher_suites", what, "");
        }
    }
    Some(suites)
}

fn groups(b: &mut Block<'_>, refused: &mut Refused) -> Vec<Group> {
    let names = b.texts("curve_preferences", &[]);
    let mut groups = Vec::new();
    for name in &names {
        match CURVES.iter().find(|(n, _)| n == name) {
            Some((_, Some(group))) => groups.push(*group),
            Some((_, None)) => {
                let what = format!("{name} is not spoken: X25519, P256 and P384 are");
                refused.push(("curve_preferences", what, "[X25519, P256]"));
            }
            None => {
                let what = format!("\"{name}\" is no curve");
                b.start_error_at("curve_preferences", what, "[X25519, P256, P384]");
            }
        }
    }
    groups
}

/// A key in a TPM.
fn tpm(b: &mut Block<'_>, refused: &mut Refused) {
    let mut enabled = false;
    b.unselected("tpm", |tpm| {
        enabled = tpm.flag("enabled", false);
        for key in ["path", "owner_auth", "auth"] {
            tpm.text(key, "");
        }
    });
    if enabled {
        refused.push(("tpm", "keys in a TPM are not in this release".into(), "key_file: own.key"));
    }
}

fn say_refused(b: &Block<'_>, refused: &Refused) {
    for (key, what, right) in refused {
        b.refuse_at(key, what.as_str(), &format!("{key}: {right}"));
    }
}

fn say_fault(b: &Block<'_>, e: &Error) {
    let what = match &e.file {
        Some(file) => format!("{file}: {}", e.reason),
        None => e.reason.clone(),
    };
    b.start_error_at(e.key, what, "");
}

fn say_untimely(b: &Block<'_>, e: Option<Error>) {
    if let Some(e) = e {
        let file = e.file.map(|f| format!("{f}: ")).unwrap_or_default();
        b.warn_at(e.key, format!("{file}{}; peers will refuse it", e.reason), "");
    }
}
