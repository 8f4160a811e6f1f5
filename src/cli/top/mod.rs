//! `event-router top`: live rates, lag, backlog and latency of the running router, in a terminal.
//!
//! ```text
//!  asking thread ── answers ──► TopState (screen.rs) ──► draw.rs ──► terminal
//!       ▲                            ▲
//!       └── what to ask ─────────────┴── keys, signals
//! ```
//!
//! The asking thread talks to the control socket, so that a router that answers slowly does not
//! hold up the keys.
//!
//! INVARIANT: the terminal is restored on every way out: a key, a signal, an error, a panic.

mod draw;
mod screen;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use self::draw::{Theme, draw};
use self::screen::{TopDetail, TopState};
use super::Exit;
use super::state::StateArgs;
use super::status::ask;
use crate::admin::control::{ControlAnswer, ControlClient, ControlRequest, PlotOf};
use crate::admin::model::Overview;
use crate::limits::{TOP_INTERVAL, TOP_KEY_WAIT, TOP_TYPES_MAX};

/// Watch the running router in a terminal: rates, lag, backlog, latency and circuit breakers by
/// source and destination.
///
/// Lists begin with what needs attention. Enter opens a source or destination: plots of the last
/// hour, its last failures in the target's words, or its event types. The last line shows the keys.
///
/// Rates are those of the last 5 seconds. Colors are off if `NO_COLOR` is set.
#[derive(Debug, Args)]
#[command(after_help = "Keys:
  Up, Down, j, k   select a row            Enter   open it
  Tab              the other list          Esc     back, or the end
  s                sort by the next column r       reverse the order
  p                pause                   q       end")]
pub struct TopArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// The answers to one round of questions.
struct TopAnswers {
    overview: Result<Overview, String>,
    /// The plot of this part, if it was asked for.
    detail: Option<(PlotOf, TopDetail)>,
}

pub(super) fn run(args: &TopArgs) -> anyhow::Result<Exit> {
    let located = match args.state.locate()? {
        Ok(located) => located,
        Err(end) => return Ok(end),
    };
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("`top` needs a terminal; `event-router status --json` prints the same facts");
    }
    // A missing router is told of before the screen changes.
    let first = ask(&located.dir)?;
    let ended = ended_by_signal()?;
    let mut state = TopState::default();
    state.update(Ok(first));
    let terminal = TopTerminal::enter()?;
    watch(terminal, &mut state, located.dir, &ended.0)?;
    Ok(Exit::Done)
}

/// The terminal in raw mode, on its alternate screen. Dropping it restores the terminal, and so
/// does a panic.
struct TopTerminal(ratatui::DefaultTerminal);

impl TopTerminal {
    fn enter() -> anyhow::Result<Self> {
        ratatui::try_init().map(TopTerminal).context("cannot use the terminal")
    }
}

impl Drop for TopTerminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Notes a signal that ends the process. The runtime runs as long as the second value lives.
fn ended_by_signal() -> anyhow::Result<(Arc<AtomicBool>, tokio::runtime::Runtime)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    let ended = Arc::<AtomicBool>::default();
    let context = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let (mut signals, ended) = (signal(kind)?, Arc::clone(&ended));
        runtime.spawn(async move {
            signals.recv().await;
            ended.store(true, Relaxed);
        });
    }
    drop(context);
    Ok((ended, runtime))
}

/// Shows the router until a key or a signal ends it.
fn watch(
    mut terminal: TopTerminal,
    state: &mut TopState,
    dir: PathBuf,
    ended: &AtomicBool,
) -> anyhow::Result<()> {
    // One question and one answer are under way at most.
    let (questions, asked) = mpsc::sync_channel::<Option<PlotOf>>(1);
    let (answer, answers) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("asking".into())
        .spawn(move || asking(&dir, &asked, &answer))
        .context("cannot start a thread")?;
    let theme = Theme { has_colors: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) };
    let mut next = Instant::now();
    let mut is_asking = false;
    while !state.is_over && !ended.load(Relaxed) {
        if !is_asking && next <= Instant::now() && (!state.is_paused || state.drilled) {
            is_asking = questions.try_send(state.plot()).is_ok();
            next = Instant::now() + TOP_INTERVAL;
        }
        if let Ok(TopAnswers { overview, detail }) = answers.try_recv() {
            is_asking = false;
            state.update(overview);
            if let Some((of, detail)) = detail
                && state.plot().is_some_and(|now| now == of)
            {
                state.detail = detail;
            }
        }
        terminal.0.draw(|frame| draw(frame, state, theme)).context("cannot draw")?;
        if event::poll(TOP_KEY_WAIT).context("cannot read keys")?
            && let Event::Key(key) = event::read().context("cannot read keys")?
            && key.kind != KeyEventKind::Release
            && state.key(key)
        {
            next = Instant::now();
        }
    }
    Ok(())
}

/// Asks the router as often as it is told to.
fn asking(dir: &Path, asked: &mpsc::Receiver<Option<PlotOf>>, answer: &mpsc::SyncSender<TopAnswers>) {
    while let Ok(plot) = asked.recv() {
        let overview = ask(dir).map_err(|error| format!("{error:#}"));
        let detail = plot.and_then(|of| Some((of.clone(), detail(dir, &of).ok()?)));
        if answer.send(TopAnswers { overview, detail }).is_err() {
            return;
        }
    }
}

/// The facts about one source or destination.
fn detail(dir: &Path, of: &PlotOf) -> anyhow::Result<TopDetail> {
    let mut detail = TopDetail::default();
    let mut requests = vec![ControlRequest::Plot(of.clone())];
    if let PlotOf::Source(name) = of {
        requests.push(ControlRequest::EventTypes { source: Some(name.clone()), samples: false });
    }
    for request in requests {
        let client = ControlClient::connect(dir)?.context("the router has stopped")?;
        client.ask(&request, |answer| match answer {
            ControlAnswer::Plot(points) => detail.plot = points,
            ControlAnswer::EventType(counted) if detail.types.len() < TOP_TYPES_MAX => {
                detail.types.push(*counted);
            }
            _ => {}
        })?;
    }
    Ok(detail)
}
