//! The one judge of server certificates: under trusted roots, pinned by thumbprint, or anything.
//!
//! A certificate that a `caFile` holds itself is accepted if its name and its dates are right, even
//! if it is marked as a CA's or has a common name only. OpenSSL, curl and Go
//! do the same, and `openssl req -x509` makes such certificates by default.
//!
//! Roots are read again when they refuse a certificate: a server that got a certificate from
//! another CA is accepted as soon as the files hold that CA.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use super::certificate::{Dates, RSA_BITS_MIN, ServerCertificate};
use super::roots::NamedRoots;
use super::{ServerKind, TlsError, roots};
use crate::net::expiry;
use crate::net::pem::Fingerprint;
use crate::net::settings::ClientTls;

#[cfg(test)]
mod tests;

/// Accepts or refuses the certificates of servers.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    server: ServerKind,
    provider: Arc<CryptoProvider>,
}

/// The certificates to accept.
#[derive(Debug)]
enum Trust {
    /// Those under the system's roots or these.
    Roots {
        named: NamedRoots,
        known: RwLock<KnownRoots>,
    },
    /// The one with this SHA-256 of its DER, even if it is invalid otherwise.
    Thumbprint([u8; 32]),
    Anything,
}

/// Roots as they were last read.
#[derive(Clone, Debug)]
struct KnownRoots {
    /// Verifies under them. `None` without any root: webpki's verifier cannot be built then, and no
    /// certificate can be right.
    webpki: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates that the settings name.
    named: Arc<[CertificateDer<'static>]>,
    /// The inputs that they were made of: the system's roots, and the state of the files.
    system: Arc<RootCertStore>,
    state: Fingerprint,
}

/// A certificate as it comes in a handshake.
struct Presented<'a> {
    certificate: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    ocsp: &'a [u8],
    now: UnixTime,
}

/// The reason for refusing a certificate without extensions, which no setting allows.
const OLD_VERSION: &str =
    "its certificate is of X.509 version 1 or 2, which no setting allows; issue one of version 3";

/// A refused certificate, with the thumbprint that the operator needs to accept it.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; the certificate that it shows has the SHA-256 thumbprint {}", colons(thumbprint))]
struct RefusedCertificate {
    reason: String,
    thumbprint: [u8; 32],
}

impl Verifier {
    pub fn new(tls: &ClientTls, server: ServerKind, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let trust = match tls.thumbprint {
            Some(thumbprint) => Trust::Thumbprint(thumbprint),
            None if tls.insecure => Trust::Anything,
            None => {
                let named = NamedRoots { files: tls.ca_files.clone(), text: tls.ca_certs.clone() };
                let known = KnownRoots::read(roots::SYSTEM.current(), &named, &provider)?;
                Trust::Roots { named, known: RwLock::new(known) }
            }
        };
        Ok(Verifier { trust, server, provider })
    }

    /// Returns true if there is any certificate that it would accept now.
    pub fn can_accept(&self) -> bool {
        match &self.trust {
            Trust::Roots { known, .. } => {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                known.webpki.is_some() || !known.named.is_empty()
            }
            Trust::Thumbprint(_) | Trust::Anything => true,
        }
    }

    /// Accepts the certificate, or returns the reason for refusing it.
    fn judge(&self, presented: &Presented) -> Result<(), String> {
        match &self.trust {
            Trust::Anything => Ok(()),
            Trust::Thumbprint(pinned) if *pinned == thumbprint_of(presented.certificate) => Ok(()),
            Trust::Thumbprint(_) => {
                let setting = self.server.setting();
                Err(format!(
                    "its certificate is not the one that `{setting}.thumbprint` names; if it was renewed, configure the new thumbprint"
                ))
            }
            Trust::Roots { named, known } => {
                let last = known.read().unwrap_or_else(PoisonError::into_inner).clone();
                self.under_roots(&last, presented).or_else(|refused| {
                    let system = roots::SYSTEM.refreshed(Instant::now());
                    if Arc::ptr_eq(&system, &last.system) && last.state == Fingerprint::of(&named.files) {
                        return Err(refused);
                    }
                    // Files that cannot be read now (half written, say) change nothing: the next
                    // refusal reads them again.
                    let Ok(read) = KnownRoots::read(system, named, &self.provider) else {
                        return Err(refused);
                    };
                    known.write().unwrap_or_else(PoisonError::into_inner).clone_from(&read);
                    self.under_roots(&read, presented)
                })
            }
        }
    }

    fn under_roots(&self, known: &KnownRoots, presented: &Presented) -> Result<(), String> {
        let setting = self.server.setting();
        let Presented { certificate, intermediates, name, ocsp, now } = *presented;
        let verified = known
            .webpki
            .as_ref()
            .map(|webpki| webpki.verify_server_cert(certificate, intermediates, name, ocsp, now));
        let error = match verified {
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => error,
            None if known.named.is_empty() => {
                return Err(format!(
                    "this system has no trusted roots; configure `{setting}.caFile` or `{setting}.thumbprint`"
                ));
            }
            None => CertificateError::UnknownIssuer.into(),
        };
        let parsed = ServerCertificate::parse(certificate);
        let refusal = match &parsed {
            Some(parsed) if known.named.contains(certificate) => match parsed.dates(now) {
                Dates::Expired => CertificateError::Expired,
                Dates::NotYetValid => CertificateError::NotValidYet,
                Dates::Valid if !parsed.is_for(name) => CertificateError::NotValidForName,
                Dates::Valid => return Ok(()),
            },
            _ => match error {
                rustls::Error::InvalidCertificate(error) => error,
                other => return Err(other.to_string()),
            },
        };
        Err(self.reason(&refusal, parsed.as_ref(), name))
    }

    /// The reason for refusing a certificate, and the way out.
    fn reason(
        &self,
        error: &CertificateError,
        certificate: Option<&ServerCertificate>,
        name: &ServerName,
    ) -> String {
        use CertificateError::{
            BadEncoding, BadSignature, Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext,
            NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext, Revoked,
            UnhandledCriticalExtension, UnknownIssuer, UnsupportedSignatureAlgorithmContext,
            UnsupportedSignatureAlgorithmForPublicKeyContext,
        };
        let setting = self.server.setting();
        let is_ca = certificate.is_some_and(ServerCertificate::is_ca);
        let is_old = certificate.is_some_and(ServerCertificate::is_old_version);
        match error {
            Expired | ExpiredContext { .. } => {
                "its certificate has expired; renew it, or check this machine's clock".into()
            }
            NotValidYet | NotValidYetContext { .. } => {
                "its certificate is not valid yet; check the clocks of this machine and of the server".into()
            }
            // A CA that was replaced under the same name causes a bad signature.
            UnknownIssuer | BadSignature => {
                let advice = match self.server {
                    ServerKind::Vcenter => {
                        "download the CA from https://VCENTER/certs/download.zip and name it"
                    }
                    ServerKind::Target | ServerKind::Proxy => "name its CA",
                };
                format!(
                    "its certificate was issued by a CA that is not trusted here; {advice} in `{setting}.caFile`, or configure `{setting}.thumbprint`"
                )
            }
            NotValidForName | NotValidForNameContext { .. } => {
                let name = name.to_str();
                format!(
                    "its certificate is not for `{name}`; use a name that is in the certificate, or configure `{setting}.thumbprint`"
                )
            }
            InvalidPurpose | InvalidPurposeContext { .. } => format!(
                "its certificate is not for servers (extended key usage); issue one for servers, or configure `{setting}.thumbprint`"
            ),
            UnsupportedSignatureAlgorithmContext { .. }
            | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
                "its certificate is signed in a way that is not accepted any more, such as with SHA-1; renew it, or configure `{setting}.thumbprint`"
            ),
            Revoked => "its certificate was revoked; renew it".into(),
            UnhandledCriticalExtension => format!(
                "its certificate has a critical extension that is not supported; issue one without it, or configure `{setting}.thumbprint`"
            ),
            _ if is_ca => format!(
                "its certificate is the one of a CA (CA:TRUE) and not named itself in `{setting}.caFile`; name this very certificate there, or configure `{setting}.thumbprint`"
            ),
            _ if is_old => OLD_VERSION.into(),
            BadEncoding => {
                format!("its certificate is damaged; issue it again, or configure `{setting}.thumbprint`")
            }
            _ => format!(
                "its certificate cannot be verified; issue another one, or configure `{setting}.thumbprint`"
            ),
        }
    }

    /// The error for a handshake whose signature cannot be checked, or is wrong. Some certificates
    /// cannot be used whatever the settings say.
    fn explained(certificate: &CertificateDer<'_>, error: rustls::Error) -> rustls::Error {
        let Some(parsed) = ServerCertificate::parse(certificate) else { return error };
        if parsed.is_old_version() {
            return refused(certificate, OLD_VERSION.into());
        }
        match parsed.weak_rsa_bits() {
            None => error,
            Some(bits) => refused(
                certificate,
                format!(
                    "its RSA key has {bits} bits, and no setting allows less than {RSA_BITS_MIN}; give the server a new key and certificate"
                ),
            ),
        }
    }
}

impl KnownRoots {
    fn read(
        system: Arc<RootCertStore>,
        named: &NamedRoots,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        // Before the files are read: a change in between is seen at the next refusal.
        let state = Fingerprint::of(&named.files);
        let (roots, named) = named.with(Arc::clone(&system))?;
        let webpki = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build().ok();
        Ok(KnownRoots { webpki, named: named.into(), system, state })
    }
}

/// The error for a refused certificate.
fn refused(certificate: &CertificateDer<'_>, reason: String) -> rustls::Error {
    let refused = RefusedCertificate { reason, thumbprint: thumbprint_of(certificate) };
    CertificateError::Other(OtherError(Arc::new(refused))).into()
}

/// The thumbprint of the certificate that `error` refuses, in the form of `tls.thumbprint`.
pub fn refused_thumbprint(error: &rustls::Error) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(refusal))) => {
            Some(colons(&refusal.downcast_ref::<RefusedCertificate>()?.thumbprint))
        }
        _ => None,
    }
}

fn thumbprint_of(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn colons(thumbprint: &[u8; 32]) -> String {
    thumbprint.map(|byte| format!("{byte:02X}")).join(":")
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        expiry::note(&name.to_str(), certificate);
        let presented = Presented { certificate, intermediates, name, ocsp, now };
        match self.judge(&presented) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(reason) => Err(refused(certificate, reason)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
            .map_err(|error| Self::explained(certificate, error))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
            .map_err(|error| Self::explained(certificate, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
