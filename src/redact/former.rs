//! The values that a rotated secret had. A server may mention the last one for a while.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::register;
use crate::limits::FORMER_SECRETS_MAX;

/// The present values of a credential and its last ones, which are all redacted. Clones share them.
#[derive(Clone, Default)]
pub struct Former(Arc<Mutex<FormerValues>>);

#[derive(Default)]
struct FormerValues {
    present: Vec<Arc<str>>,
    /// At most [`FORMER_SECRETS_MAX`], the oldest first.
    former: VecDeque<Arc<str>>,
}

impl Former {
    /// Redacts `values` as long as the result lives.
    pub fn of(values: &[String]) -> Self {
        let former = Former::default();
        former.keep_all(values.iter().map(String::as_str));
        former
    }

    /// Redacts `value` from now on, and keeps the last ones.
    pub fn keep(&self, value: &str) -> Arc<str> {
        let mut kept = self.keep_all([value]);
        kept.pop().expect("as many as were given")
    }

    /// Redacts the values of one credential, such as a key and its token, from now on.
    pub fn keep_all<'v>(&self, values: impl IntoIterator<Item = &'v str>) -> Vec<Arc<str>> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let FormerValues { present, former } = &mut *guard;
        let known = |value: &str| present.iter().chain(&*former).find(|known| ***known == *value).cloned();
        let now: Vec<Arc<str>> = values
            .into_iter()
            .map(|value| {
                known(value).unwrap_or_else(|| {
                    let value = Arc::from(value);
                    register(&value);
                    value
                })
            })
            .collect();
        former.retain(|value| !now.contains(value));
        former.extend(present.drain(..).filter(|value| !now.contains(value)));
        let excess = former.len().saturating_sub(FORMER_SECRETS_MAX);
        former.drain(..excess);
        present.clone_from(&now);
        now
    }
}

impl fmt::Debug for Former {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Former")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::redact;

    #[test]
    fn the_last_values_of_a_secret_are_redacted() {
        let former = Former::default();
        let value = |n: usize| format!("former-test-{}-{n}", "x".repeat(n));
        for n in 0..=FORMER_SECRETS_MAX {
            former.keep(&value(n));
            former.keep(&value(n));
        }
        for n in [0, 1, FORMER_SECRETS_MAX] {
            assert_eq!(redact(&format!("{} is no more", value(n))), "… is no more");
        }
        assert_eq!(former.0.lock().unwrap().former.len(), FORMER_SECRETS_MAX);
        assert!(!format!("{former:?}").contains("test"));
    }

    /// However many values a credential has, none of the present ones is forgotten.
    #[test]
    fn present_values_are_never_dropped() {
        let former = Former::default();
        let values: Vec<String> = (0..3 * FORMER_SECRETS_MAX).map(|n| format!("former-many-{n}-")).collect();
        for _ in 0..2 {
            former.keep_all(values.iter().map(String::as_str));
            assert!(values.iter().all(|value| redact(value) == "…"));
        }
    }
}
