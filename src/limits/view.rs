//! Bounds of the model that `status`, the admin pages and `/readyz` show.

use std::time::Duration;

/// Kinds of failures that a destination keeps, with what its target said.
pub const FAILURES_KEPT_MAX: usize = 4;
/// Failures that all destinations keep together before each keeps only its last: 4,096 of
/// `FAILURE_TEXT_BYTES_MAX` + `SAID_BYTES_MAX` = 5 MiB.
pub const FAILURES_KEPT_ALL_MAX: usize = 4_096;
/// Bytes of the reason of a kept failure.
pub const FAILURE_TEXT_BYTES_MAX: usize = 512;
/// Pairs of a source and an event type that are counted one by one: 4,096 * some 300 bytes =
/// 1.2 MiB. vSphere 9 has some 2,000 types. Further ones count as one.
pub const EVENT_TYPES_MAX: usize = 4_096;
/// Bytes of an event that is kept as the sample of its type. A larger one is left out.
pub const SAMPLE_BYTES_MAX: usize = 16 << 10;
/// Bytes of all samples: 2,000 types * 1 KiB, twice.
pub const SAMPLES_BYTES_MAX: usize = 4 << 20;
/// Age at which a sample is replaced by a newer event of its type. Rendering one takes some
/// microseconds, so 4,096 types a minute cost nothing.
pub const SAMPLE_AGE: Duration = Duration::from_secs(60);
/// Events of the most recent ones that are kept, for trying patterns: 256 * 1 KiB.
pub const RECENT_EVENTS_MAX: usize = 256;
/// Bytes of all kept recent events.
pub const RECENT_BYTES_MAX: usize = 1 << 20;
/// Events that one page may add to the recent ones.
pub const RECENT_EVENTS_OF_PAGE_MAX: usize = 8;
/// Recent events that a quiet source keeps while busy ones have more: with 32 sources, all of them.
pub const RECENT_EVENTS_OF_SOURCE: usize = 8;
/// Time between two pages that add to the recent events. At 8 events each, a busy router renders 32
/// of them a second.
pub const RECENT_INTERVAL: Duration = Duration::from_millis(250);
/// Parts of the last hour in which events of a type are counted: 12 of 5 minutes.
pub const HOUR_PARTS: usize = 12;
/// Interval at which rates are measured and plots get a point.
pub const HISTORY_INTERVAL: Duration = Duration::from_secs(5);
/// Points of a plot: one hour.
pub const HISTORY_POINTS_MAX: usize = 720;
/// Sources, and destinations, that have plots: 128 * 720 points * 20 bytes = 1.8 MiB each.
pub const HISTORIES_MAX: usize = 128;
/// Destinations in one answer, worst first: 1,000 of some 1 KiB = 1 MiB.
pub const OVERVIEW_DESTINATIONS_MAX: usize = 1_000;
/// Lag of a source from which on it counts as behind: ten times a slow wake-up of 30 s.
pub const SOURCE_LAG_WARN: Duration = Duration::from_secs(300);
/// Time between two screens of `status --watch`.
pub const STATUS_WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Rows of a list on the screen of `status`: three lists of 15 fit a terminal of 55 lines.
pub const STATUS_ROWS_MAX: usize = 15;
/// Sources, and destinations, in the picture of the overview: a screenful. The tables have all.
pub const PICTURE_ROWS_MAX: usize = 12;
/// Rows of a table of the page, worst or latest first.
pub const PAGE_ROWS_MAX: usize = 200;
/// Time between two updates of a screen that is open.
pub const PAGE_UPDATE_INTERVAL: Duration = Duration::from_secs(2);
/// Screens that are updated at a time: a quarter of the connections of the admin listener. A
/// screen beyond that is not updated. Health and metrics need no place here.
pub const PAGE_UPDATES_MAX: usize = 16;
/// Bytes of a form.
pub const PAGE_FORM_BYTES_MAX: usize = 64 << 10;
/// Dead letters that one look at them reads: 20 pages of `DEAD_LETTERS_LISTED_MAX`.
pub const PAGE_LETTERS_READ_MAX: usize = 20_000;
/// Dead letters that one click replays or drops. The rest takes another click, or the command.
pub const PAGE_LETTERS_CHANGED_MAX: usize = 1_000;
/// Bytes of a query: a pattern with some names.
pub const PAGE_QUERY_BYTES_MAX: usize = 16 << 10;
/// Reasons why an event does not match a tried pattern that the page shows.
pub const PAGE_PATTERN_REASONS_MAX: usize = 4;
/// Bytes of the messages of a replay that the page keeps: the last 40 lines.
pub const PAGE_REPLAY_ERRORS_BYTES_MAX: usize = 4 << 10;
/// Bytes of a field of the form that starts a replay.
pub const PAGE_REPLAY_FIELD_BYTES_MAX: usize = 512;
/// Events on the screen of live events.
pub const PAGE_TAP_EVENTS_MAX: usize = 50;
/// Age of the overview that the page and `/readyz` show. Making one takes some milliseconds for ten
/// thousand destinations, so all who ask share it.
pub const OVERVIEW_AGE_MAX: Duration = Duration::from_millis(500);
