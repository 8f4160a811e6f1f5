//! Reading past a page that vCenter refuses to send. [`rows`] describes the procedure and keeps the
//! list of such rows; this is the cursor's part in it.

use super::{Cursor, Step};
use crate::limits::{PAGE_RESERVE_BYTES, VERDICT_WAIT};
use crate::source::vcenter::api::EventApi;
use crate::source::vcenter::client::CallError;
use crate::source::vcenter::link::{Link, LinkError};
use crate::source::vcenter::rows::{self, Behind, RowPlace};
use vsphere::api::MoRef;
use vsphere::decode::salvage;

impl Cursor {
    /// Handles a read that vCenter refused. The next read starts at the same place again, or reads
    /// the page in halves, or steps over the one row that vCenter cannot send.
    pub(super) async fn refused<A: EventApi>(
        &mut self,
        link: &Link<A>,
        collector: &MoRef,
        size: u32,
        error: CallError,
    ) -> Result<Step, LinkError> {
        // The place of the row follows from the pages before it, so their verdicts are needed.
        self.settle_in_flight(link, Some(VERDICT_WAIT)).await;
        if self.collector.as_ref() != Some(collector) {
            return Err(error.into());
        }
        if !self.is_settled() {
            self.rebuild(link);
            return Err(error.into());
        }
        let answers = !self.recent_us.is_empty();
        if size > 1 {
            // Only the reader retries at first: it meets the page before the sweep does.
            if self.careful.is_none() && self.live && !self.refusals.count(self.position_us) {
                self.rebuild(link);
                return Err(error.into());
            }
            if self.careful.is_none() {
                tracing::debug!(source = %link.name, events = size, %error, "vCenter refuses to send a page; reading it again in halves");
            }
            self.halve(link, size);
            // As long as this collector has returned no page, vCenter may be refusing every read.
            return if answers { Ok(Step::Page { full: true }) } else { Err(error.into()) };
        }
        let created_us = self.recent_us.back().copied().unwrap_or(self.begun_us);
        let place = RowPlace { key: if answers { self.last_key } else { None }, created_us };
        if !link.rows().refused(place) {
            self.rebuild(link);
            return Err(error.into());
        }
        self.step_over_row(link, collector, place, answers, &error).await
    }

    /// Continues behind the row at `place`, which vCenter refused with `error`.
    async fn step_over_row<A: EventApi>(
        &mut self,
        link: &Link<A>,
        collector: &MoRef,
        place: RowPlace,
        answers: bool,
        error: &CallError,
    ) -> Result<Step, LinkError> {
        // By count: the refused read may have moved the server's cursor past the row.
        let permit = link.take(PAGE_RESERVE_BYTES);
        let refused = match link.read_next(collector, 1).await {
            Ok(Some(body)) => {
                let next = salvage::position(body.wire, &body.bytes);
                let behind = next.map_or(Behind::Nothing, Behind::Event);
                rows::step_over(link, place, behind, error, &self.verdicts.0).await?;
                if let Some(careful) = &mut self.careful {
                    careful.left = self.single_events;
                }
                self.poison_us = next.map(|next| next.created_us);
                return self.page(link, body, permit, 1).await;
            }
            Ok(None) if answers => {
                rows::step_over(link, place, Behind::Nothing, error, &self.verdicts.0).await?;
                self.careful = None;
                return Ok(Step::Empty);
            }
            Err(refused) if rows::is_refusal(&refused) => refused,
            Ok(None) => {
                self.rebuild(link);
                return Ok(Step::Empty);
            }
            Err(error) => {
                self.rebuild(link);
                return Err(error.into());
            }
        };
        // By time: a new collector begins behind the row.
        self.rebuild(link);
        let Some(row_us) = rows::created_us(link, place, self.end_us, answers).await? else {
            return Err(refused.into());
        };
        rows::step_over(link, place, Behind::Row(row_us), error, &self.verdicts.0).await?;
        // No event lies between the place and the row.
        self.jump(link, row_us + 1);
        self.poison_us = Some(row_us + 1);
        Ok(Step::Page { full: true })
    }
}
