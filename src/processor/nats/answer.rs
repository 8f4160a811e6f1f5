//! The answers of JetStream to a published message, and who is to blame for a refusal.
//!
//! ```text
//! {"stream":"events","seq":7}                      stored
//! {"stream":"events","seq":7,"duplicate":true}     stored before
//! {"error":{"code":…,"err_code":10077,…}}          refused
//! ```
//!
//! INVARIANT: only an acknowledgement with the name of the stream and a sequence number settles an
//! event. Any other answer, and none, leaves the outcome unknown: the event is published again, and
//! the stream drops the copy by its message id.

use serde::Deserialize;

use crate::processor::{Blame, Failure};

/// The message is larger than the stream accepts.
const TOO_LARGE: u64 = 10_054;
/// The stream expects another stream's name.
const WRONG_STREAM: u64 = 10_060;
/// The stream could not store the message, for example because it is full.
const STORE_FAILED: u64 = 10_077;
/// A message with the same id is being stored.
const IN_PROCESS: u64 = 10_158;

#[derive(Debug, Deserialize)]
struct PublishAnswer {
    error: Option<ApiError>,
    stream: Option<String>,
    seq: Option<u64>,
    batch: Option<String>,
    count: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// The acknowledgement of a message, or of the last message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// The id of the batch and its number of messages; `None` if the server did not store the
    /// messages as a batch.
    pub batch: Option<(String, u64)>,
}

/// Reads the answer for `stream`.
pub(super) fn read(stream: &str, payload: &[u8]) -> Result<Stored, Failure> {
    let answer = match serde_json::from_slice::<PublishAnswer>(payload) {
        Ok(answer) => answer,
        Err(error) => {
            let reason = format!("stream {stream}: the answer is no acknowledgement ({error})");
            return Err(Failure::new(Blame::Target, reason));
        }
    };
    match answer {
        PublishAnswer { error: Some(error), .. } => Err(refusal(stream, &error)),
        PublishAnswer { stream: Some(by), seq: Some(1..), batch, count, .. } if by == stream => {
            Ok(Stored { batch: batch.zip(count) })
        }
        _ => {
            let reason = format!("stream {stream}: another stream or program answered; check the subjects");
            Err(Failure::new(Blame::Target, reason))
        }
    }
}

fn refusal(stream: &str, error: &ApiError) -> Failure {
    let ApiError { err_code, description } = error;
    let advice = match *err_code {
        TOO_LARGE => "; raise `max_msg_size` of the stream",
        WRONG_STREAM => "; the subjects belong to another stream, check `stream` and `subject`",
        STORE_FAILED if description.contains("maximum") => {
            "; the stream is full: raise its limit, or delete messages that are no longer needed"
        }
        IN_PROCESS => "; an earlier attempt is still under way",
        _ => "",
    };
    let reason = format!("stream {stream} refused the message: {description} ({err_code}){advice}");
    let blame = if *err_code == TOO_LARGE { Blame::Event } else { Blame::Target };
    Failure { is_certain: true, ..Failure::new(blame, reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_event_s_own_size_is_held_against_it() {
        let check = |answer: &str, expected: Result<Option<(&str, u64)>, (Blame, &str)>| match (
            read("events", answer.as_bytes()),
            expected,
        ) {
            (Ok(stored), Ok(batch)) => {
                assert_eq!(stored.batch, batch.map(|(id, count)| (id.to_owned(), count)), "{answer}");
            }
            (Err(failure), Err((blame, part))) => {
                assert_eq!(failure.blame, blame, "{answer}");
                assert!(failure.reason.contains(part), "{}", failure.reason);
            }
            (got, _) => panic!("{answer}: {got:?}"),
        };
        check(r#"{"stream":"events","seq":7}"#, Ok(None));
        check(r#"{"stream":"events","seq":7,"duplicate":true}"#, Ok(None));
        check(r#"{"stream":"events","seq":7,"batch":"b","count":3}"#, Ok(Some(("b", 3))));
        check(r#"{"stream":"other","seq":7}"#, Err((Blame::Target, "another stream")));
        check(r#"{"stream":"events"}"#, Err((Blame::Target, "another stream")));
        check(r#"{"stream":"events","seq":0}"#, Err((Blame::Target, "another stream")));
        check("", Err((Blame::Target, "no acknowledgement")));
        check("+OK", Err((Blame::Target, "no acknowledgement")));
        let error = |code: u64, text: &str| {
            format!(
                r#"{{"error":{{"code":503,"err_code":{code},"description":"{text}"}},"stream":"events","seq":0}}"#
            )
        };
        let target = |part| Err((Blame::Target, part));
        check(&error(10_077, "maximum bytes exceeded"), target("the stream is full"));
        check(&error(10_077, "no space left on device"), target("no space left on device (10077)"));
        check(&error(10_158, "message with the same id is in process"), target("still under way"));
        check(&error(10_060, "expected stream does not match"), target("another stream"));
        check(&error(10_008, "JetStream system temporarily unavailable"), target("(10008)"));
        let too_large = error(10_054, "message size exceeds maximum allowed");
        check(&too_large, Err((Blame::Event, "raise `max_msg_size`")));
        assert!(read("events", too_large.as_bytes()).is_err_and(|failure| failure.is_certain));
    }
}
