//! A result as one HTML file that needs nothing else: no network, no script, no explanation by
//! whoever made it.
//!
//! ```text
//! result ──► run or limit (text and tables) ──┬──► page (HTML)
//!        └─► charts (series) ──► chart (SVG) ─┘
//! ```

mod chart;
mod limit;
mod limit_charts;
mod page;
mod run;
mod terms;
#[cfg(test)]
mod tests;
pub mod text;

use crate::result::Outcome;

/// The whole file.
pub fn html(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Run(result) => run::page(result),
        Outcome::Limit(result) => limit::page(result),
    }
}
