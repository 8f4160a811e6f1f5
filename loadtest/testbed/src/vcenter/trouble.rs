//! Troubles on demand, and the queue in which they wait for their calls.

use std::time::Duration;

/// A trouble of one call, which replaces the answer or changes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// The call is carried out; half of the answer arrives, then the connection ends.
    CutBody,
    /// The call is carried out; the connection is reset instead of an answer.
    LoseAnswer,
    /// The call is carried out; its answer comes this much later.
    Delay(Duration),
    /// The call is carried out; its answer comes in this many pieces with this pause between them.
    Drip(usize, Duration),
    /// The call is carried out; the answer has a byte in its middle that is not UTF-8.
    NotUtf8,
    /// The connection is reset; the call is not carried out.
    Reset,
    /// The answer is this HTTP status with an empty body; the call is not carried out.
    Status(u16),
    /// The answer is a proxy's HTML page with status 200; the call is not carried out.
    Html,
    /// There is never an answer; the call is not carried out.
    Hang,
    /// The answer is this fault (`RuntimeFault`, `NoPermission`, …); the call is not carried out.
    Fault(String),
    /// The answer is the one of a server that does not know the method.
    MethodNotFound,
}

pub(crate) struct ArmedTrouble {
    /// Name of the method; `*` for every method.
    pub method: String,
    pub left: u32,
    pub trouble: Trouble,
}

/// The trouble for this call, if one waits for it. Counts the trouble down.
pub(crate) fn take(armed: &mut Vec<ArmedTrouble>, method: &str) -> Option<Trouble> {
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
        let arm = |method: &str, left, trouble| ArmedTrouble { method: method.into(), left, trouble };
        let mut armed = vec![arm("A", 2, Trouble::Html), arm("*", u32::MAX, Trouble::Reset)];
        let taken: Vec<_> = ["A", "B", "A", "A"].map(|method| take(&mut armed, method)).into();
        let expected = [Trouble::Html, Trouble::Reset, Trouble::Html, Trouble::Reset];
        assert_eq!(taken, expected.map(Some));
        armed.clear();
        assert_eq!(take(&mut armed, "A"), None);
    }
}
