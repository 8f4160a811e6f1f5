//! The metric of when certificates expire: the router's own, and those that servers show.

use metrics::gauge;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::telemetry::metrics::CERTIFICATE_EXPIRY;

/// Shows when `certificate` expires. `name`: the file that it comes from, or the server that shows
/// it. Both come from the configuration, so their number is bounded.
pub(super) fn note(name: &str, certificate: &CertificateDer<'_>) {
    // A certificate that cannot be parsed is refused elsewhere, with the reason.
    if let Ok((_, certificate)) = X509Certificate::from_der(certificate) {
        let at = certificate.validity().not_after.timestamp() as f64;
        gauge!(CERTIFICATE_EXPIRY, "certificate" => name.to_owned()).set(at);
    }
}
