//! Topics: maps the subject of an event to the functions that want it, at the cost of one hash.
//!
//! ```text
//! refresh (every 10 s, off the hot path)      routing (every event)
//! listing ── Catalog::step ── TopicMap ─────► TopicLookup: subject ── cache ── functions
//! ```
//!
//! The [`Catalog`] is pure: a listing and the time go in, a new map comes out. A map is immutable.
//! A lookup belongs to one thread, and clears its cache with each new map.
//!
//! INVARIANT: a function keeps its [`FunctionId`] for the life of the process, even if it is
//! removed and deployed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::cloudevents::topic::{SEVERITY_TOPICS, Topic, names};
use crate::event::{Category, Severity};
use crate::limits::{FUNCTIONS_MAX, TOPIC_CACHE_MAX};

/// The number of a function at its gateway: the n-th function ever seen is n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

/// A function as its gateway lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// `NAME` or `NAME.NAMESPACE`: the name of the destination, and the last part of the URL.
    pub name: Arc<str>,
    /// True for `/async-function/`, false for `/function/`; `None` leaves it to the settings.
    pub asynchronous: Option<bool>,
    pub topics: Vec<Topic>,
}

impl Function {
    /// Returns true if a topic names a severity.
    pub fn names_severity(&self) -> bool {
        let names_it =
            |topic: &Topic| matches!(topic, Topic::Exact(name) if SEVERITY_TOPICS.contains(&&**name));
        self.topics.iter().any(names_it)
    }
}

/// All functions with topics, at one point in time.
#[derive(Debug, Default)]
pub struct TopicMap {
    generation: u64,
    functions: BTreeMap<FunctionId, Function>,
    by_name: FxHashMap<Arc<str>, FunctionId>,
    exact: FxHashMap<Box<str>, Vec<FunctionId>>,
    wildcards: Vec<(Topic, FunctionId)>,
    missing: BTreeSet<Arc<str>>,
}

impl TopicMap {
    /// 0 until the first listing, then incremented with each change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All functions with at least one topic, including those in their grace time.
    pub fn functions(&self) -> impl Iterator<Item = (FunctionId, &Function)> {
        self.functions.iter().map(|(id, function)| (*id, function))
    }

    pub fn function(&self, id: FunctionId) -> Option<&Function> {
        self.functions.get(&id)
    }

    pub fn named(&self, name: &str) -> Option<&Function> {
        self.functions.get(self.by_name.get(name)?)
    }

    /// Functions from before the restart that are not listed yet, and are still waited for.
    pub fn missing(&self) -> &BTreeSet<Arc<str>> {
        &self.missing
    }

    /// Returns true once it contains all functions that may want an event.
    pub fn is_whole(&self) -> bool {
        self.generation > 0 && self.missing.is_empty()
    }

    fn new(generation: u64, functions: BTreeMap<FunctionId, Function>, missing: BTreeSet<Arc<str>>) -> Self {
        let mut map = TopicMap { generation, missing, ..TopicMap::default() };
        for (id, function) in &functions {
            map.by_name.insert(Arc::clone(&function.name), *id);
            for topic in &function.topics {
                match topic {
                    Topic::Exact(name) => map.exact.entry(name.clone()).or_default().push(*id),
                    Topic::Wildcard(_) => map.wildcards.push((topic.clone(), *id)),
                }
            }
        }
        map.functions = functions;
        map
    }

    /// Returns true if a topic names a severity.
    pub fn has_severity_topics(&self) -> bool {
        SEVERITY_TOPICS.iter().any(|topic| self.exact.contains_key(*topic))
    }

    /// The functions with a topic for this severity.
    pub fn with_severity(&self, severity: Severity) -> &[FunctionId] {
        self.exact.get(SEVERITY_TOPICS[severity as usize]).map_or(&[], Vec::as_slice)
    }

    /// The functions that want an event with one of these names. Sorted, without duplicates.
    fn find(&self, names: &[String]) -> Arc<[FunctionId]> {
        let mut found: Vec<FunctionId> = Vec::new();
        for name in names.iter().filter(|name| !name.is_empty()) {
            found.extend(self.exact.get(name.as_str()).into_iter().flatten());
            found.extend(self.wildcards.iter().filter(|(topic, _)| topic.matches(name)).map(|(_, id)| id));
        }
        found.sort_unstable();
        found.dedup();
        found.into()
    }
}

/// Finds the functions of events. Each thread has its own.
#[derive(Debug, Default)]
pub struct TopicLookup {
    map: Arc<TopicMap>,
    /// By category, then subject.
    cache: [FxHashMap<Box<str>, Arc<[FunctionId]>>; 3],
}

impl TopicLookup {
    /// Uses `map` from now on. Call it once per batch; it does nothing while the map is the same.
    pub fn update(&mut self, map: &Arc<TopicMap>) {
        if !Arc::ptr_eq(&self.map, map) {
            self.map = Arc::clone(map);
            self.cache = Default::default();
        }
    }

    /// The functions that want events of this subject.
    pub fn functions(&mut self, category: Category, subject: &str) -> &Arc<[FunctionId]> {
        let (map, cache) = (&self.map, &mut self.cache[category as usize]);
        // The subject of an EventEx is free text, so the cache needs a bound.
        if cache.len() >= TOPIC_CACHE_MAX && !cache.contains_key(subject) {
            cache.clear();
        }
        // A known subject costs this hash and the one below; only a new one is matched with topics.
        if !cache.contains_key(subject) {
            let names = names(category, subject);
            cache.insert(subject.into(), map.find(&names));
        }
        &cache[subject]
    }
}

/// Turns listings into maps, and remembers when each function was last listed.
#[derive(Debug, Default)]
pub struct Catalog {
    generation: u64,
    /// The last two maps. Routing drops the older one when it takes the newer one, and should not
    /// be the one to free 10,000 functions.
    maps: [Arc<TopicMap>; 2],
    ids: FxHashMap<Arc<str>, FunctionId>,
    known: BTreeMap<Arc<str>, KnownFunction>,
    /// Functions from before the restart that are not listed yet.
    missing: BTreeSet<Arc<str>>,
    /// Times of the first and of the last listing.
    listed: Option<(Instant, Instant)>,
}

#[derive(Debug)]
struct KnownFunction {
    function: Function,
    listed: Instant,
}

/// The effect of a listing.
#[derive(Debug)]
pub struct Change {
    pub map: Arc<TopicMap>,
    /// Number of new functions.
    pub appeared: usize,
    /// Number of functions whose grace time is over.
    pub vanished: usize,
    /// Number of functions beyond [`FUNCTIONS_MAX`].
    pub refused: usize,
    /// Functions from before the restart that are no longer waited for.
    pub given_up: BTreeSet<Arc<str>>,
}

impl Catalog {
    /// Restores functions from before a restart, before the first listing. Each of them is waited
    /// for until the grace time after the first listing is over. The map names them as missing
    /// until then.
    pub fn restore(&mut self, functions: impl IntoIterator<Item = Arc<str>>) -> Arc<TopicMap> {
        self.missing.extend(functions);
        Arc::new(TopicMap::new(0, BTreeMap::new(), self.missing.clone()))
    }

    /// The functions in their grace time: the last listing lacks them, but they may come back.
    pub fn absent(&self) -> BTreeSet<Arc<str>> {
        let last = self.listed.map(|(_, last)| last);
        let vanished = self.known.iter().filter(|(_, known)| Some(known.listed) != last);
        vanished.map(|(name, _)| name).chain(&self.missing).map(Arc::clone).collect()
    }

    /// Applies a complete listing. Returns `None` if nothing changed, except for the first listing.
    ///
    /// A function that is not listed keeps its topics for `grace`, since a redeploy looks like a
    /// removal.
    pub fn step(&mut self, now: Instant, listed: Vec<Function>, grace: Duration) -> Option<Change> {
        let (mut changed, mut appeared, mut refused) = (self.generation == 0, 0, 0);
        let first = self.listed.map_or(now, |(first, _)| first);
        self.listed = Some((first, now));
        // Add new functions and update known ones.
        let mut names = FxHashSet::default();
        for function in listed {
            if !names.insert(Arc::clone(&function.name)) {
                // Listed twice. Calls use the name, so it is the same function.
                continue;
            }
            changed |= self.missing.remove(&function.name);
            // A function without topics wants no more events. Only an unlisted one has a grace
            // time.
            if function.topics.is_empty() {
                changed |= self.known.remove(&function.name).is_some();
                continue;
            }
            if !self.ids.contains_key(&function.name) {
                if self.ids.len() == FUNCTIONS_MAX {
                    refused += 1;
                    continue;
                }
                self.ids.insert(Arc::clone(&function.name), FunctionId(self.ids.len() as u32));
            }
            match self.known.get_mut(&function.name) {
                Some(known) => {
                    known.listed = now;
                    if known.function != function {
                        known.function = function;
                        changed = true;
                    }
                }
                None => {
                    let name = Arc::clone(&function.name);
                    self.known.insert(name, KnownFunction { function, listed: now });
                    (changed, appeared) = (true, appeared + 1);
                }
            }
        }
        // Remove functions whose grace time is over.
        let before = self.known.len();
        self.known.retain(|_, known| {
            now.saturating_duration_since(known.listed) < grace.max(Duration::from_nanos(1))
        });
        let vanished = before - self.known.len();
        let is_over = now.saturating_duration_since(first) >= grace;
        let given_up = if is_over { std::mem::take(&mut self.missing) } else { BTreeSet::new() };
        if !changed && vanished == 0 && refused == 0 && given_up.is_empty() {
            return None;
        }
        // Make the next map.
        self.generation += 1;
        let functions =
            self.known.values().map(|known| (self.ids[&known.function.name], known.function.clone()));
        let map = Arc::new(TopicMap::new(self.generation, functions.collect(), self.missing.clone()));
        self.maps.swap(0, 1);
        self.maps[0] = Arc::clone(&map);
        Some(Change { map, appeared, vanished, refused, given_up })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cloudevents::topic::dotted;

    fn function(name: &str, topics: &str) -> Function {
        Function { name: name.into(), asynchronous: None, topics: Topic::list(topics).collect() }
    }

    fn lookup(map: &Arc<TopicMap>) -> TopicLookup {
        let mut lookup = TopicLookup::default();
        lookup.update(map);
        lookup
    }

    fn names(lookup: &mut TopicLookup, category: Category, subject: &str) -> Vec<String> {
        let ids = Arc::clone(lookup.functions(category, subject));
        ids.iter().map(|id| lookup.map.function(*id).unwrap().name.to_string()).collect()
    }

    #[test]
    fn topics_may_name_a_severity() {
        let listed = vec![
            function("errors", "VmPoweredOnEvent, severity:error"),
            function("all", "*"),
            function("star", "severity:*"),
        ];
        let map = Catalog::default().step(Instant::now(), listed, Duration::ZERO).unwrap().map;
        assert!(map.has_severity_topics());
        let names = |severity| {
            map.with_severity(severity).iter().map(|id| &*map.function(*id).unwrap().name).collect::<Vec<_>>()
        };
        assert_eq!(names(Severity::Error), ["errors"]);
        assert!(names(Severity::Warning).is_empty());
        for (word, topic) in Severity::WORDS.into_iter().zip(SEVERITY_TOPICS) {
            assert_eq!(topic, format!("severity:{word}"));
        }
        assert!(!TopicMap::default().has_severity_topics());
    }

    #[test]
    fn topics_may_use_the_names_of_all_three_releases() {
        let listed = vec![
            function("class", "VmPoweredOnEvent"),
            function("dotted", "vm.powered.on"),
            function("drs", "drs.vm.powered.on"),
            function("ex", "ex"),
            function("extended", "extended, nothing"),
            function("ha", "com.vmware.vc.HA.*"),
            function("id", "com.vmware.vc.HA.X"),
            function("all", "*"),
            function("twice", "VmPoweredOnEvent,vm.powered.on,Vm*,*On*"),
            function("none", " , "),
        ];
        let map = Catalog::default().step(Instant::now(), listed, Duration::ZERO).unwrap().map;
        let mut lookup = lookup(&map);
        let mut check = |category, subject, expected: &[&str]| {
            for _ in 0..2 {
                let mut found = names(&mut lookup, category, subject);
                found.sort();
                assert_eq!(found, expected, "{subject}");
            }
        };
        check(Category::Event, "VmPoweredOnEvent", &["all", "class", "dotted", "twice"]);
        check(Category::Event, "DrsVmPoweredOnEvent", &["all", "drs", "twice"]);
        check(Category::EventEx, "com.vmware.vc.HA.X", &["all", "ex", "ha", "id"]);
        check(Category::EventEx, "com.vmware.vc.HA.Y", &["all", "ex", "ha"]);
        check(Category::ExtendedEvent, "com.vmware.x", &["all", "extended"]);
        check(Category::Event, "com.vmware.x", &["all"]);
        check(Category::Event, "", &[]);
        assert_eq!(map.functions().count(), 9, "a function without topics is no destination");
    }

    #[test]
    fn a_vanished_function_is_kept_for_its_grace_time_with_its_id() {
        let (mut catalog, start, grace) = (Catalog::default(), Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        let both = || vec![function("a", "T"), function("b", "T")];
        let first = catalog.step(at(0), both(), grace).unwrap();
        assert_eq!((first.map.generation(), first.appeared), (1, 2));
        assert!(catalog.step(at(10), both(), grace).is_none(), "nothing changed");
        let only_b = || vec![function("b", "T")];
        assert!(catalog.step(at(20), only_b(), grace).is_none(), "within the grace time nothing changes");
        assert!(catalog.step(at(69), only_b(), grace).is_none());
        let gone = catalog.step(at(70), only_b(), grace).unwrap();
        assert_eq!((gone.vanished, gone.map.generation()), (1, 2));
        assert_eq!(names(&mut lookup(&gone.map), Category::Event, "T"), ["b"]);
        assert!(
            catalog.step(at(71), vec![function("b", "")], grace).unwrap().map.functions().next().is_none()
        );
        let back = catalog.step(at(80), both(), grace).unwrap();
        let id = |map: &TopicMap, name: &str| map.functions().find(|(_, f)| &*f.name == name).unwrap().0;
        assert_eq!(id(&back.map, "a"), id(&first.map, "a"));
        assert_eq!(id(&back.map, "b"), id(&first.map, "b"));
    }

    #[test]
    fn restored_functions_are_missing_until_listed_or_until_the_grace_time_is_over() {
        let (mut catalog, start, grace) = (Catalog::default(), Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        let missing = |map: &TopicMap| map.missing().iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let before = catalog.restore(["a", "b", "c"].map(Arc::from));
        assert_eq!((before.generation(), missing(&before).len(), before.is_whole()), (0, 3, false));
        let first = catalog.step(at(1_000), vec![function("b", "T")], grace).unwrap();
        assert_eq!((missing(&first.map), first.map.is_whole()), (vec!["a".into(), "c".into()], false));
        assert!(catalog.step(at(1_010), vec![function("b", "T")], grace).is_none());
        let both = || vec![function("b", "T"), function("a", "")];
        let second = catalog.step(at(1_020), both(), grace).unwrap();
        assert_eq!(missing(&second.map), ["c"], "one without topics any more is not missing");
        assert_eq!(catalog.absent().len(), 1);
        let last = catalog.step(at(1_060), both(), grace).unwrap();
        assert!(last.map.is_whole() && last.given_up.contains("c") && catalog.absent().is_empty());
    }

    #[test]
    fn a_function_is_absent_while_it_is_in_its_grace_time() {
        let (mut catalog, start, grace) = (Catalog::default(), Instant::now(), Duration::from_secs(60));
        let mut absent = |seconds, listed: Vec<Function>| {
            catalog.step(start + Duration::from_secs(seconds), listed, grace);
            catalog.absent().len()
        };
        assert_eq!(absent(0, vec![function("a", "T"), function("b", "T")]), 0);
        assert_eq!(absent(10, vec![function("b", "T")]), 1);
        assert_eq!(absent(20, vec![function("a", "T"), function("b", "T")]), 0);
        assert_eq!(absent(30, vec![function("b", "T")]), 1);
        assert_eq!(absent(80, vec![function("b", "T")]), 0);
    }

    #[test]
    fn an_empty_first_listing_counts_as_a_map() {
        let change = Catalog::default().step(Instant::now(), Vec::new(), Duration::ZERO).unwrap();
        assert_eq!((change.map.generation(), change.map.functions().count()), (1, 0));
    }

    #[test]
    fn a_change_of_topics_reaches_a_lookup_with_its_next_update() {
        let (mut catalog, now) = (Catalog::default(), Instant::now());
        let before = catalog.step(now, vec![function("a", "T")], Duration::ZERO).unwrap().map;
        let mut lookup = lookup(&before);
        assert_eq!(names(&mut lookup, Category::Event, "U").len(), 0);
        let after = catalog.step(now, vec![function("a", "U")], Duration::ZERO).unwrap().map;
        lookup.update(&after);
        assert_eq!(names(&mut lookup, Category::Event, "U"), ["a"]);
        assert_eq!(names(&mut lookup, Category::Event, "T").len(), 0);
    }

    #[test]
    fn the_cache_is_bounded() {
        let map =
            Catalog::default().step(Instant::now(), vec![function("a", "s7*")], Duration::ZERO).unwrap().map;
        let mut lookup = lookup(&map);
        for i in 0..TOPIC_CACHE_MAX * 2 + 10 {
            let subject = format!("s{i}");
            let expected = usize::from(subject.starts_with("s7"));
            assert_eq!(lookup.functions(Category::EventEx, &subject).len(), expected);
            assert!(lookup.cache[Category::EventEx as usize].len() <= TOPIC_CACHE_MAX);
        }
    }

    proptest! {
        /// Against the definition: a function is found if one of its topics matches one of the
        /// event's names.
        #[test]
        fn lookups_agree_with_the_definition(
            topics in prop::collection::vec(prop::collection::vec("[VM*.]{1,4}|Vm\\*|v\\.m|ex", 0..4), 0..6),
            subject in "[VMm.]{1,4}",
            category in prop::sample::select(vec![Category::Event, Category::EventEx, Category::ExtendedEvent]),
        ) {
            let listed: Vec<_> = topics.iter().enumerate().map(|(i, t)| function(&i.to_string(), &t.join(","))).collect();
            let older = match category {
                Category::Event => dotted(&subject),
                Category::EventEx => "ex".into(),
                Category::ExtendedEvent => "extended".into(),
            };
            let wants = |f: &&Function| f.topics.iter().any(|t| t.matches(&subject) || (!older.is_empty() && t.matches(&older)));
            let mut expected: Vec<_> = listed.iter().filter(wants).map(|f| f.name.to_string()).collect();
            expected.sort();
            let map = Catalog::default().step(Instant::now(), listed, Duration::ZERO).unwrap().map;
            let mut found = names(&mut lookup(&map), category, &subject);
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
