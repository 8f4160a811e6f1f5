//! Shows pages in headless Chromium, and has them measured there by `layout.js`.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const LAYOUT: &str = include_str!("../layout.js");
/// Chromium starts within seconds; a machine that is busy with other tests takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// A page to measure, at this width in pixels.
pub struct View<'p> {
    pub name: &'p str,
    pub width: u32,
    pub page: &'p str,
}

/// The findings of `layout.js` in each view, by name.
pub fn measure(chromium: &Path, views: &[View<'_>]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut wrapper = String::from("<!DOCTYPE html><meta charset=\"utf-8\"><body>\n");
    for View { name, width, page } in views {
        let page = page.replace('&', "&amp;").replace('"', "&quot;");
        // A frame has a width of its own: a window of headless Chromium cannot be as narrow as a
        // telephone.
        let frame = format!("name=\"{name}\" style=\"width:{width}px;height:3000px;border:0\"");
        wrapper.push_str(&format!("<iframe {frame} srcdoc=\"{page}\"></iframe>\n"));
    }
    wrapper.push_str(&format!("<script>{LAYOUT}</script></body>"));
    let (file, output) = (folder.path().join("wrapper.html"), folder.path().join("dom.html"));
    std::fs::write(&file, wrapper).unwrap();

    let mut command = Command::new(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    command
        .args(["--hide-scrollbars", "--window-size=1500,1000", "--dump-dom"])
        .arg(format!("file://{}", file.display()));
    command.env("HOME", folder.path()).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = super::Child(command.stdout(File::create(&output).unwrap()).spawn().unwrap());
    let start = Instant::now();
    while child.is_running() {
        assert!(start.elapsed() < LIMIT, "Chromium did not end within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }

    let dom = std::fs::read_to_string(&output).unwrap();
    let found = dom.split_once("<pre id=\"found\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (found, _) = found.unwrap_or_else(|| panic!("Chromium measured nothing: {dom}"));
    serde_json::from_str(found).unwrap()
}
