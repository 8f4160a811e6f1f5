//! Translates EventBridge's errors: who is to blame, and how long to wait.
//!
//! Source: API reference of PutEvents (error codes of entries) and "Common errors". Undocumented
//! codes are retried: a useless retry is better than a lost event.

use std::error::Error;

use aws_sdk_eventbridge::config::http::HttpResponse;
use aws_sdk_eventbridge::error::{ProvideErrorMetadata, SdkError};

use super::transport::Undelivered;
use crate::limits::{EXCERPT_BYTES_MAX, THROTTLE_WAIT};
use crate::net::{find, innermost};
use crate::outside;
use crate::processor::{Blame, Failure};

/// Bytes of an error code. AWS's longest ones have some 40.
const CODE_BYTES_MAX: usize = 64;

/// The failure of a single entry.
pub fn of_entry(code: &str, message: &str) -> Failure {
    let (blame, wait) = match code {
        _ if throttles(code) => (Blame::Target, Some(THROTTLE_WAIT)),
        "InternalFailure" | "InternalException" | "InternalError" | "ServiceUnavailable" => {
            (Blame::Target, None)
        }
        "InvalidArgument" | "MalformedDetail" | "RedactionFailure" => (Blame::FirmEvidence, None),
        // Rights may depend on the event's source and type, and may be granted later.
        _ => (Blame::Evidence, None),
    };
    Failure { wait, ..Failure::new(blame, said("EventBridge refused the event", code, message)) }
}

/// The failure of a whole call. Wrong credentials, missing rights or a missing bus blame the
/// target, as does an answer of a proxy in between: events wait until somebody repairs it.
pub fn of_call<E>(target: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: Error + ProvideErrorMetadata + 'static,
{
    if let Some(Undelivered(failure)) = find::<Undelivered>(error) {
        return failure.clone();
    }
    let target_failure = |reason| Failure::new(Blame::Target, reason);
    match error {
        // Usually the login page of a proxy.
        SdkError::ServiceError(answer) if answer.raw().status().is_success() => Failure {
            status: Some(answer.raw().status().as_u16()),
            ..target_failure(format!(
                "{target} answered {}, but it is no answer of EventBridge; check `endpoint` and proxies",
                answer.raw().status().as_u16()
            ))
        },
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let code = answer.err().code();
            let blame = of_refusal(status, code);
            let (is_ours, code) = (code.is_some(), code.unwrap_or("no error code"));
            let asked = answer.raw().headers().get("retry-after").and_then(|value| value.parse().ok());
            let asked = asked
                .map(|seconds| std::time::Duration::from_secs(seconds).min(crate::limits::RETRY_AFTER_MAX));
            let message = answer.err().message().unwrap_or_default();
            let mut reason = said(&format!("{target} answered {status}"), code, message);
            reason += match code {
                _ if refuses_us(code) => "; check `auth`, `assumeRole` and the rights of that identity",
                "ResourceNotFoundException" => "; create the bus or correct `buses`",
                _ if status == 407 => "; check the proxy's credentials",
                _ if !is_ours => ", which is no answer of EventBridge; check `endpoint` and proxies",
                _ => "",
            };
            Failure {
                is_certain: blame == Blame::Target,
                status: Some(status),
                wait: asked.or(throttles(code).then_some(THROTTLE_WAIT)),
                ..Failure::new(blame, reason)
            }
        }
        SdkError::ResponseError(answer) => Failure {
            status: Some(answer.raw().status().as_u16()),
            ..target_failure(format!("{target} sent no answer of EventBridge; check `endpoint`"))
        },
        SdkError::TimeoutError(_) => {
            target_failure(format!("{target} gave no answer in time; check the network, or raise `timeout`"))
        }
        // No request was made, because there are no usable credentials.
        other => target_failure(format!(
            "no request to {target}: {}; check `auth` and `assumeRole`",
            outside::display(innermost(other), EXCERPT_BYTES_MAX)
        )),
    }
}

/// The blame for a status other than success. Only AWS itself sends a `code`.
fn of_refusal(status: u16, code: Option<&str>) -> Blame {
    match code {
        // The caller divides a call that is too large.
        _ if status == 413 => Blame::FirmEvidence,
        None => Blame::Target,
        Some(code) if throttles(code) || refuses_us(code) => Blame::Target,
        Some("ResourceNotFoundException") => Blame::Target,
        _ if matches!(status, 401 | 403 | 407) || status >= 500 => Blame::Target,
        Some(
            "ValidationException"
            | "ValidationError"
            | "SerializationException"
            | "InvalidArgument"
            | "InvalidParameterValue"
            | "InvalidParameterCombination"
            | "MissingParameter"
            | "MalformedDetail"
            | "RequestEntityTooLarge"
            | "RequestEntityTooLargeException",
        ) => Blame::FirmEvidence,
        Some(_) => match Failure::blame_of(status) {
            Blame::FirmEvidence => Blame::Evidence,
            blame => blame,
        },
    }
}

fn throttles(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException"
            | "Throttling"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "LimitExceededException"
            | "SlowDown"
    )
}

fn refuses_us(code: &str) -> bool {
    matches!(
        code,
        "AccessDenied"
            | "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "NotAuthorized"
            | "UnauthorizedException"
            | "OptInRequired"
    )
}

fn said(what: &str, code: &str, message: &str) -> String {
    // The code comes from the network as well.
    let (code, message) = (outside::text(code, CODE_BYTES_MAX), outside::text(message, EXCERPT_BYTES_MAX));
    if message.is_empty() { format!("{what}: {code}") } else { format!("{what}: {code}: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_fail_by_their_code() {
        for (code, blame) in [
            ("ThrottlingException", Blame::Target),
            ("InternalFailure", Blame::Target),
            ("InternalException", Blame::Target),
            ("MalformedDetail", Blame::FirmEvidence),
            ("InvalidArgument", Blame::FirmEvidence),
            ("NotAuthorizedForSourceException", Blame::Evidence),
            ("AccessDeniedException", Blame::Evidence),
            ("SomethingNew", Blame::Evidence),
            ("", Blame::Evidence),
        ] {
            let failure = of_entry(code, "why");
            assert_eq!(
                (failure.blame, failure.wait.is_some()),
                (blame, code == "ThrottlingException"),
                "{code}"
            );
            assert!(failure.reason.contains(code) && failure.reason.ends_with("why"));
        }
    }

    #[test]
    fn calls_fail_by_their_status_and_code() {
        for (status, code, blame) in [
            (400, Some("ValidationException"), Blame::FirmEvidence),
            (413, Some("RequestEntityTooLargeException"), Blame::FirmEvidence),
            (413, None, Blame::FirmEvidence),
            (400, Some("ResourceNotFoundException"), Blame::Target),
            (400, Some("UnauthorizedException"), Blame::Target),
            (400, Some("ThrottlingException"), Blame::Target),
            (400, Some("SomethingNew"), Blame::Evidence),
            (401, Some("SomethingNew"), Blame::Target),
            (403, Some("SomethingNew"), Blame::Target),
            (500, Some("InternalException"), Blame::Target),
            (302, None, Blame::Target),
            (400, None, Blame::Target),
            (403, None, Blame::Target),
            (404, None, Blame::Target),
            (407, None, Blame::Target),
        ] {
            assert_eq!(of_refusal(status, code), blame, "{status} {code:?}");
        }
    }

    #[test]
    fn codes_and_messages_are_one_bounded_line_without_secrets() {
        let secret: std::sync::Arc<str> = "blame-test-s3cret".into();
        crate::redact::register(&secret);
        for (code, message) in
            [("Malformed", &*"ü\n".repeat(1_000)), (&*"C\n".repeat(1_000), "why"), (&secret, &secret)]
        {
            let reason = of_entry(code, message).reason;
            assert!(reason.len() < EXCERPT_BYTES_MAX + CODE_BYTES_MAX + 100, "{reason}");
            assert!(!reason.contains('\n') && !reason.contains("s3cret"), "{reason}");
        }
    }
}
