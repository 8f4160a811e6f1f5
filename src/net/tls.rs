//! What a client accepts and shows in a TLS handshake, and when the files that say so have changed.
//!
//! One crypto provider (aws-lc-rs) is named everywhere, so that nothing depends on which crate initialised a process-wide default first.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::config::ClientTls;
use crate::net::pem::{Fingerprint, KeyPair, PemError, certificates};

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("`{path}` holds a certificate that cannot be used as a root: {error}")]
    Root { path: PathBuf, error: rustls::Error },
    #[error(
        "the client certificate `{cert}` and the key `{key}` cannot be used: {error}; check that they belong together"
    )]
    ClientCert { cert: PathBuf, key: PathBuf, error: rustls::Error },
    #[error(
        "no root certificates: the system has none; install ca-certificates or name a file in `tls.caFile`"
    )]
    NoRoots,
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The client configuration for `tls`, without ALPN. Reads the files.
pub fn client_config(tls: &ClientTls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match tls.thumbprint {
        Some(thumbprint) => {
            let accept = Accept::Thumbprint(thumbprint);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { accept, provider }))
        }
        None if tls.insecure => {
            let accept = Accept::Anything;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Lenient { accept, provider }))
        }
        None => builder.with_root_certificates(roots(&tls.ca_files)?),
    };
    let Some(client) = &tls.client_cert else { return Ok(builder.with_no_client_auth()) };
    let KeyPair { chain, key } = KeyPair::read(&client.cert_file, &client.key_file)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::ClientCert {
        cert: client.cert_file.clone(),
        key: client.key_file.clone(),
        error,
    })
}

/// The system's roots and those of `files`.
fn roots(files: &[PathBuf]) -> Result<Arc<RootCertStore>, TlsError> {
    // Some 150 certificates: parsed once, shared by all processors.
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let system = SYSTEM.get_or_init(|| {
        let mut store = RootCertStore::empty();
        let (_, unusable) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if unusable > 0 {
            tracing::debug!(unusable, "system root certificates that cannot be used were skipped");
        }
        Arc::new(store)
    });
    if files.is_empty() {
        return if system.is_empty() { Err(TlsError::NoRoots) } else { Ok(Arc::clone(system)) };
    }
    let mut store = RootCertStore::clone(system);
    for path in files {
        for certificate in certificates(path)? {
            store.add(certificate).map_err(|error| TlsError::Root { path: path.clone(), error })?;
        }
    }
    Ok(Arc::new(store))
}

/// Accepts certificates that no root vouches for. The handshake's signatures are checked all the same.
#[derive(Debug)]
struct Lenient {
    accept: Accept,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Accept {
    Anything,
    /// The SHA-256 of the one certificate (DER).
    Thumbprint([u8; 32]),
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.accept {
            Accept::Thumbprint(expected) if <[u8; 32]>::from(Sha256::digest(end_entity)) != expected => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The state now of the files that `tls` names.
pub fn fingerprint(tls: &ClientTls) -> Fingerprint {
    let client = tls.client_cert.iter().flat_map(|client| [&client.cert_file, &client.key_file]);
    Fingerprint::of(tls.ca_files.iter().chain(client))
}
