//! TLS: the certificates that the client accepts, and the one that it shows.

use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

use super::*;
use crate::net::settings::ClientCert;

pub(super) fn insecure() -> ClientTls {
    ClientTls { insecure: true, ..ClientTls::default() }
}

struct Certificate {
    acceptor: tokio_rustls::TlsAcceptor,
    pem: String,
    thumbprint: [u8; 32],
}

fn certificate(name: &str, expired: bool) -> Certificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    }
    let certificate = params.self_signed(&key).unwrap();
    let thumbprint = Sha256::digest(certificate.der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    Certificate { acceptor: Arc::new(config).into(), pem: certificate.pem(), thumbprint }
}

#[tokio::test]
async fn certificates_are_accepted_as_configured_and_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let check = async |certificate: &Certificate, tls: ClientTls, part: Option<&str>| {
        let reply = ok(recorded!("router0.30.CurrentTime"));
        let server = Server::start_with(vec![reply], Some(certificate.acceptor.clone())).await;
        let answer = server.client_with("https", tls).current_time_us().await;
        match part {
            None => assert!(answer.is_ok(), "{}", answer.unwrap_err()),
            Some(part) => {
                let error = answer.unwrap_err();
                assert!(matches!(error, CallError::Tls { .. }), "{error:?}");
                assert!(error.to_string().contains(part), "{error}");
            }
        }
    };
    let roots = |certificate: &Certificate| {
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, &certificate.pem).unwrap();
        ClientTls { ca_files: vec![file], ..ClientTls::default() }
    };
    let pinned = |certificate: &Certificate| ClientTls {
        thumbprint: Some(certificate.thumbprint),
        ..ClientTls::default()
    };
    let good = certificate("localhost", false);
    let other = certificate("vcenter.example", false);
    let expired = certificate("localhost", true);
    check(&good, insecure(), None).await;
    check(&good, pinned(&good), None).await;
    check(&expired, pinned(&expired), None).await;
    check(&good, pinned(&other), Some("configure the new thumbprint")).await;
    check(&good, roots(&good), None).await;
    check(&good, roots(&other), Some("issued by a CA that is not trusted here; download the CA from https://VCENTER/certs/download.zip")).await;
    check(&other, roots(&other), Some("its certificate is not for `localhost`")).await;
    check(&expired, roots(&expired), Some("has expired")).await;
    let shown = good.thumbprint.map(|byte| format!("{byte:02X}")).join(":");
    check(&good, roots(&other), Some(&shown)).await;
}

/// A server that asks for a certificate lets in who has one that it knows; a new one is shown as
/// soon as it is there.
#[tokio::test]
async fn a_client_certificate_is_shown_and_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let identity =
        ClientCert { cert_file: dir.path().join("cert.pem"), key_file: dir.path().join("key.pem") };
    let make = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap();
        (certificate.self_signed(&key).unwrap(), key)
    };
    let put = |(certificate, key): &(rcgen::Certificate, rcgen::KeyPair)| {
        std::fs::write(&identity.cert_file, certificate.pem()).unwrap();
        std::fs::write(&identity.key_file, key.serialize_pem()).unwrap();
    };
    // Names of other lengths: a change of a file is seen by its size, too, where its time is
    // coarse.
    let (first, second, stranger) = (make("first"), make("the second"), make("somebody else"));
    let asking = |known: &rcgen::Certificate| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(known.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let own = make("localhost");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![own.0.der().clone()], PrivateKeyDer::Pkcs8(own.1.serialize_der().into()))
            .unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    };
    let check = async |client: &Client, lets_in: bool, when: &str| {
        let answer = client.current_time_us().await;
        assert_eq!(answer.is_ok(), lets_in, "{when}: {answer:?}");
    };
    put(&first);
    // Each answer ends its connection, so that each call makes a handshake.
    let reply = Reply::Full(200, "Connection: close\r\n", recorded!("router0.30.CurrentTime").into());
    let server = Server::start_with(vec![reply.clone(), reply], Some(asking(&second.0))).await;
    let url = format!("https://localhost:{}/sdk", server.port);
    let shows = ClientTls { client_cert: Some(identity.clone()), ..insecure() };
    let with = options(url.clone(), shows);
    check(&Client::new(&options(url, insecure())).unwrap(), false, "without one").await;
    let client = Client::new(&with).unwrap();
    check(&client, false, "with one that the server does not know").await;
    put(&second);
    check(&client, true, "with the one that it knows").await;
    std::fs::write(&identity.key_file, stranger.1.serialize_pem() + "\n").unwrap();
    check(&client, true, "with half of a change").await;
    let error = Client::new(&with).unwrap_err().to_string();
    assert!(error.contains("cert.pem") && error.contains("belong together"), "{error}");
}

#[test]
fn an_unusable_ca_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let check = |part: &str| {
        let tls = ClientTls { ca_files: vec![file.clone()], ..ClientTls::default() };
        let error = Client::new(&options("https://vc/sdk".into(), tls)).unwrap_err().to_string();
        assert!(error.contains("ca.pem") && error.contains(part), "{error}");
    };
    check("No such file");
    std::fs::write(&file, "hello").unwrap();
    check("holds no certificate");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    check("CA file");
}
