//! The documents: the generated ones match the code, and every link leads somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use event_router::settings::{json_schema_text, reference_manual};
use event_router::telemetry::metrics;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a generated file with the one that is checked in; `UPDATE_DOCS=1` writes it.
fn check_generated(name: &str, expected: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "docs/{name} is not what the code says; run `UPDATE_DOCS=1 cargo test --test it docs::`"
    );
}

#[test]
fn the_checked_in_schema_matches_the_table() {
    check_generated("config.schema.json", &json_schema_text());
}

#[test]
fn the_checked_in_manual_matches_the_table() {
    check_generated("configuration.md", &reference_manual());
}

#[test]
fn the_checked_in_metrics_match_the_declared_ones() {
    check_generated("metrics.md", &metrics::reference_manual());
}

/// Every document for people.
fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let at_root = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    docs.chain(at_root.map(|name| root().join(name))).collect()
}

/// The anchor of a heading, as the common renderers make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn anchors(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|rest| anchor(rest.trim_start_matches('#')))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            assert!(heading.is_empty() || anchors(&target).contains(heading), "{}: {link}", path.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links} links were looked at");
}

/// Every key, metric and command that a document names in code exists: hand-written text goes
/// stale.
#[test]
fn every_name_in_the_documents_exists() {
    let known = format!("{}{}", reference_manual(), metrics::reference_manual());
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            if let Some(metric) = word.strip_prefix("event_router_") {
                assert!(known.contains(&format!("event_router_{metric}")), "{}: {word}", path.display());
            }
        }
    }
}
