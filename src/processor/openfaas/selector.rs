//! Selects the functions that an event goes to: those with a topic that matches its names or, if
//! the processor sends severities, its severity.

use std::sync::Arc;

use tokio::sync::watch;

use super::topics::{Function, FunctionId, TopicLookup, TopicMap};
use crate::cloudevents::topic::{self, SEVERITY_TOPICS, Topic};
use crate::event::{Batch, Selection, severity};
use crate::processor::{Choice, Matches, Selector};

/// The functions of one gateway, as the routing thread sees them. The number of a subscriber is the
/// function's [`FunctionId`].
pub struct FunctionSelector {
    topics: watch::Receiver<Arc<TopicMap>>,
    lookup: TopicLookup,
    /// True if topics can name a severity.
    by_severity: bool,
}

impl FunctionSelector {
    pub fn new(topics: watch::Receiver<Arc<TopicMap>>, by_severity: bool) -> Self {
        FunctionSelector { topics, lookup: TopicLookup::default(), by_severity }
    }
}

impl Selector for FunctionSelector {
    fn select(&mut self, batch: &Batch, offered: &Selection, matches: &mut dyn Matches) {
        let map = Arc::clone(&self.topics.borrow_and_update());
        self.lookup.update(&map);
        let severities = (self.by_severity && map.has_severity_topics())
            .then(|| severity::known(batch.source.instance_uuid));
        for i in offered.iter() {
            let record = &batch.records[i];
            let severity = severities.as_ref().and_then(|severities| severities.of(batch, record));
            let by_severity = severity.map_or(&[][..], |severity| map.with_severity(severity));
            let by_name = self.lookup.functions(record.category, topic::first_name(batch, record));
            for function in by_name.iter().chain(by_severity) {
                let name =
                    || map.function(*function).map_or_else(|| "".into(), |known| Arc::clone(&known.name));
                let FunctionId(subscriber) = *function;
                matches.add(subscriber, &name, &Selection::one(i));
            }
        }
    }

    fn explain(&mut self, batch: &Batch, i: usize) -> Vec<Choice> {
        let map = Arc::clone(&self.topics.borrow());
        let record = &batch.records[i];
        let names = topic::names(record.category, topic::first_name(batch, record));
        let severity = severity::known(batch.source.instance_uuid).of(batch, record);
        let severity = severity.filter(|_| self.by_severity).map(|known| SEVERITY_TOPICS[known as usize]);
        let takes = |topic: &Topic| {
            let mut named = names.iter().filter(|name| !name.is_empty());
            named.any(|name| topic.matches(name))
                || matches!(topic, Topic::Exact(exact) if Some(&**exact) == severity)
        };
        let shown = |topic: &Topic| format!("`{topic}`");
        let choice = |function: &Function| {
            let is_taken = function.topics.iter().any(takes);
            let refusal = || {
                let topics: Vec<String> = function.topics.iter().map(shown).collect();
                let named = names.iter().map(String::as_str).filter(|name| !name.is_empty()).chain(severity);
                let named: Vec<String> = named.map(|name| format!("`{name}`")).collect();
                format!("its topics are {}; the event's are {}", topics.join(", "), named.join(", "))
            };
            Choice { name: Arc::clone(&function.name), refusal: (!is_taken).then(refusal) }
        };
        map.functions().map(|(_, function)| choice(function)).collect()
    }

    fn is_known(&self) -> bool {
        self.topics.borrow().is_whole()
    }

    fn listed(&self) -> Option<Vec<Arc<str>>> {
        let map = self.topics.borrow();
        let listed = map.functions().map(|(_, function)| &function.name);
        Some(listed.chain(map.missing()).map(Arc::clone).collect())
    }

    fn restored(&self, name: &str) -> Option<Arc<str>> {
        // Its undelivered events are kept for it, even if the gateway does not list it now.
        Some(name.into())
    }

    fn count(&self) -> usize {
        self.topics.borrow().functions().take(2).count().max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use uuid::Uuid;

    use super::*;
    use crate::event::testing::source;
    use crate::event::{Category, Record, SourceInfo, Span, TypeSeverities};
    use crate::processor::SubscriberId;
    use crate::processor::openfaas::topics::Catalog;

    #[derive(Default)]
    struct Found(Vec<(String, Vec<usize>)>);

    impl Matches for Found {
        fn add(&mut self, _: SubscriberId, name: &dyn Fn() -> Arc<str>, events: &Selection) {
            self.0.push((name().to_string(), events.iter().collect()));
        }
    }

    #[test]
    fn a_function_gets_events_by_severity_if_the_processor_sends_severities() {
        let instance_uuid = Uuid::from_u128(0x70b1c);
        let types: TypeSeverities = [("AEvent", "error"), ("BEvent", "info")].into_iter().collect();
        severity::learn(instance_uuid, types);
        let known = source();
        let info = SourceInfo {
            index: 0,
            name: known.name.clone(),
            url: known.url.clone(),
            instance_uuid,
            api_version: known.api_version.clone(),
        };
        let arena = br#"AEventBEventcom.x{"Severity":"error"}"#.to_vec();
        let record = |subject| Record { subject, data: Span::new(0, 0), ..Record::default() };
        let eventex =
            Record { category: Category::EventEx, data: Span::new(17, 37), ..record(Span::new(12, 17)) };
        let records = vec![record(Span::new(0, 6)), record(Span::new(6, 12)), eventex];
        let batch = Batch::new(Arc::new(info), 0, arena, records);
        let function = Function {
            name: "f".into(),
            asynchronous: None,
            topics: Topic::list("severity:error").collect(),
        };
        let map = Catalog::default().step(Instant::now(), vec![function], Duration::ZERO).unwrap().map;
        let (_keep, topics) = watch::channel(map);
        let check = |by_severity, expected: &[usize]| {
            let mut found = Found::default();
            let mut selector = FunctionSelector::new(topics.clone(), by_severity);
            selector.select(&batch, &Selection::first(3), &mut found);
            let events: Vec<usize> = found.0.iter().flat_map(|(_, events)| events.clone()).collect();
            assert_eq!(events, expected);
        };
        check(true, &[0, 2]);
        check(false, &[]);
    }

    #[test]
    fn explanations_agree_with_the_selection() {
        let subjects = ["VmPoweredOnEvent", "com.vmware.vc.x", "Event", "vm.powered.on"];
        let arena = subjects.concat().into_bytes();
        let mut start = 0;
        let mut records = Vec::new();
        for (subject, at) in subjects.iter().zip(0..) {
            let category = [Category::Event, Category::EventEx, Category::Event][at % 3];
            let subject = Span::new(start, start + subject.len());
            records.push(Record { category, subject, ..Record::default() });
            start = subject.range().end;
        }
        let batch = Batch::new(source(), 0, arena, records);
        let topics =
            ["VmPoweredOnEvent", "vm.powered.on", "vm.*,com.*", "*", "ex", "extended", "severity:error"];
        let listed = topics.iter().map(|topics| Function {
            name: (*topics).into(),
            asynchronous: None,
            topics: Topic::list(topics).collect(),
        });
        let map = Catalog::default().step(Instant::now(), listed.collect(), Duration::ZERO).unwrap().map;
        let (_keep, map) = watch::channel(map);
        let mut selector = FunctionSelector::new(map, true);
        for (i, subject) in subjects.iter().enumerate() {
            let mut found = Found::default();
            selector.select(&batch, &Selection::one(i), &mut found);
            let mut selected: Vec<String> = found.0.into_iter().map(|(name, _)| name).collect();
            let choices = selector.explain(&batch, i);
            let taken = choices.iter().filter(|choice| choice.refusal.is_none());
            let mut taken: Vec<String> = taken.map(|choice| choice.name.to_string()).collect();
            selected.sort();
            taken.sort();
            assert_eq!(selected, taken, "{subject}");
            assert!(choices.len() == topics.len() && !taken.is_empty());
        }
        let refusal = selector.explain(&batch, 0).into_iter().find(|choice| &*choice.name == "ex").unwrap();
        assert_eq!(
            refusal.refusal.unwrap(),
            "its topics are `ex`; the event's are `VmPoweredOnEvent`, `vm.powered.on`"
        );
    }
}
