//! Faults of functions and gateways: each failure has the right blame and says what to check.

use super::*;
use event_router::limits::FIRST_SYNC_RETRY;

#[tokio::test]
async fn fault_by_status_of_a_function_follows_the_table() {
    let gateway = one_function().await;
    let processor = processor(&gateway.url, |_| {});
    for (status, blame) in [
        (404, Blame::Evidence),
        (408, Blame::Target),
        (429, Blame::Target),
        (500, Blame::Evidence),
        (502, Blame::Target),
        (503, Blame::Target),
        (401, Blame::Target),
        (400, Blame::FirmEvidence),
        (501, Blame::Evidence),
    ] {
        let code = StatusCode::from_u16(status).unwrap();
        gateway.change(|state| state.invocation = Some((code, "what the function said")));
        check_failure(call(&processor, "f").await, blame, Some(status), &["what the function said"]);
    }
}

#[tokio::test]
async fn fault_404_of_a_vanished_function_blames_the_target_during_its_grace() {
    let gateway = one_function().await;
    let with = |grace| {
        let change = move |s: &mut Settings| s.vanished_grace = Duration::from_millis(grace);
        processor(&gateway.url, change)
    };
    let (redeployed, restarted, given_up) = (with(3_600_000), with(3_600_000), with(1));
    restarted.restore(vec!["f".into()]);
    redeployed.refresh().await.unwrap();
    given_up.refresh().await.unwrap();
    gateway.change(|state| {
        state.invocation = Some((StatusCode::NOT_FOUND, "no such function"));
        state.functions.clear();
    });
    // The last listing still has the function. Time must pass before a call asks for a new one.
    tokio::time::sleep(FIRST_SYNC_RETRY).await;
    for processor in [&redeployed, &restarted] {
        let listed_not = &["no such function", "the gateway does not list it"];
        check_failure(call(processor, "f").await, Blame::Target, Some(404), listed_not);
    }
    check_failure(
        call(&given_up, "f").await,
        Blame::Event,
        Some(404),
        &["no such function", "`vanishedGrace`"],
    );
    gateway.change(|state| state.functions = vec![("", "f", json!({"topic": "*"}))]);
    redeployed.refresh().await.unwrap();
    check_failure(call(&redeployed, "f").await, Blame::Evidence, Some(404), &["no such function"]);
}

/// The outcome of a call of a function behind a gateway that does `act`.
async fn outcome_of(act: Act) -> DeliveryOutcome {
    let target = Target::start(vec![act]).await;
    call(&processor(&target.url(""), |_| {}), "f").await
}

#[tokio::test]
async fn fault_429_blames_the_target_and_waits_for_retry_after() {
    let outcome = outcome_of(answer("429 Too Many Requests", "Retry-After: 3\r\n", "")).await;
    assert_eq!(check_failure(outcome, Blame::Target, Some(429), &[]).wait, Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn fault_slow_gateway_never_makes_a_refresh_hang() {
    let deaf = Deaf::new().await;
    let gateway = |url: &str| processor(url, |s| s.http = quick());
    let deaf_gateway = gateway(&format!("http://{}", deaf.address));
    assert!(deaf_gateway.refresh().await.unwrap_err().reason.contains("within 250 ms"));
    let target =
        Target::start(vec![Act::SayAndHang("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[".into())]).await;
    let failure = gateway(&target.url("")).refresh().await.unwrap_err();
    assert!(failure.reason.contains("no answer within 500 ms"), "{}", failure.reason);
}
