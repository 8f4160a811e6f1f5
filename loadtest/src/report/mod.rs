//! Renders a result as one HTML file that is complete in itself: no network, no script, and all
//! terms explained.
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

/// Renders the whole file.
pub fn html(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Run(result) => run::page(result),
        Outcome::Limit(result) => limit::page(result),
    }
}
