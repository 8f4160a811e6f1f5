//! Certificates for the servers: a CA of their own and a leaf certificate for `127.0.0.1` and
//! `localhost`, made at every start.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

/// The certificate cannot be made or used: a defect of the set-up, not of a client.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("cannot serve with the certificate: {0}")]
    Serve(#[from] rustls::Error),
}

/// The kind of certificate that a server shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    #[default]
    Valid,
    /// Expired since 2020.
    Expired,
    /// Valid for `elsewhere.example.com` only.
    WrongName,
}

/// A server's TLS settings, with the CA and thumbprint that a client needs to trust it.
#[derive(Clone)]
pub struct Tls {
    pub(crate) server: Arc<rustls::ServerConfig>,
    ca_pem: String,
    thumbprint: String,
}

impl Tls {
    /// # Errors
    /// Key generation or signing failed.
    pub fn new(certificate: Certificate, http2: bool) -> Result<Tls, CertError> {
        // The CA signs the leaf and is then forgotten; only its certificate remains.
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "testbed CA");
        let ca_key = KeyPair::generate()?;
        let ca_cert = ca.self_signed(&ca_key)?;
        let issuer = Issuer::from_params(&ca, &ca_key);

        // The leaf, with the defect that the caller asked for.
        let names = match certificate {
            Certificate::WrongName => vec!["elsewhere.example.com".to_owned()],
            Certificate::Valid | Certificate::Expired => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name.push(DnType::CommonName, "testbed");
        if certificate == Certificate::Expired {
            leaf.not_before = date_time_ymd(2019, 1, 1);
            leaf.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        let leaf = leaf.signed_by(&key, &issuer)?;
        let thumbprint = Sha256::digest(leaf.der());
        let thumbprint: Vec<String> = thumbprint.iter().map(|byte| format!("{byte:02X}")).collect();

        // The server shows the leaf and its CA; HTTP/2 needs ALPN.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone(), ca_cert.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )?;
        if http2 {
            server.alpn_protocols.push(b"h2".to_vec());
        }
        server.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Tls { server: Arc::new(server), ca_pem: ca_cert.pem(), thumbprint: thumbprint.join(":") })
    }

    /// The CA certificate to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// SHA-256 of the server's certificate, `AA:BB:…`.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }
}
