//! Serves `event-router tap` on the control socket: live events until the client goes away.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{MissedTickBehavior, interval};

use super::control::ControlAnswer;
use super::model::Model;
use crate::cloudevents::{SEVERITIES_UNREAD, asks_for_severity};
use crate::limits::TAP_COUNTS_INTERVAL;
use crate::pipeline::destination::split_name;
use crate::pipeline::observe::tap::{Tap, TapFilter};

/// Writes the events that `filter` selects. A slow client misses some; it is told how many.
pub(super) async fn serve(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    filter: TapFilter,
    model: &Model,
) {
    let mut tap = match listen(filter.clone(), model) {
        Ok(tap) => tap,
        Err(refusal) => return send(&mut write, &ControlAnswer::Error(refusal)).await.unwrap_or_default(),
    };
    tracing::info!(?filter, "showing events on request");
    let mut ticks = interval(TAP_COUNTS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        let answer = tokio::select! {
            event = tap.next() => match event {
                Some(event) => ControlAnswer::Tapped(Box::new(event)),
                None => ControlAnswer::Done,
            },
            _ = ticks.tick() => {
                let counts = tap.counts();
                if told.replace(counts) == Some(counts) {
                    continue;
                }
                ControlAnswer::TapCounts(counts)
            }
            // The client sends nothing more, so this is its end.
            _ = read.read_u8() => {
                // It does not get them if it is gone.
                let _ = send(&mut write, &ControlAnswer::TapCounts(tap.counts())).await;
                ControlAnswer::Done
            }
        };
        let is_last = matches!(answer, ControlAnswer::Done);
        if send(&mut write, &answer).await.is_err() || is_last {
            return;
        }
    }
}

/// Begins to listen, unless the filter names a part that does not exist.
pub(super) fn listen(filter: TapFilter, model: &Model) -> Result<Tap, String> {
    let view = model.view();
    let known = |names: Vec<&str>| names.join(", ");
    if let Some(source) = &filter.source
        && !view.config.sources.iter().any(|one| one.name == *source)
    {
        let names = view.config.sources.iter().map(|one| &*one.name).collect();
        return Err(format!("no source `{source}`; there are: {}", known(names)));
    }
    if let Some(to) = &filter.to
        && !view.config.processors.iter().any(|one| one.name == split_name(to).0)
    {
        let names = view.config.processors.iter().map(|one| &*one.name).collect();
        return Err(format!("no destination `{to}`; there are the processors: {}", known(names)));
    }
    if filter.pattern.as_ref().is_some_and(asks_for_severity) && !view.config.wants_severities() {
        return Err(SEVERITIES_UNREAD.to_owned());
    }
    view.observations.tap().listen(filter).map_err(|refusal| refusal.to_string())
}

async fn send(write: &mut OwnedWriteHalf, answer: &ControlAnswer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}
