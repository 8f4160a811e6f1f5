//! A disk that tests can watch and break: the layer of `tests/data/disk.c` below a child process,
//! and the states that a power loss can leave.
//!
//! ```text
//!  child ─► disk.so ─► C library ─► the folder
//!             │  ▲
//!             ▼  └── control: kill before operation n, fail from it on, move the wall clock
//!            log ─► Replay ─► images: all synced writes, and any part of the others
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rand::Rng;
use rand::rngs::StdRng;

use super::peer::missing;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/disk.c");
/// The number of bytes that a disk writes atomically.
const SECTOR: usize = 512;

pub const ENOSPC: i64 = 28;
pub const EIO: i64 = 5;
pub const EROFS: i64 = 30;

/// The layer for one folder. The places of its words are those of `struct control`.
pub struct Disk {
    library: PathBuf,
    folder: PathBuf,
    control: File,
    control_path: PathBuf,
    log: PathBuf,
}

impl Disk {
    /// Watches the files in `folder`, which need not exist yet; keeps its own files beside it.
    /// Returns `None` without a C compiler, and the test is skipped.
    pub fn of(folder: &Path) -> Option<Disk> {
        let Some(library) = library() else {
            missing("a C compiler (cc)");
            return None;
        };
        let (control_path, log) = (folder.with_extension("control"), folder.with_extension("log"));
        fs::write(&control_path, [0; 64]).expect("write the control file");
        let control = File::options().read(true).write(true).open(&control_path).expect("open it again");
        Some(Disk { library, folder: folder.to_owned(), control, control_path, log })
    }

    /// The environment of a child whose operations are counted, and written down where `logged`.
    pub fn env(&self, logged: bool) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("temporary paths are UTF-8").to_owned();
        let mut env = vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("DISK_FOLDER".to_owned(), text(&self.folder)),
            ("DISK_CONTROL".to_owned(), text(&self.control_path)),
        ];
        if logged {
            env.push(("DISK_LOG".to_owned(), text(&self.log)));
        }
        env
    }

    fn set(&self, word: u64, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), word * 8).expect("write the control file");
    }

    /// Moves the wall clock by this much from where it really is.
    pub fn move_clock(&self, by_seconds: i64) {
        self.set(0, by_seconds * 1_000_000_000);
    }

    /// Kills the process before the `n`-th operation from now (1 is the next). 0: never.
    pub fn kill_at(&self, n: i64) {
        self.set(1, n);
    }

    /// The `n`-th operation from now and all after it fail. 0: none.
    pub fn fail_at(&self, n: i64, errno: i64) {
        self.set(3, errno);
        self.set(2, n);
    }

    /// Returns true if the operation of [`Disk::kill_at`] is still to come.
    pub fn armed(&self) -> bool {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, 8).expect("read the control file");
        i64::from_ne_bytes(bytes) > 0
    }

    /// The operations so far.
    pub fn log(&self) -> Vec<Operation> {
        parse(&fs::read(&self.log).expect("the child wrote a log"))
    }
}

/// The layer's library, built once for each version of its source.
fn library() -> Option<PathBuf> {
    // The tests of a process ask side by side.
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIBRARY.get_or_init(build).clone()
}

fn build() -> Option<PathBuf> {
    let source = fs::read(SOURCE).expect("it lies beside the tests");
    let name = format!("disk-{:08x}.so", crc32fast::hash(&source));
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !library.exists() {
        let draft = library.with_extension(std::process::id().to_string());
        let built = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([draft.as_path(), Path::new(SOURCE)])
            .output();
        match built {
            Err(_) => return None,
            Ok(built) => assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr)),
        }
        fs::rename(&draft, &library).expect("both lie in one folder");
    }
    Some(library)
}

/// One operation on the folder; paths are relative to it.
#[derive(Clone, Debug)]
pub enum Operation {
    Create(String),
    Write {
        path: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        path: String,
        bytes: usize,
    },
    /// Of a file; of the folder itself as `/`.
    Sync(String),
    Unlink(String),
    Rename(String, String),
    /// The process said this on stdout.
    Said(String),
}

fn parse(mut log: &[u8]) -> Vec<Operation> {
    let mut operations = Vec::new();
    while let Some(end) = log.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&log[..end]).expect("headers are text");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().expect("a number");
        let path = words[1].to_owned();
        let payload = match words[0] {
            "W" => number(3),
            "A" => number(1),
            _ => 0,
        };
        let rest = &log[end + 1..];
        if rest.len() < payload {
            break;
        }
        let (bytes, rest) = rest.split_at(payload);
        log = rest;
        operations.push(match words[0] {
            "C" => Operation::Create(path),
            "W" => Operation::Write { path, at: number(2), bytes: bytes.to_vec() },
            "T" => Operation::Truncate { path, bytes: number(2) },
            "S" => Operation::Sync(path),
            "U" => Operation::Unlink(path),
            "R" => Operation::Rename(path, words[2].to_owned()),
            "A" => Operation::Said(String::from_utf8_lossy(bytes).into_owned()),
            other => panic!("an operation of the log: {other:?}"),
        });
    }
    operations
}

/// The possible contents of a disk at some point of a log.
///
/// A file's bytes are sure once the file was synced, its name once the folder was. Of the rest the
/// disk may hold any part: nothing, all, a beginning, or any sectors in any order. Names change in
/// their order, as on every journalling file system.
#[derive(Default)]
pub struct Replay {
    files: Vec<Contents>,
    names: BTreeMap<String, usize>,
    sure_names: BTreeMap<String, usize>,
    /// With the file that a `Create` made.
    unsure_names: Vec<(Operation, usize)>,
}

#[derive(Default)]
struct Contents {
    sure: Vec<u8>,
    unsure: Vec<Operation>,
}

impl Replay {
    pub fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Said(_) => {}
            Operation::Create(path) => {
                self.names.insert(path.clone(), self.files.len());
                self.files.push(Contents::default());
                self.unsure_names.push((operation.clone(), self.files.len() - 1));
            }
            Operation::Unlink(_) | Operation::Rename(..) => {
                rename(&mut self.names, operation);
                self.unsure_names.push((operation.clone(), 0));
            }
            Operation::Sync(path) if path == "/" => {
                self.sure_names.clone_from(&self.names);
                self.unsure_names.clear();
            }
            Operation::Sync(path) => {
                let file = self.file(path);
                for change in std::mem::take(&mut file.unsure) {
                    carry_out(&mut file.sure, &change);
                }
            }
            Operation::Write { path, .. } | Operation::Truncate { path, .. } => {
                self.file(path).unsure.push(operation.clone());
            }
        }
    }

    fn file(&mut self, path: &str) -> &mut Contents {
        let at = self.names.get(path).unwrap_or_else(|| panic!("`{path}` was never made"));
        &mut self.files[*at]
    }

    /// A state that a power loss now can leave, drawn from `random`.
    pub fn image(&self, random: &mut StdRng) -> BTreeMap<String, Vec<u8>> {
        let mut names = self.sure_names.clone();
        let kept = random.random_range(0..=self.unsure_names.len());
        for (operation, made) in &self.unsure_names[..kept] {
            match operation {
                Operation::Create(path) => drop(names.insert(path.clone(), *made)),
                other => rename(&mut names, other),
            }
        }
        names.into_iter().map(|(path, at)| (path, self.files[at].after_power_loss(random))).collect()
    }

    /// Writes an image into a new folder.
    pub fn lose_power(&self, random: &mut StdRng, folder: &Path) {
        fs::create_dir(folder).expect("a new folder");
        for (path, bytes) in self.image(random) {
            fs::write(folder.join(path), bytes).expect("write a file of the image");
        }
    }
}

impl Contents {
    fn after_power_loss(&self, random: &mut StdRng) -> Vec<u8> {
        let mut bytes = self.sure.clone();
        match random.random_range(0..4) {
            0 => {}
            1 => self.unsure.iter().for_each(|change| carry_out(&mut bytes, change)),
            2 => {
                let kept = random.random_range(0..=self.unsure.len());
                self.unsure[..kept].iter().for_each(|change| carry_out(&mut bytes, change));
                if let Some(Operation::Write { path, at, bytes: written }) = self.unsure.get(kept) {
                    let (path, at) = (path.clone(), *at);
                    let written = written[..random.random_range(0..=written.len())].to_vec();
                    carry_out(&mut bytes, &Operation::Write { path, at, bytes: written });
                }
            }
            _ => {
                for change in &self.unsure {
                    let Operation::Write { path, at, bytes: written } = change else {
                        if random.random() {
                            carry_out(&mut bytes, change);
                        }
                        continue;
                    };
                    for (n, sector) in written.chunks(SECTOR).enumerate() {
                        if random.random() {
                            let at = at + n * SECTOR;
                            let sector = Operation::Write { path: path.clone(), at, bytes: sector.to_vec() };
                            carry_out(&mut bytes, &sector);
                        }
                    }
                }
            }
        }
        bytes
    }
}

fn carry_out(bytes: &mut Vec<u8>, change: &Operation) {
    match change {
        Operation::Write { at, bytes: written, .. } => {
            let end = at + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(written);
        }
        Operation::Truncate { bytes: length, .. } => bytes.resize(*length, 0),
        _ => {}
    }
}

fn rename(names: &mut BTreeMap<String, usize>, operation: &Operation) {
    match operation {
        Operation::Unlink(path) => {
            names.remove(path);
        }
        Operation::Rename(from, to) => {
            let moved = names.remove(from);
            names.extend(moved.map(|at| (to.clone(), at)));
        }
        _ => {}
    }
}
