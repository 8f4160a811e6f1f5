//! What a target can do to the router, and that no event suffers from it: every fault against every processor, each a test.
//!
//! A cell is a whole pipeline with a real store: pages in by hand, one processor (or two) out, over TCP to a server that misbehaves as the row says. There are
//! two destinations, `on` and `off`, of which `on` meets the fault, and in each cell one event that `on` refuses for good. Whatever the row, afterwards
//!
//! - every other event was taken by its destination, none by the wrong one, none twice that was acknowledged,
//! - within the ordering scope nothing was sent after something later had been taken,
//! - the refused event is a dead letter, whole, and arrives with the id it always had when it is replayed,
//! - nothing is left in the spool, and everything is settled.
//!
//! ```text
//!              429  500  503  hang  half a  reset  slow    wrong  DNS  acknowledgement  part of     gateway gone
//!                                   body           accept  TLS         lost             a request   during refresh
//! CloudEvents   x    x    x    x     x       x      x       x      x         x           x (batch)   (asks nobody)
//! OpenFaaS      x    x    x    x     x       x      x       x      x         x           (one event) x
//! EventBridge   x    x    x    x     x       x      x       x      x         x           x           x (rules)
//! Knative       x    x    x    x     x       x      x       x      x         x           (one event) x (API server)
//! ```

mod cell;
mod column;
mod script;

use cell::{dns, partial, refresh_gone, scripted, slow_accept, wrong_tls};
use column::Column;
use script::Row;

/// The tests of the column that is `COLUMN` where this stands.
macro_rules! rows {
    ($($name:ident => $cell:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            #[allow(clippy::redundant_closure_call, reason = "a row is a function of the column")]
            ($cell)(COLUMN).await;
        }
    )*};
}

/// What befalls every processor that is sent one event a request.
macro_rules! rows_of_every_processor {
    () => {
        rows! {
            fault_429_with_retry_after => |column| scripted(column, Row::RetryAfter);
            fault_500 => |column| scripted(column, Row::Status500);
            fault_503 => |column| scripted(column, Row::Status503);
            fault_hang => |column| scripted(column, Row::Hang);
            fault_half_a_body => |column| scripted(column, Row::HalfBody);
            fault_reset => |column| scripted(column, Row::Reset);
            fault_acknowledgement_lost_after_the_function_ran => |column| scripted(column, Row::AcknowledgementLost);
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
        fault_acknowledgement_lost_after_the_function_ran => |column| scripted(column, Row::AcknowledgementLost);
    }
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
