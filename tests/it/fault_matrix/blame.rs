//! One request meets a fault of the transport. Every processor blames the target, so that the event
//! waits, and states the reason. The cells of the matrix test the fate of the event after that.

use std::sync::Arc;

use event_router::event::Selection;
use event_router::processor::{Blame, Processor};
use event_router::settings::HttpClient;

use super::column::{Column, Site};
use crate::common::free_address;
use crate::processors_support::{
    Act, Authority, Deaf, Target, answer, batch, check_failure, patient, quick, request,
};

const COLUMNS: [Column; 5] =
    [Column::CloudEvents, Column::CloudEventsBatched, Column::Http, Column::OpenFaas, Column::EventBridge];

/// The processor of `column` that sends to `url`.
fn processor(column: Column, url: &str, http: &HttpClient) -> Arc<dyn Processor> {
    let site = Site { url: url.into(), http: http.clone(), cluster: None };
    let (_, processor) = column.processors(&site).remove(0);
    processor
}

/// Sends one event to `url`. The failure must blame the target, and its reason must have all
/// `parts`.
async fn check(column: Column, url: &str, http: &HttpClient, status: Option<u16>, parts: &[&str]) {
    let event = request(&batch(&["VmPoweredOnEvent"]), Selection::first(1), "on");
    let outcome = processor(column, url, http).deliver(&event).await;
    println!("{column:?}: {outcome:?}");
    check_failure(outcome, Blame::Target, status, parts);
}

/// Does the same with a target that does `act`. The event must reach it exactly once, since a
/// processor does not retry.
async fn check_act(act: &Act, http: &HttpClient, status: Option<u16>, parts: &[&str]) {
    for column in COLUMNS {
        let target = Target::start(vec![act.clone()]).await;
        check(column, &target.url(""), http, status, parts).await;
        assert_eq!(target.seen().len(), 1, "{column:?}");
    }
}

#[tokio::test]
async fn fault_hang_ends_within_the_timeout() {
    check_act(&Act::SayAndHang(String::new()), &quick(), None, &["no answer within 500 ms"]).await;
}

#[tokio::test]
async fn fault_half_a_body_is_no_acknowledgement() {
    let half = Act::SayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".into());
    check_act(&half, &patient(), Some(200), &["broke off after 4 bytes"]).await;
}

#[tokio::test]
async fn fault_reset_is_no_acknowledgement() {
    check_act(&Act::Reset, &patient(), None, &["reset"]).await;
}

#[tokio::test]
async fn fault_lost_acknowledgement_is_not_hidden_by_a_second_request() {
    let lost = Act::SayAndClose(String::new());
    check_act(&lost, &patient(), None, &["closed before an answer came"]).await;
}

#[tokio::test]
async fn fault_slow_accept_ends_within_the_connect_timeout() {
    for column in COLUMNS {
        let deaf = Deaf::new().await;
        let url = format!("http://{}", deaf.address);
        check(column, &url, &quick(), None, &["no connection to", "within 250 ms"]).await;
    }
}

#[tokio::test]
async fn fault_refused_connection_says_what_to_check() {
    for column in COLUMNS {
        let url = format!("http://{}", free_address());
        let parts = ["no connection to http://127.0.0.1", "refused", "check that it runs"];
        check(column, &url, &patient(), None, &parts).await;
    }
}

#[tokio::test]
async fn fault_tls_of_an_unknown_issuer_says_what_to_configure() {
    let server = Authority::new().issue("localhost").server(None);
    for column in COLUMNS {
        let target = Target::start_tls(server.clone(), vec![answer("200 OK", "", "")]).await;
        let parts = ["no TLS with https://localhost", "name its CA in `tls.caFile`", "SHA-256 thumbprint"];
        check(column, &target.https_url(""), &patient(), None, &parts).await;
    }
}

#[tokio::test]
async fn fault_dns_names_the_host() {
    for column in COLUMNS {
        // `.invalid` never resolves (RFC 2606). A resolver that is slow to say so is a time-out.
        let url = "http://no-such-host.invalid";
        check(column, url, &patient(), None, &["no-such-host.invalid"]).await;
    }
}
