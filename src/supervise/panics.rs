//! Panics: the name of the part that panicked, and its message in one bounded line.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::sync::Arc;

use super::limits::PANIC_MESSAGE_BYTES_MAX;
use crate::outside;

thread_local! {
    /// The part that runs on this thread.
    static RUNNING: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Names the part that runs on this thread, as long as it lives.
pub(super) struct Running(Option<Arc<str>>);

impl Running {
    pub fn enter(part: &Arc<str>) -> Self {
        Running(RUNNING.replace(Some(Arc::clone(part))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.0.take());
    }
}

/// Has a panic written to the log, with the name of the part, instead of to stderr in a form of its
/// own. To be called once, by the process that owns the log.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let part = RUNNING.try_with(|part| part.try_borrow().ok().and_then(|part| part.clone()));
        let thread = std::thread::current();
        let part = part.ok().flatten().unwrap_or_else(|| thread.name().unwrap_or("unnamed").into());
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = message(panic.payload());
        tracing::error!(%part, panic = message, location, "a part of the router panicked");
        // Only if RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            eprintln!("{backtrace}");
        }
    }));
}

/// The message of a panic as one line of at most [`PANIC_MESSAGE_BYTES_MAX`] bytes.
pub(super) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    outside::text(&text.replace(char::is_control, " "), PANIC_MESSAGE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_bounded_line() {
        let check = |payload: Box<dyn Any + Send>, expected: &str| {
            assert_eq!(message(&*payload), expected);
        };
        check(Box::new("plain"), "plain");
        check(Box::new("two\nlines\u{1b}[31m".to_string()), "two lines [31m");
        check(Box::new(7), "no message");
        let long = message(&"ä".repeat(PANIC_MESSAGE_BYTES_MAX));
        assert!(long.len() <= PANIC_MESSAGE_BYTES_MAX && long.ends_with("ä…"), "{long}");
    }
}
