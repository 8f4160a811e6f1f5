//! Translates the old router's command line into `event-router run`: `-config F`, `-verbose`,
//! `-log-level L`, `-log-json`.
//!
//! The rules are those of Go's flag package: one or two dashes, `-flag value` or `-flag=value`. A
//! boolean flag takes its value only after `=`. If a flag is repeated, the last one counts.
//!
//! A line that names a command is left unchanged, as are flags with two dashes that the old router
//! did not have.

use std::ffi::{OsStr, OsString};

/// The old router's default configuration, used if no other is given.
pub const DEFAULT_CONFIG: &str = "/etc/vmware-event-router/config";

/// Flags of either router whose value may follow after a space. That value is no command.
const WITH_VALUE: [&str; 4] = ["config", "c", "log-level", "log-format"];

/// The words that Go's `strconv.ParseBool` accepts.
const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
const FALSE: [&str; 6] = ["0", "f", "F", "FALSE", "false", "False"];

/// A command line that neither router understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OldLineError {
    #[error(
        "unknown flag `-{0}`; the old router's flags are -config FILE, -verbose, -log-level LEVEL and -log-json; for others see `event-router run --help`"
    )]
    Unknown(String),
    #[error("flag `-{0}` needs a value: `-{0} VALUE` or `-{0}=VALUE`")]
    NoValue(String),
    #[error(
        "flag `-{flag}` is true or false, and `{value}` is neither; use `-{flag}`, `-{flag}=true` or `-{flag}=false`"
    )]
    NotBoolean { flag: String, value: String },
}

/// The flags on a command line.
#[derive(Debug, Default)]
struct Given {
    config: Option<OsString>,
    level: Option<OsString>,
    verbose: bool,
    json: bool,
    /// Arguments that the old router did not have.
    rest: Vec<OsString>,
}

/// Translates `args`, which begin with the program. `is_command` tells the names of commands.
/// `has_default` tells whether a configuration exists to run with if there are no arguments.
pub fn translate(
    args: Vec<OsString>,
    is_command: impl Fn(&str) -> bool,
    has_default: impl FnOnce() -> bool,
) -> Result<Vec<OsString>, OldLineError> {
    let Some((program, flags)) = args.split_first() else { return Ok(args) };
    let is_ours = match flags.first().map(|first| first.to_string_lossy()) {
        None => !has_default(),
        Some(first) => {
            !first.starts_with('-')
                || matches!(&*first, "-h" | "-help" | "--help" | "-V" | "--version" | "--")
        }
    };
    if is_ours || names_command(flags, is_command) {
        return Ok(args);
    }
    let given = Given::read(flags)?;
    let mut line = vec![program.clone(), "run".into()];
    if let Some(file) = given.config {
        line.extend(["--config".into(), file]);
    }
    if let Some(level) = given.level.or_else(|| given.verbose.then(|| "debug".into())) {
        line.extend(["--log-level".into(), level]);
    }
    if given.json {
        line.extend(["--log-format", "json"].map(OsString::from));
    }
    line.extend(given.rest);
    Ok(line)
}

/// Returns true if the first argument that is neither a flag nor the value of one is a command.
fn names_command(flags: &[OsString], is_command: impl Fn(&str) -> bool) -> bool {
    let mut words = flags.iter();
    while let Some(word) = words.next() {
        let Some(word) = word.to_str() else { continue };
        match word.strip_prefix('-') {
            None => return is_command(word),
            Some(flag) if WITH_VALUE.contains(&flag.strip_prefix('-').unwrap_or(flag)) => {
                words.next();
            }
            Some(_) => {}
        }
    }
    false
}

impl Given {
    fn read(flags: &[OsString]) -> Result<Self, OldLineError> {
        let mut given = Given::default();
        let mut words = flags.iter();
        while let Some(word) = words.next() {
            let Some((name, attached)) = split(word) else {
                given.rest.push(word.clone());
                continue;
            };
            let mut value = || {
                attached
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or_else(|| OldLineError::NoValue(name.into()))
            };
            match name {
                "config" => given.config = Some(value()?),
                "log-level" => given.level = Some(value()?),
                "verbose" => given.verbose = boolean(name, attached.as_deref())?,
                "log-json" => given.json = boolean(name, attached.as_deref())?,
                // `-c` and unknown flags with two dashes are left to clap, which reports errors.
                _ if word.as_encoded_bytes().starts_with(b"--") || name.chars().count() == 1 => {
                    given.rest.push(word.clone());
                }
                _ => return Err(OldLineError::Unknown(name.into())),
            }
        }
        Ok(given)
    }
}

/// The name of a flag, and its value if attached with `=`.
fn split(word: &OsStr) -> Option<(&str, Option<OsString>)> {
    let bytes = word.as_encoded_bytes().strip_prefix(b"-")?;
    let bytes = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let at = bytes.iter().position(|byte| *byte == b'=');
    let name = std::str::from_utf8(&bytes[..at.unwrap_or(bytes.len())]).ok()?;
    let value = at.map(|at| {
        use std::os::unix::ffi::OsStrExt;
        OsStr::from_bytes(&bytes[at + 1..]).to_owned()
    });
    (!name.is_empty()).then_some((name, value))
}

fn boolean(flag: &str, value: Option<&OsStr>) -> Result<bool, OldLineError> {
    let value = value.map(OsStr::to_string_lossy);
    match value.as_deref() {
        None => Ok(true),
        Some(value) if TRUE.contains(&value) => Ok(true),
        Some(value) if FALSE.contains(&value) => Ok(false),
        Some(value) => Err(OldLineError::NotBoolean { flag: flag.into(), value: value.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, has_default: bool) -> Result<String, OldLineError> {
        let args = std::iter::once("er").chain(line.split_whitespace()).map(OsString::from).collect();
        let is_command = |word: &str| ["run", "check", "config", "help"].contains(&word);
        let args = translate(args, is_command, || has_default)?;
        Ok(args[1..].join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn the_old_routers_command_lines_work() {
        let check =
            |line: &str, expected: &str| assert_eq!(read(line, false).as_deref(), Ok(expected), "{line}");
        for line in ["-config F", "-config=F", "--config F", "--config=F", "-config G -config F"] {
            check(line, "run --config F");
        }
        check("-config run", "run --config run");
        check("-verbose", "run --log-level debug");
        check("-verbose=true -config F", "run --config F --log-level debug");
        check("-verbose=false -config F", "run --config F");
        check("-verbose -log-level warn", "run --log-level warn");
        check("-config F -log-level debug -log-json", "run --config F --log-level debug --log-format json");
        check("-log-json=T", "run --log-format json");
        check("-log-json=0 -log-level=error", "run --log-level error");
        check("-config F --log-invocations", "run --config F --log-invocations");
        check("-c F --log-format json", "run -c F --log-format json");
        check("-config=a=b", "run --config a=b");
    }

    #[test]
    fn other_command_lines_are_unchanged() {
        for line in [
            "run --config F",
            "--log-level debug run -c F",
            "--log-format json check -c F",
            "--help",
            "-h",
            "--version",
            "frobnicate -x",
        ] {
            assert_eq!(read(line, true).as_deref(), Ok(line));
        }
        assert_eq!(read("", false).as_deref(), Ok(""), "help");
        assert_eq!(read("", true).as_deref(), Ok("run"), "the image without arguments");
    }

    #[test]
    fn flags_of_neither_router_are_refused() {
        let check = |line: &str, expected: &str| {
            let error = read(line, false).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        };
        check("-confg F", "unknown flag `-confg`");
        check("-insecure -config F", "unknown flag `-insecure`");
        check("-config", "`-config` needs a value");
        check("-verbose=maybe", "`maybe` is neither");
    }
}
