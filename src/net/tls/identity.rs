//! The certificate that a client presents where the server asks for one.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use super::TlsError;
use crate::net::pem::{Fingerprint, KeyPair};
use crate::net::settings::ClientCert;

/// Presents the certificate in `files`. Every handshake looks at the files first; handshakes are
/// rare.
#[derive(Debug)]
pub(super) struct ClientIdentity {
    files: ClientCert,
    provider: Arc<CryptoProvider>,
    /// The last usable certificate, and the state of the files when they were last read.
    last: Mutex<(Arc<CertifiedKey>, Fingerprint)>,
}

impl ClientIdentity {
    /// Reads the files.
    pub fn read(files: ClientCert, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        // Before the files are read: a change in between is seen by the next handshake.
        let state = state_of(&files);
        let key = certified_key(&files, &provider)?;
        Ok(ClientIdentity { files, provider, last: Mutex::new((Arc::new(key), state)) })
    }
}

fn state_of(files: &ClientCert) -> Fingerprint {
    Fingerprint::of([&files.cert_file, &files.key_file])
}

fn certified_key(files: &ClientCert, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let KeyPair { chain, key } = KeyPair::read(&files.cert_file, &files.key_file)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| TlsError::ClientCert {
        cert: files.cert_file.clone(),
        key: files.key_file.clone(),
        error,
    })
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state_of(&self.files);
        if last.1 != state {
            last.1 = state;
            match certified_key(&self.files, &self.provider) {
                Ok(key) => last.0 = Arc::new(key),
                Err(error) => {
                    tracing::warn!(%error, "cannot use the changed client certificate; keeping the last one");
                }
            }
        }
        Some(Arc::clone(&last.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
