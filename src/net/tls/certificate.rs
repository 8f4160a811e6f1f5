//! The facts in a server's certificate that webpki does not tell: they decide about a certificate
//! that a `caFile` names itself, and they explain why others are refused.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

/// The shortest RSA key that TLS libraries accept, in bits.
pub(super) const RSA_BITS_MIN: usize = 2_048;

/// The relation of a certificate's dates to a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dates {
    NotYetValid,
    Valid,
    Expired,
}

/// A server's certificate, parsed.
pub(super) struct ServerCertificate<'a>(X509Certificate<'a>);

impl<'a> ServerCertificate<'a> {
    /// `None` if the bytes are not a certificate.
    pub fn parse(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        X509Certificate::from_der(certificate).ok().map(|(_, certificate)| ServerCertificate(certificate))
    }

    pub fn dates(&self, now: UnixTime) -> Dates {
        let validity = self.0.validity();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < validity.not_before.timestamp() {
            Dates::NotYetValid
        } else if now > validity.not_after.timestamp() {
            Dates::Expired
        } else {
            Dates::Valid
        }
    }

    /// Returns true if one of its alternative names is `name`. Without alternative names the common
    /// name counts, as in OpenSSL and curl.
    pub fn is_for(&self, name: &ServerName<'_>) -> bool {
        let alternatives = self.0.subject_alternative_name().ok().flatten();
        let Some(alternatives) = alternatives.map(|extension| &extension.value.general_names) else {
            let mut common = self.0.subject().iter_common_name().filter_map(|name| name.as_str().ok());
            return common.any(|common| is_same_name(common, &name.to_str()));
        };
        alternatives.iter().any(|alternative| match (alternative, name) {
            (GeneralName::DNSName(pattern), ServerName::DnsName(_)) => is_same_name(pattern, &name.to_str()),
            (GeneralName::IPAddress(bytes), ServerName::IpAddress(address)) => match IpAddr::from(*address) {
                IpAddr::V4(address) => address.octets() == **bytes,
                IpAddr::V6(address) => address.octets() == **bytes,
            },
            _ => false,
        })
    }

    /// Returns true if it is marked as the certificate of a CA (`CA:TRUE`), as `openssl req -x509`
    /// does by default.
    pub fn is_ca(&self) -> bool {
        self.0.is_ca()
    }

    /// Returns true if it says that it is not the certificate of a CA (`CA:FALSE`).
    pub fn is_no_ca(&self) -> bool {
        self.0.basic_constraints().ok().flatten().is_some_and(|extension| !extension.value.ca)
    }

    /// Returns true for X.509 version 1 and 2, which have no extensions and so no names of servers.
    pub fn is_old_version(&self) -> bool {
        self.0.version() != X509Version::V3
    }

    /// The size of its RSA key in bits, if that is below [`RSA_BITS_MIN`].
    pub fn weak_rsa_bits(&self) -> Option<usize> {
        match self.0.public_key().parsed().ok()? {
            PublicKey::RSA(key) if key.key_size() < RSA_BITS_MIN => Some(key.key_size()),
            _ => None,
        }
    }
}

/// Compares a name in a certificate with the name of a server. A `*` stands for the first label.
fn is_same_name(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.trim_end_matches('.'), name.trim_end_matches('.'));
    match pattern.strip_prefix("*.") {
        Some(domain) => {
            let parent = name.split_once('.').map(|(_, parent)| parent);
            domain.contains('.') && parent.is_some_and(|parent| parent.eq_ignore_ascii_case(domain))
        }
        None => pattern.eq_ignore_ascii_case(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_hosts_are() {
        let check =
            |pattern, name, is_same| assert_eq!(is_same_name(pattern, name), is_same, "{pattern} {name}");
        check("vc.example.com", "VC.example.com", true);
        check("vc.example.com.", "vc.example.com", true);
        check("vc.example.com", "vc2.example.com", false);
        check("*.example.com", "vc.example.com", true);
        check("*.example.com", "a.vc.example.com", false);
        check("*.example.com", "example.com", false);
        check("*.com", "example.com", false);
        check("*", "localhost", false);
    }

    #[test]
    fn addresses_and_common_names_count_as_in_openssl() {
        let made = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
            let mut params = rcgen::CertificateParams::new(names).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, "common.example");
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
        };
        let check = |names: &[&str], server: &'static str, is_for| {
            let made = made(names);
            let certificate = ServerCertificate::parse(made.der()).unwrap();
            let server = ServerName::try_from(server).unwrap();
            assert_eq!(certificate.is_for(&server), is_for, "{names:?} {server:?}");
        };
        check(&["10.0.0.7"], "10.0.0.7", true);
        check(&["10.0.0.7"], "10.0.0.8", false);
        check(&["::1"], "::1", true);
        check(&["a.example"], "a.example", true);
        // The common name counts only where there are no alternative names.
        check(&["a.example"], "common.example", false);
        check(&[], "common.example", true);
    }
}
