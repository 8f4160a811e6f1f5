//! The HTML page around text and charts, and its tables.

use std::fmt::Write;

use super::text::{escape, number};
use crate::measure::machine::Machine;
use crate::measure::sample::Sample;

const STYLE: &str = include_str!("style.css");

/// Renders a whole file. `body` is HTML.
pub fn page(title: &str, machine: &Machine, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>Measured on {cpu}, {cores} core{s}, {memory} GB of memory, Linux {kernel}. Router, synthetic vCenters and target shared this \
         machine, so a router that has one for itself takes more. The figure that carries over to another machine is CPU for a million events, \
         not events a second. Written by loadtest {version}.</footer>\n</main>\n</body>\n</html>\n",
        title = escape(title),
        cpu = escape(&machine.cpu),
        cores = machine.cores,
        s = if machine.cores == 1 { "" } else { "s" },
        memory = number(machine.memory_mb as f64 / 1024.0),
        kernel = escape(&machine.kernel),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// A row of a table.
pub type Row = Vec<String>;

/// Renders a table. The first row is its head, and cells are text.
///
/// Cells that look like numbers are aligned right. On a narrow screen each row becomes a block,
/// with the head of its column before each cell.
pub fn table(rows: &[Row]) -> String {
    let Some((head, rows)) = rows.split_first() else { return String::new() };
    let mut out = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    for cell in head {
        // Writing to a string cannot fail.
        let _ = write!(out, "<th>{}</th>", escape(cell));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (cell, name) in row.iter().zip(head) {
            let is_number = cell.starts_with(|first: char| first.is_ascii_digit()) && cell.len() < 16;
            let class = if is_number { " class=\"number\"" } else { "" };
            let _ = write!(out, "<td{class} data-name=\"{}\">{}</td>", escape(name), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out + "</tbody></table></div>\n"
}

/// Renders large figures with a name below each.
pub fn tiles(tiles: &[(String, &str)]) -> String {
    let mut out = String::from("<div class=\"tiles\">");
    for (figure, name) in tiles {
        let _ = write!(out, "<div><b>{}</b><span>{}</span></div>", escape(figure), escape(name));
    }
    out + "</div>\n"
}

pub fn row<const N: usize>(cells: [&str; N]) -> Row {
    cells.map(str::to_owned).to_vec()
}

/// The names of the busiest `most` stages, busiest first.
pub fn stages<'s>(samples: impl Iterator<Item = &'s Sample> + Clone, most: usize) -> Vec<String> {
    let mut found: Vec<(String, f64)> = Vec::new();
    for (name, share) in samples.flat_map(|sample| &sample.stages) {
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, highest)) => *highest = highest.max(*share),
            None => found.push((name.clone(), *share)),
        }
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.into_iter().take(most).map(|(name, _)| name).collect()
}
