//! The rules of the code as a ratchet: `tests/data/tidy.txt` lists the present violations, and this
//! list may only shrink.
//!
//! ```text
//! import FILE MODULE       a module uses one that stands above it (ORDER)
//! long FILE LINES          a file has more than 500 lines
//! wide FILE COMMENTS       comments are wider than 100 columns
//! twice CRATE NAME         a crate declares two types of one name
//! ```
//!
//! `TIDY=write cargo test --test it tidy` writes the list again after a clean-up. A number that has
//! become smaller does not fail the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The modules of the router, top to bottom: each may use those behind it. `simulation` and tests
/// may use everything.
const ORDER: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["admin"],
    &["settings"],
    &["pipeline"],
    // These do not use one another.
    &["source", "processor", "state"],
    &["cluster"],
    &["cloudevents"],
    &["net"],
    &["supervise"],
    &["telemetry"],
    &["config"],
    &["event"],
    &["outside"],
    &["redact"],
    &["clock", "memory", "queue", "limits"],
];
const LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;
/// Tables, which are long by nature.
const TABLES: &[&str] = &["crates/vsphere/src/schema/generated.rs"];
/// The sources of each crate.
const CRATES: &[(&str, &str)] = &[
    ("event-router", "src"),
    ("eventpattern", "crates/eventpattern/src"),
    ("loadtest", "loadtest/src"),
    ("testbed", "loadtest/testbed/src"),
    ("vsphere", "crates/vsphere/src"),
];
/// Folders whose files are measured; `crates` includes benches and fuzz targets.
const MEASURED: &[&str] = &["benches", "crates", "fuzz", "loadtest", "src", "tests"];
const LIST: &str = "tests/data/tidy.txt";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder`, without what a build wrote, as paths from the root.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            let is_built = ["target", "corpus", "artifacts"].iter().any(|name| path.ends_with(name));
            if path.is_dir() && !is_built {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The lines of `text` that are not test code: what follows `#[cfg(test)]` before a module with a
/// body is.
fn without_tests(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines()
}

fn is_test(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "simulation" || part == "testing.rs")
        || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The modules of this crate that a line of code names: `crate::NAME`, `crate::{A, B::C}`.
fn named(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let is_start = !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let rest = &line[at + "crate::".len()..];
        if is_start && let Some(group) = rest.strip_prefix('{') {
            found.extend(group.split(',').map(|item| first_word(item.trim())));
        } else if is_start {
            found.push(first_word(rest));
        }
    }
    found
}

fn first_word(text: &str) -> &str {
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(text.len());
    &text[..end]
}

fn level(module: &str) -> Option<usize> {
    ORDER.iter().position(|level| level.contains(&module))
}

/// Uses of modules that stand above or beside the user.
fn imports(found: &mut BTreeSet<String>) {
    for path in files("src").iter().filter(|path| !is_test(path)) {
        let own = path.iter().nth(1).unwrap().to_string_lossy();
        let own = own.strip_suffix(".rs").unwrap_or(&own);
        // `main.rs` and `lib.rs` are the map.
        if ["main", "lib"].contains(&own) {
            continue;
        }
        let own_level =
            level(own).unwrap_or_else(|| panic!("{}: `{own}` has no place in ORDER", path.display()));
        let text = read(path);
        for module in without_tests(&text).filter(|line| !is_comment(line)).flat_map(named) {
            let may = module == own || level(module).is_none_or(|level| level > own_level);
            if !may {
                found.insert(format!("import {} {module}", path.display()));
            }
        }
    }
}

fn measures(found: &mut BTreeSet<String>) {
    for path in MEASURED.iter().flat_map(|folder| files(folder)) {
        let text = read(&path);
        let name = path.display().to_string();
        let lines = text.lines().count();
        if lines > LINES_MAX && !TABLES.contains(&&*name) {
            found.insert(format!("long {name} {lines}"));
        }
        let is_wide = |line: &&str| is_comment(line) && line.chars().count() > COLUMNS_MAX;
        let wide = text.lines().filter(is_wide).count();
        if wide > 0 {
            found.insert(format!("wide {name} {wide}"));
        }
    }
}

/// The name of the type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub(super) ")).unwrap_or(line);
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let rest = ["struct ", "enum ", "trait ", "union "].iter().find_map(|word| line.strip_prefix(word))?;
    Some(first_word(rest))
}

fn twice(found: &mut BTreeSet<String>) {
    for (name, folder) in CRATES {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for path in files(folder).iter().filter(|path| !is_test(path)) {
            let text = read(path);
            for declared in without_tests(&text).filter_map(declared) {
                *count.entry(declared.to_owned()).or_default() += 1;
            }
        }
        let repeated = count.into_iter().filter(|(_, times)| *times > 1);
        found.extend(repeated.map(|(declared, _)| format!("twice {name} {declared}")));
    }
}

/// A line of the list without its number, and the number; 1 where there is none.
fn entry(line: &str) -> (String, usize) {
    match line.rsplit_once(' ').and_then(|(what, number)| Some((what, number.parse().ok()?))) {
        Some((what, number)) => (what.to_owned(), number),
        None => (line.to_owned(), 1),
    }
}

#[test]
fn the_list_of_violations_only_shrinks() {
    let mut found = BTreeSet::new();
    imports(&mut found);
    measures(&mut found);
    twice(&mut found);
    let list = root().join(LIST);
    if std::env::var_os("TIDY").is_some_and(|word| word == "write") {
        let text: String = found.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&list, text).unwrap();
        return;
    }
    let known: BTreeMap<_, _> = std::fs::read_to_string(&list).unwrap().lines().map(entry).collect();
    let found: BTreeMap<_, _> = found.iter().map(|line| entry(line)).collect();
    let mut report = String::new();
    for (what, number) in &found {
        match known.get(what) {
            None => writeln!(report, "new: {what} {number}").unwrap(),
            Some(allowed) if number > allowed => {
                writeln!(report, "grown: {what} {number}, was {allowed}").unwrap();
            }
            Some(_) => {}
        }
    }
    for what in known.keys().filter(|what| !found.contains_key(*what)) {
        writeln!(report, "mended, so take it off the list (TIDY=write): {what}").unwrap();
    }
    assert!(report.is_empty(), "{LIST} and the code differ:\n{report}");
}

#[test]
fn violations_are_noticed() {
    assert_eq!(named("use crate::config::{self, Config};"), ["config"]);
    assert_eq!(named("    use crate::{config, state::Store};"), ["config", "state"]);
    assert_eq!(named("type A = crate::processor::BoxFuture<crate::event::Batch>;"), ["processor", "event"]);
    assert!(named("use mycrate::config;").is_empty());
    assert_eq!(declared("    pub(super) struct Held<'a>(&'a Status);"), Some("Held"));
    assert_eq!(declared("pub enum State {"), Some("State"));
    assert_eq!(declared("let enumerated = 1;"), None);
    assert!(level("cli") < level("event") && level("source") == level("state"));
    assert_eq!(entry("wide src/a.rs 12"), ("wide src/a.rs".to_owned(), 12));
    assert_eq!(entry("twice testbed State"), ("twice testbed State".to_owned(), 1));
}
