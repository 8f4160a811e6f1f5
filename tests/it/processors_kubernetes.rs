//! A target that is an object of Kubernetes: the processor gets its address from the API server,
//! which here is one on loopback.

use std::path::Path;

use crate::processors_support::*;
use event_router::net::HttpError;
use event_router::processor::cloudevents::CloudEvents;
use event_router::processor::kubernetes::Cluster;
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{CloudEventsConfig as Settings, Reference};

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
    let settings = Settings { reference: Some(reference), http: patient(), ..Settings::new("") };
    CloudEvents::within(Some(cluster), &settings, envelope()).unwrap()
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
