//! Settings of the process itself: its dead letters and its log.

use super::{flag, some, text};
use crate::config::model::{DeadLetterLimits, Log, LogFormat, LogLevel};
use crate::config::scalar::{show_duration, show_size};
use crate::config::yaml::Fields;

pub(super) fn dead_letters_of(limits: &DeadLetterLimits) -> Fields {
    let DeadLetterLimits { bytes_max, max_age } = limits;
    vec![
        ("bytesMax", text(show_size(*bytes_max))),
        ("maxAge", some(*max_age, |age| text(show_duration(age)))),
    ]
}

pub(super) fn log_of(log: &Log) -> Fields {
    let Log { level, format, invocations, invocations_per_second } = log;
    vec![
        (
            "level",
            text(match level {
                LogLevel::Error => "error",
                LogLevel::Warn => "warn",
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
                LogLevel::Trace => "trace",
            }),
        ),
        (
            "format",
            text(match format {
                LogFormat::Human => "human",
                LogFormat::Json => "json",
            }),
        ),
        ("invocations", flag(*invocations)),
        ("invocationsPerSecond", some(*invocations_per_second, |lines| text(lines.to_string()))),
    ]
}
