//! A result as one HTML file that needs nothing else: no network, no script, no explanation by whoever made it.
//!
//! ```text
//! result ──► run or limit (what is said, which charts) ──► chart (SVG) ──► page (HTML)
//! ```

mod chart;
mod limit;
mod page;
mod run;
mod text;

use crate::result::Outcome;

/// The whole file.
pub fn html(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Run(result) => run::page(result),
        Outcome::Limit(result) => limit::page(result),
    }
}
