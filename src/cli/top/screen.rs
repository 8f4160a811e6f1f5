//! The state of `top`: the latest answers of the router, and the list, sorting and selection of its
//! user. Pure: answers and keys come in, requests go out.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::admin::control::PlotOf;
use crate::admin::model::{DestinationStatus, EventTypeStatus, Overview, PlotPoint, SourceStatus};

/// The list that the keys act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopList {
    Sources,
    #[default]
    Destinations,
}

/// The order of the lists. Each begins with the row that is most likely to be looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopSort {
    #[default]
    Urgency,
    Name,
    Rate,
    /// Waiting events of a destination, or the lag of a source.
    Waiting,
    /// Age of the oldest waiting event, or the lag of a source.
    Oldest,
    Latency,
}

impl TopSort {
    const ALL: [TopSort; 6] =
        [TopSort::Urgency, TopSort::Name, TopSort::Rate, TopSort::Waiting, TopSort::Oldest, TopSort::Latency];

    pub fn as_str(self) -> &'static str {
        match self {
            TopSort::Urgency => "urgency",
            TopSort::Name => "name",
            TopSort::Rate => "events/s",
            TopSort::Waiting => "waiting",
            TopSort::Oldest => "oldest",
            TopSort::Latency => "p99",
        }
    }

    fn next(self) -> Self {
        let at = TopSort::ALL.iter().position(|sort| *sort == self).unwrap_or_default();
        TopSort::ALL[(at + 1) % TopSort::ALL.len()]
    }
}

/// Facts about the source or destination that is drilled into.
#[derive(Debug, Default)]
pub struct TopDetail {
    pub plot: Vec<PlotPoint>,
    /// Of a source: the most frequent first.
    pub types: Vec<EventTypeStatus>,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub struct TopState {
    pub overview: Option<Overview>,
    /// The reason why the last request to the router failed.
    pub trouble: Option<String>,
    pub list: TopList,
    pub sort: TopSort,
    pub is_reversed: bool,
    pub is_paused: bool,
    /// Names of the selected rows: a row keeps its selection when the order changes.
    selected: [Option<String>; 2],
    /// Set while one source or destination fills the screen.
    pub drilled: bool,
    pub detail: TopDetail,
    pub is_over: bool,
}

impl TopState {
    /// Takes an answer of the router, unless the screen is paused.
    pub fn update(&mut self, overview: Result<Overview, String>) {
        match overview {
            Ok(overview) => {
                self.trouble = None;
                if !self.is_paused || self.overview.is_none() {
                    self.overview = Some(overview);
                }
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// Carries out a key. Returns true if it asks for newer facts.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if is_control => self.is_over = true,
            KeyCode::Char('q') => self.is_over = true,
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left if self.drilled => self.drilled = false,
            KeyCode::Esc => self.is_over = true,
            KeyCode::Enter | KeyCode::Right if !self.drilled && self.selected_name().is_some() => {
                self.drilled = true;
                self.detail = TopDetail::default();
                return true;
            }
            KeyCode::Tab | KeyCode::BackTab if !self.drilled => {
                self.list = match self.list {
                    TopList::Sources => TopList::Destinations,
                    TopList::Destinations => TopList::Sources,
                };
            }
            KeyCode::Up | KeyCode::Char('k') => return self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => return self.move_by(1),
            KeyCode::PageUp => return self.move_by(-10),
            KeyCode::PageDown => return self.move_by(10),
            KeyCode::Home | KeyCode::Char('g') => return self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => return self.move_by(isize::MAX),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                return !self.is_paused;
            }
            _ => {}
        }
        false
    }

    /// Moves the selection. Returns true if another row is drilled into now.
    fn move_by(&mut self, rows: isize) -> bool {
        let names = self.names();
        if names.is_empty() {
            return false;
        }
        let at = self.selected_at().saturating_add_signed(rows).min(names.len() - 1);
        self.selected[self.list as usize] = Some(names[at].clone());
        self.drilled
    }

    /// The sources in the order of the screen.
    pub fn sources(&self) -> Vec<&SourceStatus> {
        let Some(overview) = &self.overview else { return Vec::new() };
        let mut sources: Vec<_> = overview.sources.iter().collect();
        // The router lists the worst first; the sort is stable.
        sources.sort_by(|a, b| match self.sort {
            TopSort::Urgency => b.urgency.cmp(&a.urgency),
            TopSort::Name => a.name.cmp(&b.name),
            TopSort::Rate => falling(a.events_per_s, b.events_per_s),
            TopSort::Waiting | TopSort::Oldest | TopSort::Latency => {
                falling(a.lag_s.unwrap_or(-1.0), b.lag_s.unwrap_or(-1.0))
            }
        });
        if self.is_reversed {
            sources.reverse();
        }
        sources
    }

    /// The destinations in the order of the screen.
    pub fn destinations(&self) -> Vec<&DestinationStatus> {
        let Some(overview) = &self.overview else { return Vec::new() };
        let mut destinations: Vec<_> = overview.destinations.iter().collect();
        destinations.sort_by(|a, b| match self.sort {
            TopSort::Urgency => b.urgency.cmp(&a.urgency),
            TopSort::Name => a.name.cmp(&b.name),
            TopSort::Rate => falling(a.delivered_per_s, b.delivered_per_s),
            TopSort::Waiting => b.backlog.events().cmp(&a.backlog.events()),
            TopSort::Oldest => falling(a.backlog.oldest_s, b.backlog.oldest_s),
            TopSort::Latency => falling(a.request_p99_s.unwrap_or(-1.0), b.request_p99_s.unwrap_or(-1.0)),
        });
        if self.is_reversed {
            destinations.reverse();
        }
        destinations
    }

    fn names(&self) -> Vec<String> {
        match self.list {
            TopList::Sources => self.sources().iter().map(|source| source.name.clone()).collect(),
            TopList::Destinations => self.destinations().iter().map(|one| one.name.clone()).collect(),
        }
    }

    /// The place of the selected row of the current list.
    pub fn selected_at(&self) -> usize {
        let selected = self.selected[self.list as usize].as_ref();
        selected.and_then(|name| self.names().iter().position(|one| one == name)).unwrap_or_default()
    }

    /// The name of the selected row of the current list.
    pub fn selected_name(&self) -> Option<String> {
        self.names().into_iter().nth(self.selected_at())
    }

    /// The plot that the screen shows.
    pub fn plot(&self) -> Option<PlotOf> {
        let name = self.selected_name().filter(|_| self.drilled)?;
        Some(match self.list {
            TopList::Sources => PlotOf::Source(name),
            TopList::Destinations => PlotOf::Destination(name),
        })
    }
}

fn falling(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::{BacklogStatus, Urgency};

    fn state() -> TopState {
        let destination = |name: &str, urgency, rate, waiting| DestinationStatus {
            name: name.into(),
            urgency,
            delivered_per_s: rate,
            backlog: BacklogStatus { memory_events: waiting, ..BacklogStatus::default() },
            ..DestinationStatus::default()
        };
        let source = |name: &str, lag_s| SourceStatus { name: name.into(), lag_s, ..SourceStatus::default() };
        let mut state = TopState::default();
        state.update(Ok(Overview {
            sources: vec![source("a", Some(1.0)), source("b", None), source("c", Some(9.0))],
            destinations: vec![
                destination("x", Urgency::Critical, 0.0, 5),
                destination("z", Urgency::Ok, 7.0, 0),
                destination("y", Urgency::Ok, 9.0, 2),
            ],
            ..Overview::default()
        }));
        state
    }

    fn press(state: &mut TopState, code: KeyCode) -> bool {
        state.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn names(state: &TopState) -> String {
        state.destinations().iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn lists_are_sorted_by_each_column() {
        let mut state = state();
        let mut orders = Vec::new();
        for _ in 0..6 {
            orders.push((state.sort.as_str(), names(&state)));
            press(&mut state, KeyCode::Char('s'));
        }
        let expected = [
            ("urgency", "xzy"),
            ("name", "xyz"),
            ("events/s", "yzx"),
            ("waiting", "xyz"),
            ("oldest", "xzy"),
            ("p99", "xzy"),
        ];
        assert_eq!(orders, expected.map(|(sort, names)| (sort, names.to_owned())));
        press(&mut state, KeyCode::Char('r'));
        assert_eq!(names(&state), "yzx");
        (state.sort, state.is_reversed) = (TopSort::Waiting, false);
        assert_eq!(state.sources().iter().map(|one| one.name.as_str()).collect::<String>(), "cab");
    }

    #[test]
    fn the_selection_follows_its_row_and_stays_in_the_list() {
        let mut state = state();
        press(&mut state, KeyCode::Down);
        assert_eq!(state.selected_name().as_deref(), Some("z"));
        (state.sort, state.is_reversed) = (TopSort::Name, false);
        assert_eq!((state.selected_at(), state.selected_name().as_deref()), (2, Some("z")));
        for (key, expected) in [
            (KeyCode::Down, "z"),
            (KeyCode::PageUp, "x"),
            (KeyCode::Up, "x"),
            (KeyCode::End, "z"),
            (KeyCode::Home, "x"),
        ] {
            press(&mut state, key);
            assert_eq!(state.selected_name().as_deref(), Some(expected), "{key:?}");
        }
        press(&mut state, KeyCode::Tab);
        assert_eq!(state.selected_name().as_deref(), Some("a"));
    }

    #[test]
    fn a_row_is_drilled_into_and_left() {
        let mut state = state();
        assert!(state.plot().is_none());
        assert!(press(&mut state, KeyCode::Enter), "it asks for the facts");
        assert!(matches!(state.plot(), Some(PlotOf::Destination(name)) if name == "x"));
        assert!(press(&mut state, KeyCode::Down), "the next row fills the screen");
        assert!(matches!(state.plot(), Some(PlotOf::Destination(name)) if name == "z"));
        press(&mut state, KeyCode::Esc);
        assert!(!state.drilled && !state.is_over);
        press(&mut state, KeyCode::Esc);
        assert!(state.is_over);
        let mut empty = TopState::default();
        assert!(!press(&mut empty, KeyCode::Enter) && !press(&mut empty, KeyCode::Down) && !empty.drilled);
        empty.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(empty.is_over);
    }

    #[test]
    fn a_paused_screen_keeps_its_facts_and_tells_of_trouble() {
        let mut state = state();
        press(&mut state, KeyCode::Char('p'));
        state.update(Ok(Overview::default()));
        assert_eq!(names(&state), "xzy");
        state.update(Err("gone".into()));
        assert_eq!(state.trouble.as_deref(), Some("gone"));
        assert!(press(&mut state, KeyCode::Char('p')));
        state.update(Ok(Overview::default()));
        assert_eq!((names(&state).as_str(), &state.trouble), ("", &None));
    }
}
