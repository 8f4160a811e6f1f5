//! Draws the screen of `top`. It fits 80 columns and 24 lines; more room shows more rows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::screen::{TopList, TopState};
use crate::admin::model::{DestinationStatus, Overview, PlotPoint, SourceStatus, Urgency, age};
use crate::cli::status::{fill, rate};
use crate::outside;

/// The colors of the screen.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// False if the user wants none (`NO_COLOR`).
    pub has_colors: bool,
}

impl Theme {
    fn urgency(self, urgency: Urgency) -> Style {
        let style = match urgency {
            Urgency::Critical | Urgency::Warning => Style::new().add_modifier(Modifier::BOLD),
            Urgency::Ok | Urgency::Notice => Style::new(),
        };
        match urgency {
            _ if !self.has_colors => style,
            Urgency::Ok => style.fg(Color::Green),
            Urgency::Notice => style.fg(Color::Cyan),
            Urgency::Warning => style.fg(Color::Yellow),
            Urgency::Critical => style.fg(Color::Red),
        }
    }

    fn head(self) -> Style {
        Style::new().add_modifier(Modifier::UNDERLINED)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

const KEYS: &str = " ↑↓ select  Enter open  Tab list  s sort  r reverse  p pause  q quit";
const DETAIL_KEYS: &str = " ↑↓ next  Esc back  p pause  q quit";

pub fn draw(frame: &mut Frame<'_>, state: &TopState, theme: Theme) {
    let [head, body, why, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, state, theme);
    let shown = if state.drilled { DETAIL_KEYS } else { KEYS };
    frame.render_widget(Paragraph::new(shown).style(theme.selected()), keys);
    if state.drilled {
        draw_detail(frame, body.union(why), state, theme);
        return;
    }
    // The sources take what they need, up to two fifths.
    let sources = state.sources().len() as u16 + 2;
    let most = (body.height * 2 / 5).max(3);
    let [upper, lower] =
        Layout::vertical([Constraint::Length(sources.clamp(3, most)), Constraint::Min(3)]).areas(body);
    draw_sources(frame, upper, state, theme);
    draw_destinations(frame, lower, state, theme);
    draw_why(frame, why, state, theme);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &TopState, theme: Theme) {
    let Some(overview) = &state.overview else {
        let text = state.trouble.as_deref().map_or("asking the router …".to_owned(), outside::cell);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    };
    let verdict = match overview.urgency {
        Urgency::Ok | Urgency::Notice => "all is well",
        Urgency::Warning | Urgency::Critical => "needs attention",
    };
    let order = if state.is_reversed { " reversed" } else { "" };
    let paused = if state.is_paused { "  PAUSED" } else { "" };
    let first = Line::from(vec![
        Span::raw(format!("event-router {}  up {}  ", overview.version, age(overview.uptime_s as f64))),
        Span::styled(verdict, theme.urgency(overview.urgency)),
        Span::raw(format!("  sorted by {}{order}", state.sort.as_str())),
        Span::styled(paused, theme.selected()),
    ]);
    let second = match &state.trouble {
        Some(trouble) => Line::styled(outside::cell(trouble), theme.urgency(Urgency::Critical)),
        None => Line::raw(format!(
            "memory {}  dead letters {}",
            fill(overview.memory.used_bytes, overview.memory.limit_bytes),
            fill(overview.dead_letters.used_bytes, overview.dead_letters.limit_bytes)
        )),
    };
    frame.render_widget(Paragraph::new(vec![first, second]), area);
}

fn draw_sources(frame: &mut Frame<'_>, area: Rect, state: &TopState, theme: Theme) {
    let row = |source: &&SourceStatus| {
        Row::new([
            Cell::from(outside::cell(&source.name)),
            Cell::from(source.state.clone()).style(theme.urgency(source.urgency)),
            Cell::from(rate(source.events_per_s)),
            Cell::from(source.events_total.to_string()),
            Cell::from(source.lag_s.map_or_else(|| "-".to_owned(), age)),
            Cell::from(source.position.clone().unwrap_or_else(|| "-".to_owned())),
        ])
    };
    let rows: Vec<Row<'_>> = state.sources().iter().map(row).collect();
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Length(20),
    ];
    let head = ["SOURCE", "STATE", "EVENTS/S", "EVENTS", "LAG", "POSITION"];
    draw_table(frame, area, state, theme, TopList::Sources, (head.as_slice(), &widths, rows));
}

fn draw_destinations(frame: &mut Frame<'_>, area: Rect, state: &TopState, theme: Theme) {
    let row = |one: &&DestinationStatus| {
        let waiting = one.backlog.events();
        Row::new([
            Cell::from(outside::cell(&one.name)),
            Cell::from(condition(one)).style(theme.urgency(one.urgency)),
            Cell::from(rate(one.delivered_per_s)),
            Cell::from(waiting.to_string()),
            Cell::from(if waiting == 0 { "-".to_owned() } else { age(one.backlog.oldest_s) }),
            Cell::from(milliseconds(one.request_p99_s)),
            Cell::from(one.dead_letters.to_string()),
        ])
    };
    let rows: Vec<Row<'_>> = state.destinations().iter().map(row).collect();
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(6),
    ];
    let head = ["DESTINATION", "STATE", "EVENTS/S", "WAITING", "OLDEST", "P99", "DEAD"];
    draw_table(frame, area, state, theme, TopList::Destinations, (head.as_slice(), &widths, rows));
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &TopState,
    theme: Theme,
    list: TopList,
    (head, widths, rows): (&[&'static str], &[Constraint], Vec<Row<'_>>),
) {
    let table = Table::new(rows, widths)
        .header(Row::new(head.iter().copied()).style(theme.head()))
        .row_highlight_style(theme.selected());
    let mut place = TableState::default();
    if state.list == list && state.overview.is_some() {
        place.select(Some(state.selected_at()));
    }
    frame.render_stateful_widget(table, area, &mut place);
}

/// The reason for the urgency of the selected row.
fn draw_why(frame: &mut Frame<'_>, area: Rect, state: &TopState, theme: Theme) {
    let (urgency, text) = match state.list {
        TopList::Sources => {
            let sources = state.sources();
            let source = sources.get(state.selected_at());
            source.map_or((Urgency::Ok, String::new()), |one| (one.urgency, reason(&one.name, &one.why)))
        }
        TopList::Destinations => {
            let destinations = state.destinations();
            let destination = destinations.get(state.selected_at());
            destination.map_or((Urgency::Ok, String::new()), |one| (one.urgency, reason(&one.name, &one.why)))
        }
    };
    let text = Paragraph::new(text).style(theme.urgency(urgency)).wrap(Wrap { trim: true });
    frame.render_widget(text, area);
}

fn reason(name: &str, why: &Option<String>) -> String {
    match why {
        None => String::new(),
        Some(why) => outside::cell(&format!("{name}: {why}")),
    }
}

/// The state of a destination in one word.
fn condition(one: &DestinationStatus) -> &'static str {
    match () {
        () if one.store_full => "store full",
        () if one.refuses_all => "refuses",
        () if one.breaker_open => "down",
        () if one.spooling => "spooling",
        () if one.urgency.needs_attention() => "behind",
        () => "ok",
    }
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.0} ms", seconds * 1e3))
}

/// One source or destination: facts, plots of the last hour, and its failures or event types.
fn draw_detail(frame: &mut Frame<'_>, area: Rect, state: &TopState, theme: Theme) {
    let Some(overview) = &state.overview else { return };
    let name = state.selected_name().unwrap_or_default();
    let (urgency, facts, list) = match state.list {
        TopList::Sources => of_source(overview, &name, state),
        TopList::Destinations => of_destination(overview, &name),
    };
    let facts_height = (facts.len() as u16 + 1).min(area.height / 2);
    let [upper, plots, lower] =
        Layout::vertical([Constraint::Length(facts_height), Constraint::Length(5), Constraint::Min(1)])
            .areas(area);
    let mut lines =
        vec![Line::styled(outside::cell(&name), theme.urgency(urgency).add_modifier(Modifier::BOLD))];
    lines.extend(facts.into_iter().map(Line::raw));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), upper);
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(plots);
    let points = &state.detail.plot;
    draw_plot(frame, left, "events/s, last hour", points, |point| point.events_per_s, theme);
    match state.list {
        TopList::Sources => draw_plot(frame, right, "lag in s", points, |point| point.oldest_s, theme),
        TopList::Destinations => {
            draw_plot(frame, right, "waiting events", points, |point| point.backlog_events, theme);
        }
    }
    frame.render_widget(Paragraph::new(Text::from(list)), lower);
}

type Detail = (Urgency, Vec<String>, Vec<Line<'static>>);

fn of_source(overview: &Overview, name: &str, state: &TopState) -> Detail {
    let Some(one) = overview.sources.iter().find(|one| one.name == name) else { return Detail::default() };
    let mut facts = vec![
        outside::cell(&format!("{} at {}", one.kind, one.address)),
        format!("state {}, lag {}", one.state, one.lag_s.map_or_else(|| "unknown".to_owned(), age)),
        format!(
            "{} events/s, {} events, {} unreadable, position {}",
            rate(one.events_per_s),
            one.events_total,
            one.unreadable_events_total,
            one.position.as_deref().unwrap_or("none")
        ),
    ];
    facts.extend(one.why.as_ref().map(|why| outside::cell(why)));
    let head = Line::styled("EVENTS  LAST HOUR  TYPE", Style::new().add_modifier(Modifier::UNDERLINED));
    let row = |counted: &crate::admin::model::EventTypeStatus| {
        let subject = outside::cell(&counted.subject);
        Line::raw(format!("{:>6}  {:>9}  {subject}", counted.events_total, counted.events_last_hour))
    };
    let rows = state.detail.types.iter().map(row);
    (one.urgency, facts, std::iter::once(head).chain(rows).collect())
}

fn of_destination(overview: &Overview, name: &str) -> Detail {
    let found = overview.destinations.iter().find(|one| one.name == name);
    let Some(one) = found else { return Detail::default() };
    let backlog = &one.backlog;
    let mut facts = vec![
        format!(
            "{}, {} requests in flight, breaker {}",
            condition(one),
            one.requests_in_flight,
            if one.breaker_open { "open" } else { "closed" }
        ),
        format!(
            "{} events/s, {} delivered, {} retried, {} dead letters in the store",
            rate(one.delivered_per_s),
            one.delivered_events_total,
            one.retried_events_total,
            one.dead_letters
        ),
        format!(
            "waiting: {} in memory, {} on disk, the oldest {}",
            backlog.memory_events,
            backlog.spool_events,
            if backlog.events() == 0 { "-".to_owned() } else { age(backlog.oldest_s) }
        ),
        format!("answers: p50 {}, p99 {}", milliseconds(one.request_p50_s), milliseconds(one.request_p99_s)),
    ];
    if let Some(address) = &one.address {
        facts.insert(0, outside::cell(address));
    }
    facts.extend(one.why.as_ref().map(|why| outside::cell(why)));
    let mut lines = Vec::new();
    for failure in &one.failures {
        let last = failure.last.get(11..19).unwrap_or_default();
        lines.push(Line::raw(format!(
            "{last}  {} requests: {}",
            failure.requests,
            outside::cell(&failure.reason)
        )));
        if !failure.said.is_empty() && !failure.reason.contains(failure.said.trim()) {
            lines.push(Line::raw(format!("          it said: {}", outside::cell(&failure.said))));
        }
    }
    if !lines.is_empty() {
        let head = "FAILURES, THE LATEST FIRST (UTC)";
        lines.insert(0, Line::styled(head, Style::new().add_modifier(Modifier::UNDERLINED)));
    }
    (one.urgency, facts, lines)
}

/// A plot of one value; its title has the latest and the highest one.
fn draw_plot(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    points: &[PlotPoint],
    value: impl Fn(&PlotPoint) -> f32,
    theme: Theme,
) {
    let values: Vec<f32> = points.iter().map(value).collect();
    let highest = values.iter().copied().fold(0.0, f32::max);
    let latest = values.last().copied().unwrap_or_default();
    let title = format!("{title}: {} (most {})", rate(latest.into()), rate(highest.into()));
    // One column for each stretch of the hour: the highest value in it.
    let width = usize::from(area.width).max(1);
    let per_column = values.len().div_ceil(width).max(1);
    let scale = |value: f32| if highest > 0.0 { (value / highest * 800.0) as u64 } else { 0 };
    let columns: Vec<u64> =
        values.chunks(per_column).map(|part| scale(part.iter().copied().fold(0.0, f32::max))).collect();
    let style = if theme.has_colors { Style::new().fg(Color::Cyan) } else { Style::new() };
    let plot = Sparkline::default().block(Block::new().title(title)).data(&columns).max(800).style(style);
    frame.render_widget(plot, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::admin::model::{BacklogStatus, EventTypeStatus, FailureStatus, Fill};

    fn state() -> TopState {
        let failure = FailureStatus {
            last: "2026-12-01T03:04:05Z".into(),
            requests: 7,
            reason: "HTTP 503 Service Unavailable".into(),
            said: "no replicas\u{1b}".into(),
            ..FailureStatus::default()
        };
        let failing = DestinationStatus {
            name: "functions/tag-vm.openfaas-fn".into(),
            address: Some("http://gateway:8080/function/tag-vm".into()),
            urgency: Urgency::Critical,
            why: Some("the target takes nothing: HTTP 503; 1200 events wait, the oldest 12 min old".into()),
            backlog: BacklogStatus { memory_events: 1_200, oldest_s: 720.0, ..BacklogStatus::default() },
            breaker_open: true,
            failures: vec![failure],
            ..DestinationStatus::default()
        };
        let well = DestinationStatus {
            name: "siem".into(),
            delivered_events_total: 48_200,
            delivered_per_s: 812.0,
            request_p99_s: Some(0.0123),
            ..DestinationStatus::default()
        };
        let source = |name: &str, urgency, state: &str| SourceStatus {
            name: name.into(),
            urgency,
            state: state.into(),
            events_total: 49_400,
            events_per_s: 812.5,
            lag_s: Some(0.4),
            position: Some("2026-12-01T03:04:05Z".into()),
            ..SourceStatus::default()
        };
        let mut state = TopState::default();
        state.update(Ok(Overview {
            version: "1.0.0".into(),
            uptime_s: 7_200,
            urgency: Urgency::Critical,
            memory: Fill { used_bytes: 1 << 20, limit_bytes: 24 << 20 },
            sources: vec![source("vc2", Urgency::Critical, "failed"), source("vc1", Urgency::Ok, "waiting")],
            destinations: vec![failing, well],
            ..Overview::default()
        }));
        let point = |at: u32| PlotPoint {
            at,
            events_per_s: at as f32,
            backlog_events: (40 - at) as f32,
            ..PlotPoint::default()
        };
        state.detail.plot = (0..40).map(point).collect();
        state.detail.types = vec![EventTypeStatus {
            subject: "VmPoweredOnEvent".into(),
            events_total: 320,
            events_last_hour: 12,
            ..EventTypeStatus::default()
        }];
        state
    }

    fn screen(state: &TopState, (columns, lines): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a terminal");
        terminal.draw(|frame| draw(frame, state, Theme { has_colors: false })).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content.chunks(usize::from(columns));
        let row = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()
        };
        rows.map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_lists_fit_a_small_terminal() {
        insta::assert_snapshot!("top_lists", screen(&state(), (80, 24)));
    }

    #[test]
    fn a_destination_shows_its_failures_in_the_targets_words() {
        let mut state = state();
        state.drilled = true;
        insta::assert_snapshot!("top_destination", screen(&state, (80, 24)));
        state.list = TopList::Sources;
        insta::assert_snapshot!("top_source", screen(&state, (80, 24)));
    }

    #[test]
    fn any_size_of_the_terminal_can_be_drawn() {
        let mut state = state();
        for drilled in [false, true] {
            state.drilled = drilled;
            for size in [(1, 1), (10, 3), (20, 5), (80, 8), (300, 100)] {
                screen(&state, size);
            }
        }
        screen(&TopState::default(), (80, 24));
    }
}
