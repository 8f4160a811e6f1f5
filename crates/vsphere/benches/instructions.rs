//! Counts the instructions that decoding takes. Other work on the machine does not affect this
//! count, so it shows small regressions.
//!
//! `cargo bench --bench instructions` runs itself under callgrind twice for each case, with one
//! page and with eleven. The difference is the cost of ten pages. It needs `valgrind` on the PATH.
//! Callgrind runs the AVX2 code if the processor has it.

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

use vsphere::decode::{decode_first, reference};
use vsphere::{DecodeError, Decoded};

const PAGE: &[u8] = include_bytes!("../../../tests/fixtures/golden/page1000.xml");
const EVENTS: u64 = 1_000;
/// Set for the process that callgrind measures: `CASE PAGES`.
const COUNTED: &str = "EVENT_ROUTER_COUNTED";
/// The first page also pays for the arena and for tables that are built once. Both runs include it.
const PAGES: [u64; 2] = [1, 11];

type Decode = fn(&[u8], &mut Decoded) -> Result<usize, DecodeError>;

const CASES: [(&str, Decode); 2] = [("fast", decode_first), ("reference", reference::decode)];

fn work(case: &str, pages: u64) {
    let (_, decode) = CASES.iter().find(|(name, _)| *name == case).expect("the parent names a case");
    let mut decoded = Decoded::default();
    for _ in 0..pages {
        decode(black_box(PAGE), &mut decoded).expect("the golden page is well-formed");
        assert_eq!(decoded.records.len() as u64, EVENTS);
    }
}

/// Runs a case under callgrind and returns its count, from the last line: `Collected : 123`.
fn count(case: &str, pages: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .env(COUNTED, format!("{case} {pages}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run valgrind: {error} (install the package valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().rev().find_map(|line| line.split_once("Collected :"));
    counted
        .and_then(|(_, number)| number.trim().parse().ok())
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("valgrind {}: {said}", output.status))
}

fn main() -> ExitCode {
    if let Ok(counted) = std::env::var(COUNTED) {
        let (case, pages) = counted.split_once(' ').expect("the parent writes two words");
        work(case, pages.parse().expect("the parent writes a number"));
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` only checks that the program starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    println!(
        "instructions to decode tests/fixtures/golden/page1000.xml, {} bytes per event",
        PAGE.len() as u64 / EVENTS
    );
    for (case, _) in CASES {
        let [few, many] = match PAGES.map(|pages| count(case, pages)) {
            [Ok(few), Ok(many)] => [few, many],
            [Err(error), _] | [_, Err(error)] => {
                eprintln!("instructions: {error}");
                return ExitCode::FAILURE;
            }
        };
        let events = (PAGES[1] - PAGES[0]) * EVENTS;
        println!("{case:<12} {:>8} per event", (many - few) / events);
    }
    ExitCode::SUCCESS
}
