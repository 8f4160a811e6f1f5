//! The event types that each source has sent, with counts and one sample each, and the most recent
//! events.
//!
//! A type is the CloudEvents `subject`: the class of an event, or `eventTypeId`. Counting takes one
//! look-up for each run of events of the same type. An event is rendered only as a sample, at most
//! once a minute for each type, or as one of a few recent events of a page.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::cloudevents::settings::Extensions;
use crate::cloudevents::{Envelope, EnvelopeOptions};
use crate::event::{Batch, type_of};
use crate::limits::{
    EVENT_TYPES_MAX, HOUR_PARTS, RECENT_BYTES_MAX, RECENT_EVENTS_MAX, RECENT_EVENTS_OF_PAGE_MAX,
    RECENT_EVENTS_OF_SOURCE, RECENT_INTERVAL, SAMPLE_AGE, SAMPLE_BYTES_MAX, SAMPLES_BYTES_MAX,
};

/// Microseconds of one part of the last hour.
const PART_US: i64 = 3_600_000_000 / HOUR_PARTS as i64;

/// The event types of all sources.
pub struct EventTypes {
    /// By source index: the types by subject.
    sources: Vec<SourceTypes>,
    types: usize,
    sample_bytes: usize,
    /// The recent events with the indices of their sources, the oldest first.
    recent: VecDeque<(usize, RecentEvent)>,
    recent_bytes: usize,
    /// Time of the last page that added to the recent events of a source with enough of them.
    recent_us: i64,
    envelope: Envelope,
    /// For recent events: with the attributes that patterns can use.
    recent_envelope: Envelope,
}

#[derive(Default)]
struct SourceTypes {
    name: Arc<str>,
    /// Indices into `all` by subject.
    by_subject: FxHashMap<Box<str>, usize>,
    all: Vec<CountedType>,
    /// Events of types beyond [`EVENT_TYPES_MAX`].
    others: u64,
    /// Number of its recent events.
    recent: usize,
}

/// The counts of one type of one source.
#[derive(Clone, Debug)]
pub struct CountedType {
    pub subject: Box<str>,
    /// The class of vSphere; empty for an event of a push source.
    pub class: Box<str>,
    /// The CloudEvents `type`.
    pub event_type: Box<str>,
    pub total: u64,
    hour: LastHour,
    /// Time at which the last one was read, microseconds since 1970 UTC.
    pub last_us: i64,
    /// An event as a structured CloudEvent; `None` if none was small enough.
    pub sample: Option<Arc<[u8]>>,
    sampled_us: i64,
}

/// The number of events in each part of the last hour.
#[derive(Clone, Copy, Debug, Default)]
struct LastHour {
    /// Part `n` since 1970 counts at `n % HOUR_PARTS`.
    parts: [u32; HOUR_PARTS],
    /// The latest part.
    part: i64,
}

/// One of the most recent events: a sample over all sources.
#[derive(Clone, Debug)]
pub struct RecentEvent {
    /// The name of its source.
    pub source: Arc<str>,
    /// Time at which it was read, microseconds since 1970 UTC.
    pub read_us: i64,
    /// The structured CloudEvent.
    pub event: Arc<[u8]>,
}

impl Default for EventTypes {
    fn default() -> Self {
        let extensions = Extensions { severity: true, category: true, ..Extensions::default() };
        let with_severity = EnvelopeOptions { extensions, ..EnvelopeOptions::default() };
        EventTypes {
            sources: Vec::new(),
            types: 0,
            sample_bytes: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            recent_us: 0,
            envelope: Envelope::new(EnvelopeOptions::default()).expect("the default has no extension"),
            recent_envelope: Envelope::new(with_severity).expect("it has no fixed extension"),
        }
    }
}

impl EventTypes {
    /// Counts the events of a batch, read at `now_us`.
    pub fn step(&mut self, batch: &Batch, now_us: i64) {
        if batch.records.is_empty() {
            return;
        }
        let at = batch.source.index;
        if self.sources.len() <= at {
            self.sources.resize_with(at + 1, SourceTypes::default);
        }
        if &*self.sources[at].name != batch.source.name.as_str() {
            self.sources[at].name = batch.source.name.as_str().into();
        }
        // Count each run of events of the same type at once.
        let mut begin = 0;
        while begin < batch.records.len() {
            let subject = batch.bytes(batch.records[begin].subject);
            let run = batch.records[begin..].iter();
            let run = run.take_while(|record| batch.bytes(record.subject) == subject).count();
            self.count(batch, begin, run as u32, now_us);
            begin += run;
        }
        self.keep_recent(batch, now_us);
    }

    /// Counts `events` events of the type of event `i`.
    fn count(&mut self, batch: &Batch, i: usize, events: u32, now_us: i64) {
        let subject = batch.text(batch.records[i].subject);
        let source = &mut self.sources[batch.source.index];
        let at = match source.by_subject.get(subject) {
            Some(at) => *at,
            None if self.types >= EVENT_TYPES_MAX => {
                source.others += u64::from(events);
                return;
            }
            None => {
                self.types += 1;
                source.by_subject.insert(subject.into(), source.all.len());
                source.all.push(CountedType::new(batch, i));
                source.all.len() - 1
            }
        };
        let counted = &mut source.all[at];
        counted.add(events, now_us);
        if now_us.saturating_sub(counted.sampled_us) >= SAMPLE_AGE.as_micros() as i64 {
            counted.sampled_us = now_us;
            let before = counted.sample.as_ref().map_or(0, |sample| sample.len());
            let room = SAMPLES_BYTES_MAX.saturating_sub(self.sample_bytes - before).min(SAMPLE_BYTES_MAX);
            if let Some(sample) = rendered(&self.envelope, batch, i, room) {
                self.sample_bytes = self.sample_bytes - before + sample.len();
                counted.sample = Some(sample);
            }
        }
    }

    /// Keeps the last events of a batch, unless another batch has added some just now. A quiet
    /// source always has some: those of busy ones make room for them.
    fn keep_recent(&mut self, batch: &Batch, now_us: i64) {
        let source = batch.source.index;
        let has_enough = self.sources[source].recent >= RECENT_EVENTS_OF_SOURCE;
        if has_enough && now_us.saturating_sub(self.recent_us) < RECENT_INTERVAL.as_micros() as i64 {
            return;
        }
        self.recent_us = now_us;
        let first = batch.records.len().saturating_sub(RECENT_EVENTS_OF_PAGE_MAX);
        for i in first..batch.records.len() {
            let Some(event) = rendered(&self.recent_envelope, batch, i, SAMPLE_BYTES_MAX) else { continue };
            self.recent_bytes += event.len();
            self.sources[source].recent += 1;
            let name = Arc::clone(&self.sources[source].name);
            self.recent.push_back((source, RecentEvent { source: name, read_us: now_us, event }));
            while self.recent.len() > RECENT_EVENTS_MAX || self.recent_bytes > RECENT_BYTES_MAX {
                self.forget_recent();
            }
        }
    }

    /// Forgets the oldest event of a source that has enough of them, or else the oldest event.
    fn forget_recent(&mut self) {
        let sources = &self.sources;
        let of_busy = self.recent.iter().position(|(at, _)| sources[*at].recent > RECENT_EVENTS_OF_SOURCE);
        if let Some((source, oldest)) = self.recent.remove(of_busy.unwrap_or(0)) {
            self.sources[source].recent -= 1;
            self.recent_bytes -= oldest.event.len();
        }
    }

    /// The types of each source that has sent events: name, types, and the number of events of
    /// types that are not counted one by one.
    pub fn sources(&self) -> impl Iterator<Item = (&Arc<str>, &[CountedType], u64)> {
        let begun = self.sources.iter().filter(|source| !source.name.is_empty());
        begun.map(|source| (&source.name, &*source.all, source.others))
    }

    /// The most recent events, the latest first.
    pub fn recent(&self) -> impl Iterator<Item = &RecentEvent> {
        self.recent.iter().rev().map(|(_, event)| event)
    }
}

impl CountedType {
    fn new(batch: &Batch, i: usize) -> Self {
        let record = &batch.records[i];
        let event_type = match batch.attributes(record) {
            Some(own) => own.kind.into(),
            None => type_of(record.category).into(),
        };
        CountedType {
            subject: batch.text(record.subject).into(),
            class: batch.text(record.class).into(),
            event_type,
            total: 0,
            hour: LastHour::default(),
            last_us: 0,
            sample: None,
            sampled_us: i64::MIN,
        }
    }

    fn add(&mut self, events: u32, now_us: i64) {
        self.total += u64::from(events);
        self.last_us = now_us;
        self.hour.add(events, now_us);
    }

    /// Events in the last hour before `now_us`, to the begin of a part of five minutes.
    pub fn last_hour(&self, now_us: i64) -> u64 {
        let mut hour = self.hour;
        hour.roll(now_us);
        hour.parts.iter().map(|part| u64::from(*part)).sum()
    }
}

impl LastHour {
    fn add(&mut self, events: u32, now_us: i64) {
        self.roll(now_us);
        let part = &mut self.parts[self.part.rem_euclid(HOUR_PARTS as i64) as usize];
        *part = part.saturating_add(events);
    }

    /// Clears the parts that are older than an hour.
    fn roll(&mut self, now_us: i64) {
        let now = now_us.div_euclid(PART_US);
        // A clock that was set back counts on in the same part.
        let passed = now.saturating_sub(self.part).clamp(0, HOUR_PARTS as i64);
        for n in 0..passed {
            self.parts[(now - n).rem_euclid(HOUR_PARTS as i64) as usize] = 0;
        }
        self.part = self.part.max(now);
    }
}

/// Renders event `i` as a structured CloudEvent; `None` if it takes more than `room` bytes.
fn rendered(envelope: &Envelope, batch: &Batch, i: usize, room: usize) -> Option<Arc<[u8]>> {
    let rendering = envelope.open(batch);
    if rendering.size_hint(i) > room {
        return None;
    }
    let mut out = Vec::with_capacity(rendering.size_hint(i));
    rendering.structured(i, &mut out);
    (out.len() <= room).then(|| out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::batch;
    use crate::event::{SourceInfo, Span};

    const MINUTE_US: i64 = 60_000_000;

    /// A batch of events with these subjects.
    fn of(subjects: &[&str]) -> Batch {
        let keys: Vec<(i32, i64)> = (1..=subjects.len() as i32).map(|key| (key, 1)).collect();
        let mut batch = batch(0, &keys);
        for (record, subject) in batch.records.iter_mut().zip(subjects) {
            let start = batch.arena.len();
            batch.arena.extend_from_slice(subject.as_bytes());
            record.subject = Span::new(start, batch.arena.len());
        }
        batch
    }

    fn counts(types: &EventTypes) -> Vec<(String, u64)> {
        let all = types.sources().flat_map(|(_, all, _)| all);
        all.map(|counted| (counted.subject.to_string(), counted.total)).collect()
    }

    #[test]
    fn events_are_counted_by_type_and_each_type_has_a_sample() {
        let mut types = EventTypes::default();
        types.step(&of(&["A", "A", "B", "A"]), 5);
        types.step(&of(&["B"]), 6);
        assert_eq!(counts(&types), [("A".into(), 3), ("B".into(), 2)]);
        for (_, all, others) in types.sources() {
            assert_eq!(others, 0);
            for counted in all {
                let sample = counted.sample.as_ref().expect("it is small");
                let sample: serde_json::Value = serde_json::from_slice(sample).expect("JSON");
                assert_eq!(sample["subject"], *counted.subject);
            }
        }
    }

    #[test]
    fn the_last_hour_forgets_older_events() {
        let mut types = EventTypes::default();
        let begin = 1_700_000_000_000_000;
        for minute in 0..120 {
            types.step(&of(&["A", "A"]), begin + minute * MINUTE_US);
        }
        let (_, all, _) = types.sources().next().expect("one source");
        let at = |minute: i64| all[0].last_hour(begin + minute * MINUTE_US);
        assert!((110..=120).contains(&at(119)), "{}", at(119));
        assert!((50..=70).contains(&at(150)), "{}", at(150));
        assert_eq!((at(200), all[0].total), (0, 240));
    }

    #[test]
    fn the_number_of_types_and_the_bytes_of_samples_are_bounded() {
        let mut types = EventTypes::default();
        for n in 0..EVENT_TYPES_MAX + 10 {
            types.step(&of(&[&format!("type {n}")]), n as i64);
        }
        assert_eq!(counts(&types).len(), EVENT_TYPES_MAX);
        assert_eq!(types.sources().map(|(.., others)| others).sum::<u64>(), 10);
        assert!(types.sample_bytes <= SAMPLES_BYTES_MAX);
        // A known type is still counted.
        types.step(&of(&["type 0"]), 1);
        assert_eq!(counts(&types)[0].1, 2);
    }

    #[test]
    fn recent_events_are_few_and_the_latest_comes_first() {
        let mut types = EventTypes::default();
        for n in 0..1_000 {
            types.step(&of(&[&format!("type {n}")]), n * RECENT_INTERVAL.as_micros() as i64);
        }
        types.step(&of(&["too soon"]), 999 * RECENT_INTERVAL.as_micros() as i64 + 1);
        let recent: Vec<&RecentEvent> = types.recent().collect();
        assert_eq!(recent.len(), RECENT_EVENTS_MAX);
        let latest: serde_json::Value = serde_json::from_slice(&recent[0].event).expect("JSON");
        assert_eq!(latest["subject"], "type 999");
    }
    #[test]
    fn a_quiet_source_keeps_recent_events_beside_busy_ones() {
        let mut types = EventTypes::default();
        let from = |index: usize| {
            let mut batch = of(&["a"]);
            let name = format!("vc{index}");
            batch.source = Arc::new(SourceInfo { index, name, ..(*batch.source).clone() });
            batch
        };
        for _ in 0..RECENT_EVENTS_OF_SOURCE {
            types.step(&from(1), 0);
        }
        for n in 1..1_000 {
            types.step(&from(0), n * RECENT_INTERVAL.as_micros() as i64);
        }
        let of_source = |name: &str| types.recent().filter(|event| &*event.source == name).count();
        assert_eq!(of_source("vc1"), RECENT_EVENTS_OF_SOURCE);
        assert_eq!(of_source("vc0"), RECENT_EVENTS_MAX - RECENT_EVENTS_OF_SOURCE);
    }
}
