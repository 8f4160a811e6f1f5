//! The roots under which server certificates are accepted: the system's, and those in `tls.caFile`
//! and `tls.caCerts`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::TlsError;
use super::certificate::ServerCertificate;
use crate::limits::ROOTS_READ_INTERVAL;
use crate::net::pem::{certificates, certificates_in};

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

/// The certificates that the settings of a connection name.
#[derive(Clone, Debug)]
pub(super) struct NamedRoots {
    pub files: Vec<PathBuf>,
    /// PEM text, which does not change.
    pub text: Option<String>,
}

impl NamedRoots {
    /// The roots in `system` and those named here, and the certificates named here.
    pub fn with(
        &self,
        system: Arc<RootCertStore>,
    ) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsError> {
        if self.files.is_empty() && self.text.is_none() {
            return Ok((system, Vec::new()));
        }
        let mut store = RootCertStore::clone(&system);
        let mut named = Vec::new();
        for path in &self.files {
            let root = |error| TlsError::Root { path: path.clone(), error };
            add(&mut store, &mut named, certificates(path)?).map_err(root)?;
        }
        if let Some(text) = &self.text {
            add(&mut store, &mut named, certificates_in(text)?).map_err(TlsError::RootText)?;
        }
        Ok((Arc::new(store), named))
    }
}

/// Adds certificates to both. A server's certificate is accepted itself, and vouches for no other.
fn add(
    store: &mut RootCertStore,
    named: &mut Vec<CertificateDer<'static>>,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<(), rustls::Error> {
    for certificate in certificates {
        if !ServerCertificate::parse(&certificate).is_some_and(|certificate| certificate.is_no_ca()) {
            store.add(certificate.clone())?;
        }
        named.push(certificate);
    }
    Ok(())
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
        let (unchanged, _) = NamedRoots { files: vec![], text: None }.with(system.current()).unwrap();
        assert!(Arc::ptr_eq(&first, &unchanged), "without files none is copied");
        assert!(Arc::ptr_eq(&first, &system.refreshed(begun)), "it is too soon");
        let later = Instant::now() + ROOTS_READ_INTERVAL;
        let again = system.refreshed(later);
        assert!(!Arc::ptr_eq(&first, &again) && Arc::ptr_eq(&again, &system.current()));
        assert!(Arc::ptr_eq(&again, &system.refreshed(later + ROOTS_READ_INTERVAL / 2)));
    }
}
