//! The fault matrix: no event suffers from any fault of a target, a vCenter or the store.
//!
//! | module | fault of | met by |
//! |---|---|---|
//! | the columns below | a target | a pipeline around each processor: a cell |
//! | `blame` | the connection to a target | one request of each processor |
//! | `vcenter` | a vCenter | the router as a process |
//! | `store` | a store without room | a pipeline |
//! | `file` | the disk below the processor `file` | the router as a process |
//! | `nats` | a NATS server, or the router that publishes to it | the router as a process |
//! | `webhook` | a client of a webhook source, or its target | a router in this process |
//!
//! A cell is a pipeline with a real store. Hand-made pages go in, and one or two processors send
//! over TCP to a server with the fault of the row. Of the two destinations, `on` meets the fault
//! and refuses one event permanently; `off` works. After every row
//!
//! - every other event was taken by its destination, by no other, and acknowledged once,
//! - within the ordering scope nothing was sent after a later event had been taken,
//! - `off` got all its events while a lasting fault (503, hang, reset) kept all from `on`,
//! - the refused event is a whole dead letter, and a replay delivers it with its original id,
//! - nothing is left in the spool, and everything is settled.
//!
//! ```text
//!              429 500 503 all hang half reset slow   wrong DNS lost part of     refresh,
//!                                   body       accept TLS       ack  a request   no gateway
//! CloudEvents   x   x   x   x   x    x    x     x      x    x   x   (one event)  (no refresh)
//!   batched             x   x   x         x                     x    x
//! HTTP          x   x   x   x   x    x    x     x      x    x   x   (one event)  (no refresh)
//! OpenFaaS      x   x   x   x   x    x    x     x      x    x   x   (one event)   x
//! EventBridge   x   x   x   x   x    x    x     x      x    x   x    x            x (rules)
//! Knative       x   x   x   x   x    x    x     x      x    x   x   (one event)   x (API)
//! ```
//!
//! In `all` the target refuses everything, with each class of status in turn.

mod blame;
mod cell;
mod column;
mod file;
mod nats;
mod script;
mod store;
mod vcenter;
mod webhook;

use cell::{dns, partial, refresh_gone, refuses_everything, scripted, slow_accept, wrong_tls};
use column::Column;
use script::Row;

/// The tests of the column `COLUMN` of this place.
macro_rules! rows {
    ($($name:ident => $cell:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            #[allow(clippy::redundant_closure_call, reason = "a row is a function of the column")]
            ($cell)(COLUMN).await;
        }
    )*};
}

/// The rows of every processor that sends one event a request.
macro_rules! rows_of_every_processor {
    () => {
        rows! {
            fault_429_with_retry_after => |column| scripted(column, Row::RetryAfter);
            fault_500 => |column| scripted(column, Row::Status500);
            fault_503 => |column| scripted(column, Row::Status503);
            fault_refuses_everything => refuses_everything;
            fault_hang => |column| scripted(column, Row::Hang);
            fault_half_a_body => |column| scripted(column, Row::HalfBody);
            fault_reset => |column| scripted(column, Row::Reset);
            fault_lost_acknowledgement => |column| scripted(column, Row::AcknowledgementLost);
            fault_slow_accept => slow_accept;
            fault_wrong_tls => wrong_tls;
            fault_dns => dns;
        }
    };
}

mod cloudevents {
    use super::*;
    const COLUMN: Column = Column::CloudEvents;
    rows_of_every_processor!();
}

mod cloudevents_batched {
    use super::*;
    const COLUMN: Column = Column::CloudEventsBatched;
    rows! {
        fault_one_event_of_a_batch_is_refused => partial;
        fault_503 => |column| scripted(column, Row::Status503);
        fault_refuses_everything => refuses_everything;
        fault_hang => |column| scripted(column, Row::Hang);
        fault_reset => |column| scripted(column, Row::Reset);
        fault_lost_acknowledgement => |column| scripted(column, Row::AcknowledgementLost);
    }
}

mod http {
    use super::*;
    const COLUMN: Column = Column::Http;
    rows_of_every_processor!();
}

mod openfaas {
    use super::*;
    const COLUMN: Column = Column::OpenFaas;
    rows_of_every_processor!();
    rows! { fault_gateway_gone_during_refresh => refresh_gone; }
}

mod eventbridge {
    use super::*;
    const COLUMN: Column = Column::EventBridge;
    rows_of_every_processor!();
    rows! {
        fault_partial_put_events => partial;
        fault_gateway_gone_during_refresh => refresh_gone;
    }
}

mod knative {
    use super::*;
    const COLUMN: Column = Column::Knative;
    rows_of_every_processor!();
    rows! { fault_gateway_gone_during_refresh => refresh_gone; }
}
