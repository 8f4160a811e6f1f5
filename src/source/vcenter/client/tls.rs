//! Which certificates are accepted: those under trusted roots, one that is pinned by its thumbprint, or any. And which one is shown to a server that asks.
//!
//! The handshake's signature is checked in all three: who shows a certificate holds its key. CA files are read again when a certificate is refused: one that was
//! renewed by another authority is accepted as soon as the files hold that.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::CallError;
use crate::net::pem::{Fingerprint, KeyPair, certificates};

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

/// The certificate that a client shows (PEM files): a vCenter asks for none, a proxy in front of it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// The TLS side of a client with this trust. Files are read now; those of the identity again when they have changed.
pub(super) fn client_config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, CallError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let rule = match trust {
        Trust::Roots { ca_files } => {
            let roots = RwLock::new(under_roots(ca_files, &provider)?);
            Rule::Roots { roots, ca_files: ca_files.clone() }
        }
        Trust::Thumbprint(thumbprint) => Rule::Thumbprint(*thumbprint),
        Trust::Insecure => Rule::Insecure,
    };
    let verifier = Verifier { rule, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| CallError::Setup(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(Shown::new(identity.clone(), provider)?))
        }
    })
}

/// Shows what the files of an identity hold: looks at them in every handshake, of which there are few.
#[derive(Debug)]
struct Shown {
    identity: Identity,
    provider: Arc<CryptoProvider>,
    /// The last that could be used, and the state of the files when they were last read.
    last: Mutex<(Arc<CertifiedKey>, Fingerprint)>,
}

impl Shown {
    fn new(identity: Identity, provider: Arc<CryptoProvider>) -> Result<Self, CallError> {
        let state = identity.state();
        let key = identity.read(&provider).map_err(CallError::Setup)?;
        Ok(Shown { identity, provider, last: Mutex::new((Arc::new(key), state)) })
    }
}

impl Identity {
    fn state(&self) -> Fingerprint {
        Fingerprint::of([&self.cert_file, &self.key_file])
    }

    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let KeyPair { chain, key } =
            KeyPair::read(&self.cert_file, &self.key_file).map_err(|error| error.to_string())?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| {
            let (cert, key) = (self.cert_file.display(), self.key_file.display());
            format!("the client certificate `{cert}` and the key `{key}` cannot be used: {error}; check that they belong together")
        })
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.identity.state();
        if last.1 != state {
            last.1 = state;
            match self.identity.read(&self.provider) {
                Ok(key) => last.0 = Arc::new(key),
                Err(error) => {
                    tracing::warn!(%error, "the client certificate changed but cannot be used; the last good one stays");
                }
            }
        }
        Some(Arc::clone(&last.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What accepts certificates under the system's roots and these files. `None` without any root: it cannot be built then, and no certificate can be right.
fn under_roots(
    ca_files: &[PathBuf],
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, CallError> {
    let roots = roots(ca_files)?;
    if roots.is_empty() {
        return Ok(None);
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map(Some).map_err(|error| CallError::Setup(format!("the trusted roots are unusable: {error}")))
}

fn roots(ca_files: &[PathBuf]) -> Result<RootCertStore, CallError> {
    let mut roots = RootCertStore::empty();
    // A system root that cannot be read is the system's business: the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for file in ca_files {
        for certificate in certificates(file).map_err(|error| CallError::Setup(error.to_string()))? {
            let unusable = |error| format!("CA file `{}`: {error}", file.display());
            roots.add(certificate).map_err(|error| CallError::Setup(unusable(error)))?;
        }
    }
    Ok(roots)
}

#[derive(Debug)]
enum Rule {
    Roots { roots: RwLock<Option<Arc<WebPkiServerVerifier>>>, ca_files: Vec<PathBuf> },
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
            Rule::Roots { roots, ca_files } => {
                let judge = |roots: Option<Arc<WebPkiServerVerifier>>| match roots {
                    None => Err("this system has no trusted roots; configure `tls.caFile` or `tls.thumbprint`"
                        .to_string()),
                    Some(webpki) => webpki
                        .verify_server_cert(shown, intermediates, name, ocsp, now)
                        .map(|_| ())
                        .map_err(|error| reason(&error, name)),
                };
                let known = roots.read().unwrap_or_else(PoisonError::into_inner).clone();
                judge(known).or_else(|refused| {
                    // Files that cannot be read now (half written, say) leave it at that: the next try reads them again.
                    let Ok(read) = under_roots(ca_files, &self.provider) else { return Err(refused) };
                    roots.write().unwrap_or_else(PoisonError::into_inner).clone_from(&read);
                    judge(read)
                })
            }
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

/// What a refused handshake says.
pub(super) fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => reason.to_string(),
        rustls::Error::InvalidMessage(_) => format!("{error}; does the port speak TLS?"),
        other => other.to_string(),
    }
}
