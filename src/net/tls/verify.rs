//! Whether the peer's certificate is good: webpki's judgement, and the collector's where webpki is
//! narrower: it refuses a certificate that is its own authority, and one in the form of X.509
//! version 1, which `openssl x509 -req` makes. Many set-ups have them.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Authorities, and the very certificates where they came from a file.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) anchors: RootCertStore,
    pub(super) own: Vec<CertificateDer<'static>>,
}

/// Why no certificate can be judged.
#[derive(Debug)]
struct NoRoots;

impl fmt::Display for NoRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the system has no root certificates: install ca-certificates, or set tls.ca_file",
        )
    }
}

impl std::error::Error for NoRoots {}

/// Judges servers.
pub(super) fn servers(
    trusted: Trusted,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let Trusted { anchors, own } = trusted;
    // Without any root nothing can be judged, and nothing is connected to; but it starts.
    let trust = match anchors.is_empty() {
        true => Trust::Nobody,
        false => {
            let provider = Arc::clone(provider);
            let webpki = WebPkiServerVerifier::builder_with_provider(anchors.into(), provider);
            Trust::Signed { webpki: webpki.build().map_err(|e| e.to_string())?, own }
        }
    };
    Ok(Arc::new(Servers { trust, algorithms: provider.signature_verification_algorithms }))
}

/// Takes any server (`insecure_skip_verify`); it must still own the key it shows.
pub(super) fn anyone(provider: &Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    let algorithms = provider.signature_verification_algorithms;
    Arc::new(Servers { trust: Trust::Anyone, algorithms })
}

/// Judges clients, which must have a certificate.
pub(super) fn clients(
    trusted: Trusted,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let Trusted { anchors, own } = trusted;
    let builder = WebPkiClientVerifier::builder_with_provider(anchors.into(), Arc::clone(provider));
    let webpki = builder.build().map_err(|e| e.to_string())?;
    let algorithms = provider.signature_verification_algorithms;
    Ok(Arc::new(Clients { webpki, own, algorithms }))
}

/// Which servers are connected to.
#[derive(Debug)]
enum Trust {
    /// Those whose certificate an authority signed.
    Signed { webpki: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>> },
    /// None: there is no authority.
    Nobody,
    /// All.
    Anyone,
}

#[derive(Debug)]
struct Servers {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (webpki, own) = match &self.trust {
            Trust::Anyone => return Ok(ServerCertVerified::assertion()),
            Trust::Nobody => {
                let why = CertificateError::Other(OtherError(Arc::new(NoRoots)));
                return Err(Error::InvalidCertificate(why));
            }
            Trust::Signed { webpki, own } => (webpki, own),
        };
        webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp, now).or_else(|e| {
            if !is_narrow(&e) || !vouched(own, end_entity, now, Purpose::Server) {
                return Err(e);
            }
            let leaf = webpki::EndEntityCert::try_from(end_entity);
            match leaf.and_then(|leaf| leaf.verify_is_valid_for_subject_name(server_name)) {
                Ok(()) => Ok(ServerCertVerified::assertion()),
                Err(_) => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct Clients {
    webpki: Arc<dyn ClientCertVerifier>,
    own: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.webpki.verify_client_cert(end_entity, intermediates, now).or_else(|e| {
            match is_narrow(&e) && vouched(&self.own, end_entity, now, Purpose::Client) {
                true => Ok(ClientCertVerified::assertion()),
                false => Err(e),
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss).or_else(|e| {
            let spki = spki_if_narrow(&e, cert).ok_or(e)?;
            let key = webpki::RawPublicKeyEntity::try_from(&spki).map_err(|_| BAD_ENCODING)?;
            let of = self.algorithms.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
            let mut algorithms = of.flat_map(|(_, algorithms)| *algorithms);
            match algorithms.any(|a| key.verify_signature(*a, message, dss.signature()).is_ok()) {
                true => Ok(HandshakeSignatureValid::assertion()),
                false => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
            }
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss).or_else(|e| {
            let spki = spki_if_narrow(&e, cert).ok_or(e)?;
            verify_tls13_signature_with_raw_key(message, &spki, dss, &self.algorithms)
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Whether webpki refused the form of a certificate that the collector would look into.
pub(super) fn is_narrow(e: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = e else {
        return false;
    };
    let cause = cause.downcast_ref();
    matches!(cause, Some(webpki::Error::CaUsedAsEndEntity | webpki::Error::UnsupportedCertVersion))
}

const BAD_ENCODING: Error = Error::InvalidCertificate(CertificateError::BadEncoding);

/// The public key of a certificate that webpki does not look into; it has been vouched for.
fn spki_if_narrow(
    e: &Error,
    cert: &CertificateDer<'_>,
) -> Option<SubjectPublicKeyInfoDer<'static>> {
    is_narrow(e).then(|| spki(cert)).flatten()
}

/// The public key of a certificate, as it stands there.
pub(super) fn spki(cert: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    Some(cert.public_key().raw.to_vec().into())
}

/// What a certificate is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Server,
    Client,
}

/// Whether `der` is one of `own`, or signed by one of them, and may be used now for `purpose`.
fn vouched(
    own: &[CertificateDer<'static>],
    der: &CertificateDer<'_>,
    now: UnixTime,
    purpose: Purpose,
) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(der) else { return false };
    let may = match leaf.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => {
            let usage = usage.value;
            usage.any
                || match purpose {
                    Purpose::Server => usage.server_auth,
                    Purpose::Client => usage.client_auth,
                }
        }
        Err(_) => false,
    };
    let signed = own.iter().any(|authority| {
        authority == der
            || X509Certificate::from_der(authority).is_ok_and(|(_, authority)| {
                authority.is_ca()
                    && authority.subject() == leaf.issuer()
                    && valid_at(&authority, now.as_secs()).is_ok()
                    && leaf.verify_signature(Some(authority.public_key())).is_ok()
            })
    });
    may && signed && valid_at(&leaf, now.as_secs()).is_ok()
}

/// Whether the certificate is valid at `seconds` since 1970; if not, why.
pub(super) fn timely(der: &CertificateDer<'_>, seconds: u64) -> Result<(), String> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| format!("is not X.509: {e}"))?;
    valid_at(&cert, seconds)
}

fn valid_at(cert: &X509Certificate<'_>, seconds: u64) -> Result<(), String> {
    let validity = cert.validity();
    let now = i64::try_from(seconds).unwrap_or(i64::MAX);
    if now > validity.not_after.timestamp() {
        return Err(format!("the certificate has expired ({})", validity.not_after));
    }
    if now < validity.not_before.timestamp() {
        return Err(format!("the certificate is not valid before {}", validity.not_before));
    }
    Ok(())
}
