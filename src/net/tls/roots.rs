//! The roots under which server certificates are accepted: the system's, and those in `tls.caFile`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::TlsError;
use super::certificate::ServerCertificate;
use crate::limits::ROOTS_READ_INTERVAL;
use crate::net::pem::certificates;

/// The system's roots, about 150 certificates: parsed once and shared by all clients.
pub(super) static SYSTEM: SystemRoots = SystemRoots { last: Mutex::new(None) };

pub(super) struct SystemRoots {
    /// As last read, and when; `None` before the first use.
    last: Mutex<Option<(Instant, Arc<RootCertStore>)>>,
}

impl SystemRoots {
    /// The roots as they were last read.
    pub fn current(&self) -> Arc<RootCertStore> {
        self.read_before(None)
    }

    /// The roots as they are now, or were less than [`ROOTS_READ_INTERVAL`] ago.
    pub fn refreshed(&self, now: Instant) -> Arc<RootCertStore> {
        self.read_before(Some(now))
    }

    /// Reads the roots if they were not yet read, or are too old at `now`. The lock is held
    /// meanwhile, so that many refusals at once do not read them many times.
    fn read_before(&self, now: Option<Instant>) -> Arc<RootCertStore> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh =
            |at: Instant| now.is_none_or(|now| now.saturating_duration_since(at) < ROOTS_READ_INTERVAL);
        if let Some((at, roots)) = &*last
            && is_fresh(*at)
        {
            return Arc::clone(roots);
        }
        let mut store = RootCertStore::empty();
        // Skip roots that cannot be parsed; only the system's administrator could mend them.
        let (_, unusable) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if unusable > 0 {
            tracing::debug!(unusable, "skipped unusable root certificates of the system");
        }
        let (_, roots) = last.insert((now.unwrap_or_else(Instant::now), Arc::new(store)));
        Arc::clone(roots)
    }
}

/// The roots in `system` and in `files`, and the certificates in `files`.
pub(super) fn with_files(
    system: Arc<RootCertStore>,
    files: &[PathBuf],
) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
    if files.is_empty() {
        return Ok((system, Vec::new()));
    }
    let mut store = RootCertStore::clone(&system);
    let mut named = Vec::new();
    for path in files {
        for certificate in certificates(path)? {
            // A server's certificate is accepted itself, and vouches for no other.
            if !ServerCertificate::parse(&certificate).is_some_and(|certificate| certificate.is_no_ca()) {
                store
                    .add(certificate.clone())
                    .map_err(|error| TlsError::Root { path: path.clone(), error })?;
            }
            named.push(certificate);
        }
    }
    Ok((Arc::new(store), named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roots_of_the_system_are_parsed_once_and_shared() {
        let system = SystemRoots { last: Mutex::new(None) };
        let begun = Instant::now();
        let first = system.current();
        assert!(Arc::ptr_eq(&first, &system.current()));
        let (unchanged, _) = with_files(system.current(), &[]).unwrap();
        assert!(Arc::ptr_eq(&first, &unchanged), "without files none is copied");
        assert!(Arc::ptr_eq(&first, &system.refreshed(begun)), "it is too soon");
        let later = Instant::now() + ROOTS_READ_INTERVAL;
        let again = system.refreshed(later);
        assert!(!Arc::ptr_eq(&first, &again) && Arc::ptr_eq(&again, &system.current()));
        assert!(Arc::ptr_eq(&again, &system.refreshed(later + ROOTS_READ_INTERVAL / 2)));
    }
}
