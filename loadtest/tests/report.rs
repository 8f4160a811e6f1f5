//! Reports and comparisons of real results.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::path::Path;

use common::{loadtest, router};

/// Nothing is fetched, nothing runs, and every chart is there.
fn check_page(file: &Path, charts: usize, parts: &[&str]) {
    let page = std::fs::read_to_string(file).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{page}");
    assert_eq!(page.matches("<svg").count(), charts, "{page}");
    for outside in ["src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("NaN") && !page.contains(">inf"), "{page}");
    for part in parts {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn results_become_reports_and_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    std::fs::write(
        at("w.yaml"),
        "description: Says <i>.\nrate: 300\nduration: 2s\ntroubles: [{type: sessionExpiry, at: 1s}]\n",
    )
    .unwrap();
    let (workload, json, html) = (text("w.yaml"), text("a.json"), text("run.html"));
    let flags = ["--sample-interval", "200ms", "--warm-up", "600ms", "--router", router()];
    let run = [&["run", &workload, "--json", &json, "--html", &html][..], &flags].concat();
    let outcome = loadtest(&run);
    assert!(outcome.code == 0 && outcome.stdout.contains("PASSED"), "{outcome:?}");
    check_page(
        &at("run.html"),
        6,
        &["Passed", "Says &lt;i&gt;.", "sessionExpiry", "before and after the load"],
    );

    // Half of the rate is a regression, the same file is none.
    let mut slower: serde_json::Value =
        serde_json::from_slice(&std::fs::read(at("a.json")).unwrap()).unwrap();
    slower["rate"] = (slower["rate"].as_f64().unwrap() / 2.0).into();
    std::fs::write(at("b.json"), slower.to_string()).unwrap();
    let same = loadtest(&["compare", &text("a.json"), &text("a.json")]);
    assert_eq!(same.code, 0, "{same:?}");
    let worse = loadtest(&["compare", &text("a.json"), &text("b.json"), "--tolerance", "30"]);
    assert_eq!(worse.code, 1, "{worse:?}");
    let rate = worse.stdout.lines().find(|line| line.contains("rate (events/s)")).unwrap();
    assert!(rate.ends_with("0.50  worse"), "{}", worse.stdout);

    let limit = loadtest(&[
        "limit",
        "--quick",
        "--step",
        "500ms",
        "--shape",
        "batched",
        "--from",
        "40",
        "--max",
        "80",
        "--router",
        router(),
        "--json",
        &text("limit.json"),
        "--html",
        &text("limit.html"),
        "--p99",
        "10s",
    ]);
    assert_eq!(limit.code, 0, "{limit:?}");
    check_page(
        &at("limit.html"),
        6,
        &["On this machine one router takes <b>at least 80 events/s</b>", "Every rate that was tried"],
    );
    let again = loadtest(&["report", &text("limit.json"), &text("again.html")]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(std::fs::read(at("limit.html")).unwrap(), std::fs::read(at("again.html")).unwrap());

    let kinds = loadtest(&["compare", &text("a.json"), &text("limit.json")]);
    assert_eq!(kinds.code, 2, "{kinds:?}");
    std::fs::write(at("old.json"), "{\"format\": 1}").unwrap();
    let old = loadtest(&["compare", &text("old.json"), &text("a.json")]);
    assert!(old.code == 2 && old.stderr.contains("has format 1, this program reads"), "{old:?}");
    let none = loadtest(&["report", &text("w.yaml"), &text("x.html")]);
    assert!(none.code == 2 && none.stderr.contains("is no result of"), "{none:?}");
}
