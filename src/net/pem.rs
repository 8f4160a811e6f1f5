//! Reads the PEM files that settings name: certificates, and a chain with its key. Tells whether
//! files have changed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::expiry;

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("cannot read `{path}`: {error}; it must be a PEM file that the router may read")]
    File { path: PathBuf, error: Error },
    #[error("`{path}` holds no certificate; it must be a PEM file with `BEGIN CERTIFICATE`")]
    NoCertificate { path: PathBuf },
    #[error("the PEM text in `caCerts` has no readable certificate; it must have `BEGIN CERTIFICATE`")]
    Text,
}

/// A certificate with its intermediates, and a key. They need not belong together: TLS checks that.
pub struct KeyPair {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl KeyPair {
    /// Reads both files.
    pub fn read(cert_file: &Path, key_file: &Path) -> Result<Self, PemError> {
        let chain = certificates(cert_file)?;
        if let Some(own) = chain.first() {
            expiry::note(&cert_file.display().to_string(), own);
        }
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| PemError::File { path: key_file.to_owned(), error })?;
        Ok(KeyPair { chain, key })
    }
}

/// All certificates of a file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| PemError::File { path: path.to_owned(), error })?;
    if all.is_empty() { Err(PemError::NoCertificate { path: path.to_owned() }) } else { Ok(all) }
}

/// All certificates of a PEM text, at least one.
pub fn certificates_in(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or(PemError::Text)
}

/// Modification times and sizes of files. Equal as long as the files did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<(SystemTime, u64)>>);

impl Fingerprint {
    /// The current state of these files. Follows links, because Kubernetes replaces a secret by
    /// swapping a link.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let state = |path: &PathBuf| {
            let facts = std::fs::metadata(path).ok()?;
            Some((facts.modified().ok()?, facts.len()))
        };
        Fingerprint(files.into_iter().map(state).collect())
    }

    /// Returns true if there are no files, so that nothing can change.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
