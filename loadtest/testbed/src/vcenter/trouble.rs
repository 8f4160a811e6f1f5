//! Troubles on demand, and the queue in which they wait for their calls.

use std::time::Duration;

/// A trouble of one call, instead of its answer or on top of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// The call is carried out; half of the answer arrives, then the connection ends.
    CutBody,
    /// The call is carried out; the connection is reset instead of an answer.
    LoseAnswer,
    /// The call is carried out; its answer comes this much later.
    Delay(Duration),
    /// The call is carried out; its answer comes in so many pieces with this pause between them.
    Drip(usize, Duration),
    /// The call is carried out; the answer has a byte in its middle that is not UTF-8.
    NotUtf8,
    /// The connection is reset, the call not carried out.
    Reset,
    /// This HTTP status with an empty body, the call not carried out.
    Status(u16),
    /// A proxy's HTML page with status 200, the call not carried out.
    Html,
    /// No answer ever, the call not carried out.
    Hang,
    /// This fault (`RuntimeFault`, `NoPermission`, …), the call not carried out.
    Fault(String),
    /// As if the server did not know the method.
    MethodNotFound,
}

pub(crate) struct Armed {
    /// `*` is every method.
    pub method: String,
    pub left: u32,
    pub trouble: Trouble,
}

/// The trouble for this call, if one is armed; counts it down.
pub(crate) fn take(armed: &mut Vec<Armed>, method: &str) -> Option<Trouble> {
    let at = armed.iter().position(|armed| armed.method == "*" || armed.method == method)?;
    let entry = &mut armed[at];
    let trouble = entry.trouble.clone();
    if entry.left != u32::MAX {
        entry.left -= 1;
    }
    if entry.left == 0 {
        armed.remove(at);
    }
    Some(trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_taken_in_order_and_run_out() {
        let arm = |method: &str, left, trouble| Armed { method: method.into(), left, trouble };
        let mut armed = vec![arm("A", 2, Trouble::Html), arm("*", u32::MAX, Trouble::Reset)];
        let taken: Vec<_> = ["A", "B", "A", "A"].map(|method| take(&mut armed, method)).into();
        let expected = [Trouble::Html, Trouble::Reset, Trouble::Html, Trouble::Reset];
        assert_eq!(taken, expected.map(Some));
        armed.clear();
        assert_eq!(take(&mut armed, "A"), None);
    }
}
