//! The settings of the log.

use crate::config::declare::*;

settings! {
    /// Flags of the command line override these settings.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Log in "log", with defaults {
        /// Lines of this level and above are written.
        pub level: LogLevel = key("level", one_of::<LogLevel>()).or("info");
        /// Format of the lines.
        pub format: LogFormat = key("format", one_of::<LogFormat>()).or("human");
        /// Writes a JSON line to stdout for each delivery of an event: key, id, subject,
        /// destination, status, milliseconds, attempt.
        pub invocations: bool = key("invocations", FLAG).or("false");
        /// The most invocation lines per second. Default: no limit.
        pub invocations_per_second: Option<u32> = key("invocationsPerSecond", whole(1, 1_000_000));
    }
}

words! {
    pub enum LogLevel {
        /// problems that need a person
        Error = "error",
        /// problems that the router recovers from
        Warn = "warn",
        /// normal operation
        Info = "info",
        /// calls, requests and decisions
        Debug = "debug",
        /// everything
        Trace = "trace",
    }
}

words! {
    pub enum LogFormat {
        /// for people
        Human = "human",
        /// one JSON object per line
        Json = "json",
    }
}
