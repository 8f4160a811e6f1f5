//! Which certificates are accepted: those under trusted roots, one that is pinned by its thumbprint, or any.
//!
//! The handshake's signature is checked in all three: who shows a certificate holds its key.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::SoapError;

/// Which certificates a client accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Under one of the system's roots, or one of these PEM files.
    Roots { ca_files: Vec<PathBuf> },
    /// The one with this SHA-256 of its DER, whatever else is wrong with it.
    Thumbprint([u8; 32]),
    /// Any.
    Insecure,
}

impl Default for Trust {
    fn default() -> Self {
        Trust::Roots { ca_files: Vec::new() }
    }
}

/// The TLS side of a client with this trust.
pub(super) fn client_config(trust: &Trust) -> Result<ClientConfig, SoapError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let rule = match trust {
        Trust::Roots { ca_files } => {
            let roots = Arc::new(roots(ca_files)?);
            // Without any root the verifier cannot be built, and no certificate can be right: all are refused with the reason.
            match roots.is_empty() {
                true => Rule::NoRoots,
                false => Rule::Roots(
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                        .build()
                        .map_err(|error| {
                            SoapError::Setup(format!("the trusted roots are unusable: {error}"))
                        })?,
                ),
            }
        }
        Trust::Thumbprint(thumbprint) => Rule::Thumbprint(*thumbprint),
        Trust::Insecure => Rule::Insecure,
    };
    let verifier = Verifier { rule, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SoapError::Setup(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

fn roots(ca_files: &[PathBuf]) -> Result<RootCertStore, SoapError> {
    let mut roots = RootCertStore::empty();
    // A system root that cannot be read is the system's business: the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for file in ca_files {
        let unusable = |reason: String| SoapError::Setup(format!("CA file `{}`: {reason}", file.display()));
        let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|error| unusable(format!("{error}; it must hold PEM certificates")))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no PEM certificate".to_string()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
    }
    Ok(roots)
}

#[derive(Debug)]
enum Rule {
    Roots(Arc<WebPkiServerVerifier>),
    NoRoots,
    Thumbprint([u8; 32]),
    Insecure,
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

/// Why a certificate was refused, with what the operator needs to accept it.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; the vCenter shows the certificate with SHA-256 thumbprint {}", colons(shown))]
struct Refused {
    reason: String,
    shown: [u8; 32],
}

impl Verifier {
    fn judge(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), String> {
        let thumbprint: [u8; 32] = Sha256::digest(shown).into();
        match &self.rule {
            Rule::Insecure => Ok(()),
            Rule::Thumbprint(pinned) if *pinned == thumbprint => Ok(()),
            Rule::Thumbprint(_) => {
                Err("the certificate is not the one that `tls.thumbprint` names; if it was renewed, configure the new thumbprint"
                    .to_string())
            }
            Rule::NoRoots => {
                Err("this system has no trusted roots; configure `tls.caFile` or `tls.thumbprint`".to_string())
            }
            Rule::Roots(webpki) => webpki
                .verify_server_cert(shown, intermediates, name, ocsp, now)
                .map(|_| ())
                .map_err(|error| reason(&error, name)),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(shown, intermediates, name, ocsp, now).map(|()| ServerCertVerified::assertion()).map_err(
            |reason| {
                let refused = Refused { reason, shown: Sha256::digest(shown).into() };
                rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn reason(error: &rustls::Error, name: &ServerName<'_>) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    let rustls::Error::InvalidCertificate(error) = error else { return error.to_string() };
    match error {
        Expired | ExpiredContext { .. } => {
            "its certificate has expired; renew it on the vCenter, or check this machine's clock".to_string()
        }
        NotValidYet | NotValidYetContext { .. } => {
            "its certificate is not valid yet; check the clocks of this machine and of the vCenter"
                .to_string()
        }
        // The right name with another key: the vCenter was installed anew.
        UnknownIssuer | BadSignature => {
            "its certificate was issued by a CA that is not trusted here; download the CA from \
            https://VCENTER/certs/download.zip and configure `tls.caFile`, or configure `tls.thumbprint`"
                .to_string()
        }
        NotValidForName | NotValidForNameContext { .. } => {
            format!(
                "its certificate is not for `{}`; use the name in the certificate as `address`, or configure `tls.thumbprint`",
                name.to_str()
            )
        }
        other => other.to_string(),
    }
}

fn colons(thumbprint: &[u8; 32]) -> String {
    thumbprint.map(|byte| format!("{byte:02X}")).join(":")
}

/// What a refused handshake says, if that is what `error` comes from.
pub(super) fn explain(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(match tls {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
                reason.to_string()
            }
            rustls::Error::InvalidMessage(_) => format!("{tls}; does the port speak TLS?"),
            other => other.to_string(),
        });
    }
    // An io::Error skips what it wraps when it is asked for its source.
    match error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
        Some(wrapped) => explain(wrapped),
        None => error.source().and_then(explain),
    }
}
