//! Tests of the accepted certificates, the messages of refusals, and the reloading of files.

use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::*;
use crate::net::tls::explain;

struct SelfSigned {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl SelfSigned {
    fn new(name: &str) -> Self {
        Self::valid(name, 2001, 4000)
    }

    fn valid(name: &str, from: i32, to: i32) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        SelfSigned { certificate: params.self_signed(&key).unwrap(), key }
    }

    fn thumbprint(&self) -> [u8; 32] {
        Sha256::digest(self.certificate.der()).into()
    }
}

fn verifier(tls: &ClientTls, server: ServerKind) -> Verifier {
    Verifier::new(tls, server, Arc::new(aws_lc_rs::default_provider())).unwrap()
}

fn roots(file: &Path) -> ClientTls {
    ClientTls { ca_files: vec![file.to_owned()], ..ClientTls::default() }
}

/// The objection of `verifier` to a server called `localhost`; none if it accepts the certificate.
fn refusal(verifier: &Verifier, shown: &SelfSigned) -> Option<String> {
    let name = ServerName::try_from("localhost").unwrap();
    let judged = verifier.verify_server_cert(shown.certificate.der(), &[], &name, &[], UnixTime::now());
    judged.err().map(|error| explain(&error))
}

#[test]
fn a_refusal_says_what_to_do_and_shows_the_thumbprint() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let check = |tls: &ClientTls, trusted: &SelfSigned, shown: &SelfSigned, parts: &[&str]| {
        std::fs::write(&file, trusted.certificate.pem()).unwrap();
        for server in [ServerKind::Vcenter, ServerKind::Target] {
            let said = refusal(&verifier(tls, server), shown).expect("it is refused");
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
            let thumbprint = colons(&shown.thumbprint());
            assert!(said.contains(&format!("SHA-256 thumbprint {thumbprint}")), "{said}");
            let is_for_vcenters = said.contains("https://VCENTER/certs/download.zip");
            let is_unknown = said.contains("not trusted here");
            assert_eq!(is_for_vcenters, is_unknown && server == ServerKind::Vcenter, "{said}");
        }
    };
    let good = SelfSigned::new("localhost");
    let other = SelfSigned::new("other.example");
    let (old, new) = (SelfSigned::valid("localhost", 2001, 2002), SelfSigned::valid("localhost", 3000, 4000));
    let unknown = ["not trusted here", "in `tls.caFile`", "`tls.thumbprint`"];
    check(&roots(&file), &other, &good, &unknown);
    check(&roots(&file), &old, &old, &["has expired", "renew it", "clock"]);
    check(&roots(&file), &new, &new, &["not valid yet", "check the clocks"]);
    check(&roots(&file), &other, &other, &["not for `localhost`", "use a name", "`tls.thumbprint`"]);
    let pinned = ClientTls { thumbprint: Some([7; 32]), ..ClientTls::default() };
    check(
        &pinned,
        &good,
        &good,
        &["not the one that `tls.thumbprint` names", "configure the new thumbprint"],
    );
}

#[test]
fn certificates_are_accepted_under_roots_by_thumbprint_or_all() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let (good, expired) = (SelfSigned::new("localhost"), SelfSigned::valid("other.example", 2001, 2002));
    std::fs::write(&file, good.certificate.pem()).unwrap();
    let check = |tls: &ClientTls, shown: &SelfSigned| {
        for server in [ServerKind::Vcenter, ServerKind::Target] {
            assert_eq!(refusal(&verifier(tls, server), shown), None);
        }
    };
    check(&roots(&file), &good);
    let thumbprint = Some(expired.thumbprint());
    check(&ClientTls { thumbprint, ..ClientTls::default() }, &expired);
    check(&ClientTls { insecure: true, ..ClientTls::default() }, &expired);
    // A thumbprint is the stricter of the two.
    let both = ClientTls { insecure: true, thumbprint, ..ClientTls::default() };
    assert!(refusal(&verifier(&both, ServerKind::Target), &good).is_some());
}

#[test]
fn roots_are_read_again_when_a_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let (before, after) = (SelfSigned::new("localhost"), SelfSigned::new("localhost"));
    let write = |content: &str| std::fs::write(&file, content).unwrap();
    for server in [ServerKind::Vcenter, ServerKind::Target] {
        write(&before.certificate.pem());
        let verifier = verifier(&roots(&file), server);
        assert!(refusal(&verifier, &after).is_some());
        // Half of a file: what was accepted stays accepted.
        write("-----BEGIN CERTIFICATE-----\nMIIB");
        assert!(refusal(&verifier, &after).is_some());
        assert_eq!(refusal(&verifier, &before), None);
        write(&after.certificate.pem());
        assert_eq!(refusal(&verifier, &after), None, "{server:?}");
        assert!(refusal(&verifier, &before).is_some(), "its CA is no longer in the file");
    }
}

#[test]
fn without_any_root_the_refusal_says_so() {
    let shown = SelfSigned::new("localhost");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let none = NamedRoots { files: Vec::new(), text: None };
    let known = KnownRoots::read(Arc::new(RootCertStore::empty()), &none, &provider).unwrap();
    let trust = Trust::Roots {
        named: NamedRoots { files: Vec::new(), text: None },
        known: RwLock::new(known.clone()),
    };
    let verifier = Verifier { trust, server: ServerKind::Vcenter, provider };
    assert!(!verifier.can_accept());
    let presented = Presented {
        certificate: shown.certificate.der(),
        intermediates: &[],
        name: &ServerName::try_from("localhost").unwrap(),
        ocsp: &[],
        now: UnixTime::now(),
    };
    let said = verifier.under_roots(&known, &presented).unwrap_err();
    assert!(said.contains("no trusted roots") && said.contains("`tls.thumbprint`"), "{said}");
}

/// A copied certificate comes without its key.
#[test]
fn a_server_without_the_key_of_its_certificate_is_always_refused() {
    let (shown, stranger) = (SelfSigned::new("localhost"), SelfSigned::new("localhost"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, shown.certificate.pem()).unwrap();
    let check = |tls: ClientTls, version, key: &rcgen::KeyPair, works: bool| {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let pair = CertifiedKey::new(vec![shown.certificate.der().clone()], key);
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier(&tls, ServerKind::Target)))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client: Connection = ClientConnection::new(Arc::new(client), name).unwrap().into();
        let mut server: Connection = ServerConnection::new(Arc::new(server)).unwrap().into();
        let shaken = shake_hands(&mut client, &mut server);
        assert_eq!(shaken.is_ok(), works, "{tls:?} {version:?}: {shaken:?}");
        let is_for_the_signature = shaken == Err(CertificateError::BadSignature.into());
        assert_eq!(is_for_the_signature, !works, "{shaken:?}");
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let thumbprint = Some(shown.thumbprint());
        for tls in [
            roots(&file),
            ClientTls { thumbprint, ..ClientTls::default() },
            ClientTls { insecure: true, ..ClientTls::default() },
        ] {
            check(tls.clone(), version, &shown.key, true);
            check(tls, version, &stranger.key, false);
        }
    }
}

/// Carries messages to and fro until both are done, or the client refuses.
fn shake_hands(client: &mut Connection, server: &mut Connection) -> Result<(), rustls::Error> {
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// `openssl req -x509` makes certificates that are marked as a CA's.
#[test]
fn a_certificate_that_the_file_holds_itself_is_accepted_by_name_and_dates() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let made = |names: &[&str], common: &str, from, to| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        SelfSigned { certificate: params.self_signed(&key).unwrap(), key }
    };
    let good = made(&["localhost"], "a CA", 2001, 4000);
    let check = |shown: &SelfSigned, said: Option<&[&str]>| {
        std::fs::write(&file, shown.certificate.pem()).unwrap();
        for server in [ServerKind::Vcenter, ServerKind::Target] {
            let refusal = refusal(&verifier(&roots(&file), server), shown);
            let is_right = match (said, &refusal) {
                (None, refusal) => refusal.is_none(),
                (Some(parts), Some(refusal)) => parts.iter().all(|part| refusal.contains(part)),
                (Some(_), None) => false,
            };
            assert!(is_right, "{refusal:?}, not {said:?}");
        }
    };
    check(&good, None);
    check(&made(&[], "localhost", 2001, 4000), None);
    check(&made(&["other.example"], "localhost", 2001, 4000), Some(&["not for `localhost`"]));
    check(&made(&["localhost"], "", 2001, 2002), Some(&["has expired", "renew it"]));
    check(&made(&["localhost"], "", 3000, 4000), Some(&["not valid yet"]));
    // The file holds another certificate with the same name.
    std::fs::write(&file, made(&["localhost"], "a CA", 2001, 4000).certificate.pem()).unwrap();
    let said = refusal(&verifier(&roots(&file), ServerKind::Target), &good).expect("it is refused");
    assert!(said.contains("CA:TRUE") && said.contains("in `tls.caFile`"), "{said}");
    assert!(!said.contains("Other("), "{said}");
}

/// A server's own certificate in `caFile` is no CA: its key cannot vouch for other names.
#[test]
fn a_named_certificate_that_is_no_ca_vouches_for_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["vc1.example".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let named = params.self_signed(&key).unwrap();
    std::fs::write(&file, named.pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for server in [ServerKind::Vcenter, ServerKind::Target] {
        let shown = SelfSigned { certificate: certificate.clone(), key: rcgen::KeyPair::generate().unwrap() };
        let said = refusal(&verifier(&roots(&file), server), &shown).expect("it is refused");
        assert!(said.contains("not trusted here"), "{said}");
    }
}

/// Certificates that the handshake's signature algorithms exclude: `insecure` does not accept them.
#[test]
fn a_key_that_is_too_short_is_named_as_the_reason() {
    let short = include_bytes!("../../../../tests/fixtures/tls/rsa-1024.der");
    let error = rustls::Error::InvalidCertificate(CertificateError::BadSignature);
    let said = explain(&Verifier::explained(&CertificateDer::from(&short[..]), error.clone()));
    assert!(said.contains("1024 bits") && said.contains("no setting allows less than 2048"), "{said}");
    let usual = SelfSigned::new("localhost");
    assert_eq!(Verifier::explained(usual.certificate.der(), error.clone()), error);
}
