//! Questions on a terminal. They go to standard error, so that standard output stays a report.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write, stderr, stdin};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use super::InitUsageError;
use crate::limits::INIT_ANSWER_BYTES_MAX;
use crate::outside;

/// Checks an answer, and returns it in the form that is used.
pub(super) type Check = fn(&str) -> Result<String, String>;

/// A person at a terminal; nobody without one.
pub(super) struct Questions {
    input: Option<Box<dyn BufRead>>,
}

impl Questions {
    pub fn on_terminal() -> Self {
        let is_terminal = stdin().is_terminal() && stderr().is_terminal();
        let input = is_terminal.then(|| Box::new(BufReader::new(stdin())) as Box<dyn BufRead>);
        Questions { input }
    }

    #[cfg(test)]
    pub fn answered(input: Option<&'static str>) -> Self {
        Questions { input: input.map(|text| Box::new(text.as_bytes()) as Box<dyn BufRead>) }
    }

    /// The value of a flag, or else the answer to a question. It asks again after an answer that
    /// `check` refuses. An empty answer means the default, if there is one.
    pub fn value(
        &mut self,
        flag: &str,
        given: Option<&str>,
        question: &str,
        default: Option<&str>,
        check: Check,
    ) -> anyhow::Result<String> {
        if let Some(given) = given {
            return check(given).map_err(|reason| InitUsageError(format!("`--{flag}` {reason}")).into());
        }
        if self.input.is_none() {
            return match default {
                Some(default) => Ok(default.to_owned()),
                None => Err(missing(flag)),
            };
        }
        let shown = default.filter(|text| !text.is_empty()).map(|text| format!(" [{text}]"));
        let shown = shown.unwrap_or_default();
        loop {
            let answer = self.line(&format!("{question}{shown}: "))?;
            let answer = if answer.is_empty() { default.unwrap_or_default() } else { &answer };
            match check(answer) {
                Ok(value) => return Ok(value),
                Err(reason) => eprintln!("  It {}.", outside::text(&reason, 400)),
            }
        }
    }

    /// The answer to a question for a secret, which the terminal does not show.
    pub fn secret(&mut self, flags: &str, question: &str) -> anyhow::Result<String> {
        if self.input.is_none() {
            return Err(missing(flags));
        }
        loop {
            let hidden = NoEcho::begin();
            let answer = self.line(&format!("{question} (not shown): "));
            drop(hidden);
            eprintln!();
            let answer = answer?;
            if !answer.is_empty() {
                return Ok(answer);
            }
        }
    }

    /// Returns true if a person answers yes; `None` without a person.
    pub fn agreed(&mut self, question: &str) -> anyhow::Result<Option<bool>> {
        if self.input.is_none() {
            return Ok(None);
        }
        let answer = self.line(&format!("{question} [y/N]: "))?;
        Ok(Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
    }

    fn line(&mut self, prompt: &str) -> anyhow::Result<String> {
        let input = self.input.as_mut().context("there is no terminal")?;
        eprint!("{prompt}");
        stderr().flush()?;
        let mut line = Vec::new();
        let mut input = input.take(INIT_ANSWER_BYTES_MAX);
        loop {
            let read = input.fill_buf().context("cannot read an answer")?;
            let end = read.iter().position(|byte| *byte == b'\n' || INTERRUPTS.contains(byte));
            let taken = end.map_or(read.len(), |at| at + 1);
            line.extend_from_slice(&read[..taken]);
            input.consume(taken);
            if taken == 0 || end.is_some() {
                break;
            }
        }
        if line.is_empty() {
            bail!("the input ended before all questions were answered; nothing was written");
        }
        if line.last().is_some_and(|last| INTERRUPTS.contains(last)) {
            eprintln!();
            bail!("interrupted; nothing was written");
        }
        let line = String::from_utf8(line).context("an answer is not UTF-8 text")?;
        // Spaces around a password belong to it.
        Ok(line.trim_end_matches(['\n', '\r']).to_owned())
    }
}

/// A flag that nobody can be asked for.
fn missing(flag: &str) -> anyhow::Error {
    InitUsageError(format!("`--{flag}` is missing, and there is no terminal to ask on")).into()
}

/// Ctrl-C and Ctrl-Z, which end an answer while [`NoEcho`] lives.
const INTERRUPTS: [u8; 2] = [3, 26];

/// Turns the echo of the terminal off while it lives. Ctrl-C and Ctrl-Z end the line instead of
/// ending or stopping the process, which would leave the echo off.
struct NoEcho {
    before: Option<Termios>,
}

impl NoEcho {
    fn begin() -> Self {
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
            silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPTS[0];
            silent.special_codes[SpecialCodeIndex::VEOL2] = INTERRUPTS[1];
            // The terminal keeps its echo if this fails; the question is the same.
            let _ = tcsetattr(stdin(), OptionalActions::Flush, &silent);
        }
        NoEcho { before }
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Flush, before);
        }
    }
}
