//! Problems of single functions in a listing of a gateway.

use std::collections::BTreeSet;

use crate::limits::ODDITIES_MAX;

/// The problems of one listing, of which the first [`ODDITIES_MAX`] are kept.
#[derive(Debug, Default)]
pub struct Oddities {
    first: BTreeSet<String>,
    is_full: bool,
}

impl Oddities {
    /// Adds the problem that `look` finds. It is not called once there are enough: a gateway can
    /// list tens of thousands of topics, and finding the name that was meant takes long.
    pub fn look(&mut self, look: impl FnOnce() -> Option<String>) {
        self.is_full |= self.first.len() >= ODDITIES_MAX;
        if !self.is_full {
            self.first.extend(look());
        }
    }

    pub fn extend(&mut self, problems: impl IntoIterator<Item = String>) {
        problems.into_iter().for_each(|problem| self.look(|| Some(problem)));
    }

    /// The problems that `former` did not have.
    pub fn since<'o>(&'o self, former: &'o Oddities) -> impl Iterator<Item = &'o str> {
        const MORE: &str = "it lists more functions with such problems, which are not named";
        let more = (self.is_full && !former.is_full).then_some(MORE);
        self.first.difference(&former.first).map(String::as_str).chain(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_problems_are_named_once() {
        let (mut before, mut now, none) = (Oddities::default(), Oddities::default(), Oddities::default());
        before.extend(["a".to_owned()]);
        now.extend(["a".to_owned(), "b".to_owned()]);
        assert_eq!(now.since(&before).collect::<Vec<_>>(), ["b"]);
        now.look(|| None);
        assert_eq!(now.since(&none).count(), 2);
        now.extend((0..2 * ODDITIES_MAX).map(|n| format!("c{n}")));
        now.look(|| panic!("it is full"));
        assert_eq!(now.since(&none).count(), ODDITIES_MAX + 1);
        assert!(now.since(&none).last().is_some_and(|last| last.contains("more")));
        assert_eq!(now.since(&now).count(), 0);
    }
}
