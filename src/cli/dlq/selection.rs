//! The dead letters that a command names, and the message if there are none.
//!
//! A function's destination is `PROCESSOR/FUNCTION.NAMESPACE`. People know it as
//! `PROCESSOR/FUNCTION` or `FUNCTION`, so a name that matches nothing is tried with the parts that
//! are missing.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::bail;

use super::Filter;
use super::look::shown;
use crate::cli::state::known;
use crate::outside::escaped;
use crate::state::{DeadLetterFilter, StoreError, StoreReader, glob_matches};

/// The filters of a command.
pub(super) struct LetterSelection {
    pub filters: Vec<DeadLetterFilter>,
    /// True if the dead letters are named, so that each has to exist.
    is_named: bool,
}

impl LetterSelection {
    /// `may_complete`: a name that matches nothing may stand for a longer one. False for commands
    /// that destroy something.
    pub fn new(given: &Filter, reader: &StoreReader, may_complete: bool) -> anyhow::Result<Self> {
        let mut filters = given.filters();
        if let Some(destination) = &given.destination {
            let meant = complete(destination, &reader.dead_letter_destinations()?);
            if meant != *destination && !may_complete {
                bail!("no dead letter is for `{destination}`; did you mean `{meant}`?");
            }
            if meant != *destination {
                eprintln!("event-router: `{destination}` is taken as `{meant}`");
            }
            filters.iter_mut().for_each(|filter| filter.destination = Some(meant.clone()));
        }
        Ok(LetterSelection { filters, is_named: !given.which.is_empty() })
    }

    /// Fails if a named dead letter does not exist, or if no dead letter matches: a mistyped number
    /// or name is no success. `missing`: number of filters that matched nothing.
    pub fn check_found(&self, missing: usize, dir: &Path) -> anyhow::Result<()> {
        if self.is_named && missing > 0 {
            bail!(
                "{missing} of the {} named dead letters do not exist; `event-router dlq list` lists all of them",
                self.filters.len()
            );
        }
        if missing > 0 {
            bail!("{}", nothing_matches(&StoreReader::open(dir)?)?);
        }
        Ok(())
    }
}

/// The message about filters that match nothing.
pub(super) fn nothing_matches(reader: &StoreReader) -> Result<String, StoreError> {
    let destinations = reader.dead_letter_destinations()?;
    let destinations: Vec<String> =
        destinations.iter().map(|name| escaped(shown(name)).into_owned()).collect();
    Ok(format!("no dead letter matches; the destinations of dead letters are: {}", known(&destinations)))
}

/// The destination that `given` names, among those that the sources had in the last run.
pub(super) fn destination(given: &str, reader: &StoreReader) -> Result<String, StoreError> {
    let known = reader.destinations(&reader.sources()?)?;
    let pattern = complete(given, &known);
    let mut matching = known.into_iter().filter(|name| glob_matches(&pattern, name));
    Ok(match (matching.next(), matching.next()) {
        (Some(one), None) => one,
        _ => given.to_owned(),
    })
}

/// Adds a processor and a namespace to a pattern that matches none of `names` without them.
fn complete(pattern: &str, names: &BTreeSet<String>) -> String {
    let matches = |pattern: &String| names.iter().any(|name| glob_matches(pattern, name));
    let mut candidates = vec![pattern.to_owned()];
    match pattern.split_once('/') {
        Some((_, function)) if !function.contains('.') => candidates.push(format!("{pattern}.*")),
        Some(_) => {}
        None => candidates.extend([format!("*/{pattern}"), format!("*/{pattern}.*")]),
    }
    candidates.into_iter().find(matches).unwrap_or_else(|| pattern.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_and_the_namespace_of_a_function_may_be_left_out() {
        let names = ["fn/tag-vm.openfaas-fn", "fn/tag", "eb/default", "eb/my.bus", "plain", ""];
        let names = names.map(str::to_owned).into();
        let check = |pattern: &str, expected: &str| assert_eq!(complete(pattern, &names), expected);
        check("fn/tag-vm", "fn/tag-vm.*");
        check("fn/tag-vm.openfaas-fn", "fn/tag-vm.openfaas-fn");
        check("fn/tag-vm.other", "fn/tag-vm.other");
        check("fn/tag", "fn/tag");
        check("fn/*", "fn/*");
        check("tag-vm", "*/tag-vm.*");
        check("default", "*/default");
        check("plain", "plain");
        check("none", "none");
    }
}
