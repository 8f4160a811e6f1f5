//! The counters of the ends of requests.

use metrics::{Counter, counter};

use super::ANSWERS;

/// The ends of requests to one destination, by [`ANSWER_CLASSES`].
#[derive(Clone)]
pub struct AnswerMetrics([Counter; ANSWER_CLASSES.len()]);

/// The values of the label `class`.
const ANSWER_CLASSES: [&str; 6] = ["ok", "partial", "3xx", "4xx", "5xx", "none"];

impl AnswerMetrics {
    pub(super) fn new(destination: &str) -> Self {
        AnswerMetrics(
            ANSWER_CLASSES
                .map(|class| counter!(ANSWERS, "destination" => destination.to_string(), "class" => class)),
        )
    }

    /// Counts an answer of this class.
    pub fn count(&self, class: &str) {
        if let Some(at) = ANSWER_CLASSES.iter().position(|known| *known == class) {
            self.0[at].increment(1);
        }
    }

    /// Counts a failed request by its HTTP status, if it has one.
    pub fn count_status(&self, status: Option<u16>) {
        self.count(match status.map(|status| status / 100) {
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(5) => "5xx",
            _ => "none",
        });
    }
}
