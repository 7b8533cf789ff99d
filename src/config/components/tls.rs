//! TLS blocks. TLS is not in this release, so all but `insecure: true` is refused by name: nothing
//! is ever spoken in plaintext that the file wanted encrypted.

use crate::config::read::Block;

/// Said wherever a file wants TLS.
pub const NOT_YET: &str =
    "TLS is not in this release; nothing is sent in plaintext that the file wanted encrypted";

const PLAINTEXT: &str = "tls: {insecure: true}   # plaintext, inside a trusted network";

/// Keys of a client's or server's block, other than `insecure` (configs 7, otlp 4.3).
const KEYS: [&str; 19] = [
    "insecure_skip_verify",
    "server_name_override",
    "ca_file",
    "ca_pem",
    "include_system_ca_certs_pool",
    "cert_file",
    "cert_pem",
    "key_file",
    "key_pem",
    "min_version",
    "max_version",
    "cipher_suites",
    "include_insecure_cipher_suites",
    "curve_preferences",
    "reload_interval",
    "tpm",
    "enabled",
    "client_ca_file",
    "client_ca_file_reload",
];
/// How many of [`KEYS`] a client's block has.
const CLIENT_KEYS: usize = 16;

/// The `tls` block of a client. `insecure_beside` is the old `insecure` key next to `endpoint`.
pub fn client(b: &mut Block<'_>, insecure_beside: bool) {
    let given = b.has("tls");
    let insecure = b.block("tls", |tls| {
        let insecure = tls.flag("insecure", insecure_beside);
        for key in &KEYS[..CLIENT_KEYS] {
            if tls.has(key) {
                tls.refuse_at(key, NOT_YET, PLAINTEXT);
            }
        }
        insecure
    });
    if !insecure {
        let key = if given { "tls" } else { "" };
        let what = format!("without tls.insecure: true the client speaks TLS. {NOT_YET}");
        if key.is_empty() {
            b.refuse_here(what, PLAINTEXT);
        } else {
            b.refuse_at(key, what, PLAINTEXT);
        }
    }
}

/// The `tls` block of a server: any is refused.
pub fn server(b: &mut Block<'_>) {
    if b.has("tls") {
        b.refuse_at("tls", NOT_YET, "leave tls out, or end TLS in a proxy in front");
    }
}
