//! Reports and comparisons of real results.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::common::browser::{self, View};
use crate::common::{loadtest, router};
use crate::peer::peer;

/// A folder with the results and reports of a short run and a short search, made once for all
/// tests: `run.json`, `run.html`, `limit.json`, `limit.html`. It stays until the next time, for
/// people to look at.
fn results() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        std::fs::write(
            at("w.yaml"),
            "description: Says <i>.\nrate: 300\nduration: 2s\ntroubles: [{type: sessionExpiry, at: 1s}]\n",
        )
        .unwrap();
        let workload = at("w.yaml");
        let run = ["run", &workload, "--sample-interval", "200ms", "--warm-up", "600ms"];
        let limit = [
            &["limit", "--quick", "--step", "500ms", "--shape", "batched"][..],
            &["--from", "40", "--max", "80", "--p99", "10s"],
        ];
        for (name, arguments) in [("run", &run[..]), ("limit", &limit.concat())] {
            let (json, html) = (at(&format!("{name}.json")), at(&format!("{name}.html")));
            let files = ["--json", &json, "--html", &html, "--router", router()];
            let outcome = loadtest(&[arguments, &files].concat());
            assert_eq!(outcome.code, 0, "{outcome:?}");
            std::fs::write(at(&format!("{name}.txt")), outcome.stdout).unwrap();
        }
        folder
    })
}

fn read(name: &str) -> String {
    std::fs::read_to_string(results().join(name)).unwrap()
}

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
fn reports_are_self_contained() {
    check_page(
        &results().join("run.html"),
        6,
        &[
            "Passed",
            "Says &lt;i&gt;.",
            "sessionExpiry",
            "Shaded at the start: the warm-up",
            "Shaded at the end: the drain",
            "(warm-up)",
        ],
    );
    let takes = "This machine takes at least 80 events a second.";
    check_page(
        &results().join("limit.html"),
        6,
        &[takes, "All tries", "<dt>knee</dt>", "received in the warm-ups"],
    );
    assert!(
        read("run.txt").contains("PASSED") && read("limit.txt").starts_with(takes),
        "{}",
        read("limit.txt")
    );

    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again.html");
    let json = results().join("limit.json");
    let outcome = loadtest(&["report", json.to_str().unwrap(), again.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(read("limit.html"), std::fs::read_to_string(again).unwrap());
}

#[test]
fn results_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let known = |name: &str| results().join(name).to_str().unwrap().to_owned();

    // Half of the rate is a regression, the same file is none.
    let mut slower: serde_json::Value = serde_json::from_str(&read("run.json")).unwrap();
    slower["rate"] = (slower["rate"].as_f64().unwrap() / 2.0).into();
    std::fs::write(text("slower.json"), slower.to_string()).unwrap();
    let same = loadtest(&["compare", &known("run.json"), &known("run.json")]);
    assert_eq!(same.code, 0, "{same:?}");
    let worse = loadtest(&["compare", &known("run.json"), &text("slower.json"), "--tolerance", "30"]);
    assert_eq!(worse.code, 1, "{worse:?}");
    let rate = worse.stdout.lines().find(|line| line.contains("rate (events/s)")).unwrap();
    assert!(rate.ends_with("0.50  worse"), "{}", worse.stdout);

    let kinds = loadtest(&["compare", &known("run.json"), &known("limit.json")]);
    assert_eq!(kinds.code, 2, "{kinds:?}");
    std::fs::write(text("old.json"), "{\"format\": 1}").unwrap();
    let old = loadtest(&["compare", &text("old.json"), &known("run.json")]);
    assert!(old.code == 2 && old.stderr.contains("has format 1, this program reads"), "{old:?}");
    let none = loadtest(&["report", &known("w.yaml"), &text("x.html")]);
    assert!(none.code == 2 && none.stderr.contains("is no result of"), "{none:?}");
}

/// The report of a search over many cases with long names and large figures.
fn wide_report() -> String {
    let mut result: serde_json::Value = serde_json::from_str(&read("limit.json")).unwrap();
    let case = &mut result["cases"][0];
    case["limitedBy"] =
        "the machine: of 128 cores the router kept 63.5 busy, vCenters and target 64.1 (but more)".into();
    let scale = |value: &mut serde_json::Value, by: f64| *value = (value.as_f64().unwrap() * by).into();
    scale(&mut case["limit"], 123_457.0);
    for step in case["steps"].as_array_mut().unwrap() {
        for name in ["offeredRate", "deliveredRate", "cpuSecondsPerMillion"] {
            scale(&mut step[name], 123_457.0);
        }
        step["why"] = serde_json::json!([
            "12345678 events are lost",
            "the lag grows",
            "p99 is 1234.5 ms, 250 ms are allowed"
        ]);
    }
    let case = case.clone();
    result["cases"] = (0..14)
        .map(|number| {
            let mut case = case.clone();
            case["name"] = format!("OpenFaaS, 64 vCenters, HTTPS on both sides, no spill ({number})").into();
            case
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("wide.json"), folder.path().join("wide.html"));
    std::fs::write(&json, result.to_string()).unwrap();
    let outcome = loadtest(&["report", json.to_str().unwrap(), html.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let page = std::fs::read_to_string(html).unwrap();
    std::fs::write(results().join("wide.html"), &page).unwrap();
    page
}

#[test]
fn reports_fit_a_screen_a_telephone_and_paper() {
    let Some(chromium) = peer("chromium") else { return };
    let (run, limit, wide) = (read("run.html"), read("limit.html"), wide_report());
    // A4 less its margins; what the style sheet has for paper holds here on a screen.
    let paper = 703;
    let printed = [&run, &limit, &wide].map(|page| page.replace("@media print", "@media all"));
    let mut views = Vec::new();
    for (name, page, printed) in
        [("run", &run, &printed[0]), ("limit", &limit, &printed[1]), ("wide", &wide, &printed[2])]
    {
        for (place, width, page) in
            [("desk", 1400, page), ("telephone", 360, page), ("paper", paper, printed)]
        {
            views.push((format!("{name} {place}"), width, page.clone()));
        }
    }
    // Faults that the check must find.
    let long = "\nevents that are waited for by so many that it does not fit any more at all\n</text>";
    let cut = limit.replace("\nevents\n</text>", long);
    let scrolls = run.replace("<h2>Terms", "<div style=\"width:900px\">x</div><h2>Terms");
    let empty = limit.replace("<polyline", "<g").replace("</polyline", "</g").replace("<circle", "<g");
    for (name, page) in [("cut", &cut), ("scrolls", &scrolls), ("empty", &empty)] {
        assert!(page != &run && page != &limit, "{name}: nothing was changed");
        views.push((name.to_owned(), 360, page.clone()));
    }
    let shown: Vec<View<'_>> =
        views.iter().map(|(name, width, page)| View { name, width: *width, page }).collect();
    let found = browser::measure(&chromium, &shown);

    for (name, width, _) in views.iter().filter(|(name, ..)| name.contains(' ')) {
        let view = &found[name];
        let number = |what: &str| view[what].as_u64().unwrap();
        assert_eq!(view["problems"], serde_json::json!([]), "{name}");
        assert_eq!(number("width"), u64::from(*width), "{name}");
        assert_eq!(number("charts"), if name.starts_with("wide") { 14 * 6 } else { 6 }, "{name}");
        assert!(number("series") > 10 && number("texts") > 50, "{name}: {view}");
    }
    // On paper the list of all tries is unfolded.
    let rows = |name: &str| found[name]["rows"].as_u64().unwrap();
    assert!(rows("limit paper") > rows("limit desk") + 2, "{found}");
    for (name, problem) in [
        ("cut", "text is cut: events that"),
        ("scrolls", "the page scrolls sideways"),
        ("empty", "nothing is drawn for"),
    ] {
        let problems = found[name]["problems"].to_string();
        assert!(problems.contains(problem), "{name}: {problems}");
    }
}
