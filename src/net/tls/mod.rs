//! TLS for every outgoing connection: to vCenters, to targets and to proxies.
//!
//! ```text
//! ClientTls ──► client_config ──┬── verifier   which server certificates are accepted
//!                               │     ├── roots        the system's CAs and `tls.caFile`
//!                               │     └── certificate  the facts in a certificate
//!                               └── identity   the client certificate that is presented
//! a failed handshake ──► explain ──► a sentence for the operator
//! ```
//!
//! INVARIANT: the signature in the handshake is always checked, so the server holds the key of the
//! certificate that it presents, even where any certificate is accepted.
//!
//! INVARIANT: a refused certificate is reported with its SHA-256 thumbprint, so that it can be
//! pinned.
//!
//! One crypto provider (aws-lc-rs) is named everywhere, so that nothing depends on which crate
//! initialised a process-wide default first.

mod certificate;
mod identity;
mod roots;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{AlertDescription, CertificateError, ClientConfig, OtherError};

use self::identity::ClientIdentity;
use self::verifier::Verifier;
pub use self::verifier::refused_thumbprint;
use crate::net::pem::{Fingerprint, PemError};
use crate::net::settings::ClientTls;

/// A TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("CA file `{path}` holds a certificate that cannot be used as a root: {error}")]
    Root { path: PathBuf, error: rustls::Error },
    #[error("`tls.caCerts` holds a certificate that cannot be used as a root: {0}")]
    RootText(rustls::Error),
    #[error(
        "the client certificate `{cert}` and the key `{key}` cannot be used: {error}; check that they belong together"
    )]
    ClientCert { cert: PathBuf, key: PathBuf, error: rustls::Error },
    #[error(
        "no root certificates: the system has none; install ca-certificates or name a file in `tls.caFile`"
    )]
    NoRoots,
    #[error("cannot set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The kind of server at the other end. It decides the advice in messages, and whether missing
/// roots are an error at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    Vcenter,
    Target,
    /// An HTTPS proxy in front of either.
    Proxy,
}

impl ServerKind {
    /// The setting that the certificates of this server belong to.
    pub(super) fn setting(self) -> &'static str {
        match self {
            ServerKind::Vcenter | ServerKind::Target => "tls",
            ServerKind::Proxy => "proxyTls",
        }
    }
}

/// The client configuration for `tls`, without ALPN.
///
/// Reads the files. A client certificate is read again when its files change, the roots when a
/// certificate is refused.
pub fn client_config(tls: &ClientTls, server: ServerKind) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new(tls, server, Arc::clone(&provider))?;
    // A target without roots is a mistake in the configuration, which stops the start. A vCenter
    // must not stop the others, and its refusal tells the thumbprint.
    if server == ServerKind::Target && !verifier.can_accept() {
        return Err(TlsError::NoRoots);
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match &tls.client_cert {
        None => builder.with_no_client_auth(),
        Some(files) => {
            builder.with_client_cert_resolver(Arc::new(ClientIdentity::read(files.clone(), provider)?))
        }
    })
}

/// The current state of the files that these settings name.
pub fn fingerprint(all: [&ClientTls; 2]) -> Fingerprint {
    let files = all.into_iter().flat_map(|tls| {
        let client = tls.client_cert.iter().flat_map(|client| [&client.cert_file, &client.key_file]);
        tls.ca_files.iter().chain(client)
    });
    Fingerprint::of(files)
}

/// Explains a failed handshake to an operator.
pub fn explain(error: &rustls::Error) -> String {
    let advice = match error {
        // The verifier has explained it already.
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(refusal))) => {
            return refusal.to_string();
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied,
        ) => "it refuses our certificate; check `tls.certFile` and `tls.keyFile`",
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            "it does not hold the key of the certificate that it shows; check the server and any proxy in between"
        }
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS on this port; check the port, and whether the address begins with http:// or https://"
        }
        _ => "check the TLS settings of the other end",
    };
    format!("{advice} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_handshake_is_explained() {
        let check = |error: rustls::Error, parts: &[&str]| {
            let said = explain(&error);
            assert!(parts.iter().all(|part| said.contains(part)), "{error:?}: {said}");
        };
        for alert in [
            AlertDescription::CertificateRequired,
            AlertDescription::BadCertificate,
            AlertDescription::UnknownCA,
            AlertDescription::CertificateUnknown,
            AlertDescription::AccessDenied,
        ] {
            let parts = ["refuses our certificate", "`tls.certFile`", "`tls.keyFile`"];
            check(rustls::Error::AlertReceived(alert), &parts);
        }
        let no_tls = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        check(no_tls, &["does not speak TLS on this port", "http://"]);
        let no_key = rustls::Error::InvalidCertificate(CertificateError::BadSignature);
        check(no_key, &["does not hold the key"]);
        let other = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
        check(other, &["check the TLS settings", "ProtocolVersion"]);
    }
}
