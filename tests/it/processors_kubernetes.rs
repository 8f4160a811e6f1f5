//! A target that is an object of Kubernetes: the processor gets its address from the API server,
//! which here is one on loopback.

use std::path::Path;

use crate::processors_support::*;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use event_router::net::HttpError;
use event_router::processor::cloudevents::CloudEvents;
use event_router::processor::kubernetes::Cluster;
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{Auth, CloudEventsConfig as Settings, ContentMode, Reference, Secret};

const KINDS: &str = r#"{"kind":"APIResourceList","resources":[{"name":"brokers/status","kind":"Broker"},{"name":"brokers","kind":"Broker"}]}"#;

fn broker() -> Reference {
    Reference {
        api_version: "eventing.knative.dev/v1".into(),
        kind: "Broker".into(),
        name: "default".into(),
        namespace: None,
    }
}

fn said(body: &str) -> Act {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

/// An API server over TLS, and the files that Kubernetes gives a pod.
async fn cluster(folder: &Path, script: Vec<Act>) -> (Target, Cluster) {
    let authority = Authority::new();
    let server = Target::start_tls(authority.issue("localhost").server(None), script).await;
    std::fs::write(folder.join("ca.crt"), &authority.pem).unwrap();
    std::fs::write(folder.join("token"), "the-token").unwrap();
    std::fs::write(folder.join("namespace"), "own").unwrap();
    let cluster = Cluster { api: server.https_url(""), account: folder.into() };
    (server, cluster)
}

fn processor(cluster: &Cluster, reference: Reference) -> CloudEvents {
    processor_with(cluster, reference, |_| {})
}

fn processor_with(
    cluster: &Cluster,
    reference: Reference,
    change: impl FnOnce(&mut Settings),
) -> CloudEvents {
    let mut settings = Settings { reference: Some(reference), http: patient(), ..Settings::new("") };
    change(&mut settings);
    CloudEvents::within(Some(cluster), &settings, envelope()).unwrap()
}

/// The status of an object that takes events at this address.
fn status(address: &serde_json::Value) -> Act {
    said(&serde_json::json!({"status": {"address": address}}).to_string())
}

/// A service account token for `audience`, which is as good as a real one for everybody but its
/// target.
fn token(audience: &str, rest: &str) -> String {
    let claims = serde_json::json!({"aud": [audience], "sub": "system:serviceaccount:own:router"});
    format!("e30.{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[tokio::test]
async fn the_address_is_found_once_and_events_go_there() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(vec![answer("202 Accepted", "", "")]).await;
    let status = format!(r#"{{"status":{{"address":{{"url":"{}"}}}}}}"#, target.url("/own/default"));
    let (server, cluster) = cluster(folder.path(), vec![said(KINDS), said(&status)]).await;
    let processor = processor(&cluster, broker());
    assert_eq!(processor.address(""), None, "nobody has asked yet");
    for _ in 0..3 {
        assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
    }
    assert_eq!(target.seen().len(), 3);
    assert_eq!(target.seen()[0].line(), "POST /own/default HTTP/1.1");
    assert_eq!(
        target.seen()[0].header("authorization"),
        None,
        "the account's token is for the cluster alone"
    );
    let asked = server.seen();
    let lines: Vec<&str> = asked.iter().map(|seen| seen.line()).collect();
    assert_eq!(
        lines,
        [
            "GET /apis/eventing.knative.dev/v1 HTTP/1.1",
            "GET /apis/eventing.knative.dev/v1/namespaces/own/brokers/default HTTP/1.1"
        ]
    );
    assert!(asked.iter().all(|seen| seen.header("authorization") == Some("Bearer the-token")));
    assert_eq!(processor.address(""), Some(target.url("/own/default")));
}

#[tokio::test]
async fn a_missing_object_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(vec![answer("200 OK", "", "")]).await;
    let status = format!(r#"{{"status":{{"addresses":[{{"url":"{}"}}]}}}}"#, target.url("/"));
    let script = vec![
        answer("403 Forbidden", "", "{}"),
        said(KINDS),
        answer("404 Not Found", "", "{}"),
        said(KINDS),
        said(r#"{"status":{}}"#),
        said(r#"{"resources":[{"name":"triggers","kind":"Trigger"}]}"#),
        said("<html>"),
        said(KINDS),
        said(&status),
    ];
    let (_server, cluster) = cluster(folder.path(), script).await;
    let processor = processor(&cluster, Reference { namespace: Some("events".into()), ..broker() });
    for part in [
        "the service account may not read",
        "/apis/eventing.knative.dev/v1/namespaces/events/brokers/default does not exist",
        "no `status.address.url`",
        "eventing.knative.dev/v1 has no kind Broker",
        "cannot parse the answer",
    ] {
        let outcome = processor.deliver(&one()).await;
        check_failure(
            outcome,
            Blame::Target,
            None,
            &["the address of Broker events/default in Kubernetes", part],
        );
    }
    assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
}

#[tokio::test]
async fn a_changed_address_is_found_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (ok, gone) = (answer("202 Accepted", "", ""), answer("404 Not Found", "", "no such broker"));
    let old = Target::start(vec![ok.clone(), gone.clone()]).await;
    let new = Target::start(vec![ok]).await;
    let status = |url: String| said(&format!(r#"{{"status":{{"address":{{"url":"{url}"}}}}}}"#));
    let script = vec![
        said(KINDS),
        status(old.url("/old")),
        // The API server fails once: the old address stays in use.
        answer("503 Service Unavailable", "", ""),
        said(KINDS),
        status(new.url("/new")),
    ];
    let (server, cluster) = cluster(folder.path(), script).await;
    let processor = processor(&cluster, broker());
    assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
    for asked in [2, 3] {
        check_failure(processor.deliver(&one()).await, Blame::Evidence, Some(404), &["no such broker"]);
        assert_eq!(server.seen().len(), asked);
    }
    assert_eq!(processor.address(""), Some(old.url("/old")));
    // The next failure causes a lookup after a pause.
    let found = async {
        while !matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), found).await.unwrap();
    assert_eq!(processor.address(""), Some(new.url("/new")));
    assert_eq!(new.seen()[0].line(), "POST /new HTTP/1.1");
    assert_eq!(server.seen().len(), 5, "a broken target does not burden the API server");
}

#[tokio::test]
async fn a_service_is_its_own_address_and_a_foreign_api_server_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (server, cluster) = cluster(folder.path(), vec![said(KINDS)]).await;
    let service =
        Reference { api_version: "v1".into(), kind: "Service".into(), name: "sink".into(), namespace: None };
    let failure = failed(processor(&cluster, service).deliver(&one()).await);
    assert!(failure.reason.contains("sink.own.svc"), "{failure:?}");
    assert_eq!(server.seen().len(), 0, "nobody is asked");

    std::fs::write(folder.path().join("ca.crt"), &Authority::new().pem).unwrap();
    let outcome = processor(&cluster, broker()).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["the address of Broker own/default", "no TLS"]);
    assert_eq!(server.seen().len(), 0, "and nobody else gets the token");
}

#[test]
fn without_a_cluster_the_error_names_the_setting() {
    let settings = Settings { reference: Some(broker()), ..Settings::new("") };
    let error = CloudEvents::within(None, &settings, envelope()).unwrap_err();
    assert!(matches!(error, HttpError::NoCluster) && error.to_string().contains("as `url`"), "{error}");
}

#[tokio::test]
async fn the_certificates_of_the_address_are_trusted_and_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    let ok = answer("202 Accepted", "", "");
    let target = Target::start_tls(first.issue("localhost").server(None), vec![ok]).await;
    let address = |authority: &Authority| {
        status(&serde_json::json!({"url": target.https_url("/b"), "CACerts": authority.pem}))
    };
    let script = vec![
        said(KINDS),
        // Without the right CA nothing is sent.
        address(&second),
        said(KINDS),
        address(&first),
    ];
    let (_server, cluster) = cluster(folder.path(), script).await;
    let processor = processor(&cluster, broker());
    let outcome = processor.deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["a CA that is not trusted here"]);
    assert_eq!(target.seen().len(), 0);
    // The refusal causes a lookup, which finds the certificates of the broker.
    assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
    assert_eq!(target.seen()[0].line(), "POST /b HTTP/1.1");
}

#[tokio::test]
async fn an_address_with_an_audience_needs_a_token_which_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let no = answer("401 Unauthorized", "", "expired");
    let ok = answer("202 Accepted", "", "");
    let target = Target::start(vec![ok.clone(), no.clone(), ok, no]).await;
    let address = serde_json::json!({"url": target.url("/b"), "audience": "eventing/broker"});
    let (_server, cluster) =
        cluster(folder.path(), vec![said(KINDS), status(&address), said(KINDS), status(&address)]).await;

    // Without a token the failure says how to get one, and nothing is sent.
    let without = processor(&cluster, broker());
    let outcome = without.deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["the audience `eventing/broker`", "`auth.tokenFile`"]);
    assert_eq!(target.seen().len(), 0);

    // With a token, it is sent; a changed one is read after a 401 at the latest.
    let file = folder.path().join("oidc");
    std::fs::write(&file, token("eventing/broker", "one")).unwrap();
    let secret = Secret::file(&file);
    let with = processor_with(&cluster, broker(), |s| s.auth = Auth::Bearer { token: secret });
    assert!(matches!(with.deliver(&one()).await, DeliveryOutcome::Delivered));
    let sent = |at: usize| target.seen()[at].header("authorization").map(ToOwned::to_owned);
    assert_eq!(sent(0), Some(format!("Bearer {}", token("eventing/broker", "one"))));
    std::fs::write(&file, token("eventing/broker", "two")).unwrap();
    check_failure(with.deliver(&one()).await, Blame::Target, Some(401), &["rotated"]);
    let new = format!("Bearer {}", token("eventing/broker", "two"));
    assert!(matches!(with.deliver(&one()).await, DeliveryOutcome::Delivered));
    assert_eq!(sent(2), Some(new));

    // A header in place of `auth` is the operator's decision.
    let header = |s: &mut Settings| s.headers = vec![("Authorization".into(), Secret::inline("Bearer x"))];
    let (_server, cluster) =
        crate::processors_kubernetes::cluster(folder.path(), vec![said(KINDS), status(&address)]).await;
    let own = processor_with(&cluster, broker(), header);
    assert_eq!(failed(own.deliver(&one()).await).status, Some(401));

    // A token that is refused without a rotation may be one for another audience.
    let failure = failed(with.deliver(&one()).await);
    assert_eq!(failure.status, Some(401));
    assert!(failure.reason.contains("must be for the audience `eventing/broker`"), "{failure:?}");
}

#[tokio::test]
async fn a_403_names_the_policy_and_the_mode_as_reasons() {
    for (mode, part) in [
        (ContentMode::Structured, "needs `mode: binary`"),
        (ContentMode::Binary, "needs `mode: structured`"),
        (ContentMode::Batched, "cannot read the attributes of a batch"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::start(vec![answer("403 Forbidden", "", "")]).await;
        let address = serde_json::json!({"url": target.url("/b")});
        let (_server, cluster) = cluster(folder.path(), vec![said(KINDS), status(&address)]).await;
        let processor = processor_with(&cluster, broker(), |s| s.mode = mode);
        let failure = failed(processor.deliver(&one()).await);
        assert_eq!(failure.status, Some(403));
        assert!(failure.reason.contains("EventPolicy") && failure.reason.contains(part), "{failure:?}");
    }
    // Targets other than those of Knative have no such policies.
    let target = Target::start(vec![answer("403 Forbidden", "", "")]).await;
    let settings = Settings { http: patient(), ..Settings::new(target.url("/")) };
    let failure = failed(CloudEvents::new(&settings, envelope()).unwrap().deliver(&one()).await);
    assert!(!failure.reason.contains("EventPolicy"), "{failure:?}");
}
