//! The formats of a log line, for people and as JSON.
//!
//! ```text
//! 2026-11-30T06:00:00.000000Z  WARN message field=value field="text"
//! {"timestamp":"2026-11-30T06:…","level":"WARN","message":"…","field":"value","target":"…"}
//! ```
//!
//! INVARIANT: every value passes through [`outside`], so no call site can let a secret, a line
//! break or an escape sequence of a terminal into the log, or make a line of megabytes.

use std::fmt::{self, Debug};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::limits::LOG_FIELD_BYTES_MAX;
use crate::outside;
use crate::telemetry::settings::LogFormat;

/// The name that `tracing` gives the message.
const MESSAGE: &str = "message";

/// Formats an event as one line.
pub struct LogLine(pub LogFormat);

/// Collects the fields of an event, safe to show.
#[derive(Default)]
struct Fields {
    message: String,
    /// The target of a line that came from the `log` crate.
    target: Option<String>,
    others: Vec<(&'static str, Shown)>,
}

enum Shown {
    /// Written by `Debug` or `Display`.
    Plain(String),
    /// A string, which has quotes around it.
    Text(String),
    /// A number or a flag.
    Value(Value),
}

impl Fields {
    fn add(&mut self, field: &Field, shown: Shown) {
        match (field.name(), shown) {
            (MESSAGE, Shown::Plain(text) | Shown::Text(text)) => self.message = text,
            ("log.target", Shown::Plain(text) | Shown::Text(text)) => self.target = Some(text),
            (name, _) if name.starts_with("log.") => {}
            (name, shown) => self.others.push((name, shown)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let shown = outside::display(format_args!("{value:?}"), LOG_FIELD_BYTES_MAX);
        self.add(field, Shown::Plain(shown));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Shown::Text(outside::text(value, LOG_FIELD_BYTES_MAX)));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, Shown::Plain(outside::display(value, LOG_FIELD_BYTES_MAX)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Shown::Value(json!(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Shown::Value(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Shown::Value(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Shown::Value(value.into()));
    }
}

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        match self.0 {
            LogFormat::Human => human(&mut out, *metadata.level(), fields),
            LogFormat::Json => as_json(&mut out, *metadata.level(), metadata.target(), fields),
        }
    }
}

/// Begin and end of a style of the terminal, or nothing.
fn style(out: &Writer<'_>, code: &'static str) -> (String, &'static str) {
    match out.has_ansi_escapes() {
        true => (format!("\u{1b}[{code}m"), "\u{1b}[0m"),
        false => (String::new(), ""),
    }
}

fn human(out: &mut Writer<'_>, level: Level, fields: Fields) -> fmt::Result {
    let (dim, end) = style(out, "2");
    write!(out, "{dim}")?;
    SystemTime.format_time(out)?;
    let color = match level {
        Level::ERROR => "31",
        Level::WARN => "33",
        Level::INFO => "32",
        Level::DEBUG => "34",
        Level::TRACE => "35",
    };
    let (color, _) = style(out, color);
    // Pad within the color, so that messages line up.
    write!(out, "{end} {color}{:>5}{end} {}", level.as_str(), fields.message)?;
    let (italic, end) = style(out, "3");
    for (name, shown) in fields.others {
        write!(out, " {italic}{name}{end}{dim}={end}")?;
        match shown {
            Shown::Plain(text) => out.write_str(&text)?,
            Shown::Text(text) => write!(out, "\"{}\"", text.replace('"', "\\\""))?,
            Shown::Value(value) => write!(out, "{value}")?,
        }
    }
    out.write_char('\n')
}

fn as_json(out: &mut Writer<'_>, level: Level, target: &str, fields: Fields) -> fmt::Result {
    let mut timestamp = String::new();
    SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
    let target = fields.target.as_deref().unwrap_or(target);
    let head = [("timestamp", &*timestamp), ("level", level.as_str()), (MESSAGE, &*fields.message)];
    out.write_char('{')?;
    for (name, text) in head {
        write!(out, "{}:{},", json!(name), json!(text))?;
    }
    // No field of an event replaces one of these.
    let is_own = |name: &str| ["timestamp", "level", MESSAGE, "target"].contains(&name);
    for (name, shown) in fields.others.iter().filter(|(name, _)| !is_own(name)) {
        let value = match shown {
            Shown::Plain(text) | Shown::Text(text) => json!(text),
            Shown::Value(value) => value.clone(),
        };
        write!(out, "{}:{value},", json!(name))?;
    }
    writeln!(out, "\"target\":{}}}", json!(target))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log that `write` causes.
    fn logged(format: LogFormat, write: impl FnOnce()) -> String {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(LogLine(format))
            .with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), write);
        String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap()
    }

    const FORMATS: [LogFormat; 2] = [LogFormat::Human, LogFormat::Json];

    #[test]
    fn a_line_for_people_has_time_level_message_and_fields() {
        let error = std::io::Error::other("no \"route\"");
        let line = logged(LogFormat::Human, || {
            tracing::warn!(source = %"vc1", reason = "it is \"away\"", n = 3_u64, ?error, some = Some("x"), "cannot read");
        });
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == "2026-11-30T06:00:00.000000Z".len(), "{line}");
        assert_eq!(
            rest,
            " WARN cannot read source=vc1 reason=\"it is \\\"away\\\"\" n=3 error=Custom { kind: Other, error: \"no \\\"route\\\"\" } some=\"x\"\n"
        );
    }

    #[test]
    fn a_json_line_keeps_the_types_of_its_fields() {
        let line = logged(LogFormat::Json, || {
            tracing::info!(n = 3_u64, ratio = 0.5, is_on = true, level = "forged", name = %"ä\"", "started");
        });
        let mut value: Value = serde_json::from_str(&line).unwrap();
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
        value["timestamp"] = Value::Null;
        assert_eq!(
            value,
            json!({
                "timestamp": null, "level": "INFO", "message": "started", "n": 3, "ratio": 0.5, "is_on": true,
                "name": "ä\"", "target": module_path!(),
            })
        );
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let evil = "x\r\n2026-11-30T06:00:00.000000Z ERROR forged\u{1b}[2J\u{85}\u{2028}\u{202e}";
        for format in FORMATS {
            let log = logged(format, || {
                tracing::warn!(text = evil, display = %evil, debug = ?[evil], "{evil}");
            });
            assert_eq!(log.matches('\n').count(), 1, "{log}");
            assert!(log.trim_end_matches('\n').chars().all(|char| !char.is_control()), "{log:?}");
            assert!(!log.contains(['\u{2028}', '\u{202e}']), "{log:?}");
            if format == LogFormat::Json {
                let value: Value = serde_json::from_str(&log).unwrap();
                assert!(value["text"].as_str().unwrap().starts_with("x\\r\\n2026"), "{log}");
            }
        }
    }

    #[test]
    fn a_line_is_bounded_and_without_secrets() {
        let secret: Arc<str> = "log-line-test-s3cret".into();
        crate::redact::register(&secret);
        let huge = "y".repeat(5_000_000);
        for format in FORMATS {
            let log = logged(format, || {
                tracing::error!(huge, %huge, reason = %secret, "{secret} {huge}");
            });
            assert!(log.len() < 4 * LOG_FIELD_BYTES_MAX && !log.contains("s3cret"), "{}", log.len());
        }
    }
}
