//! The file survives torn writes, rotation by itself and by others, and full disks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::line_file::LineFile;
use super::settings::FileConfig;

const NOW: i64 = 1_796_080_305_000_000;

fn settings(dir: &Path) -> FileConfig {
    FileConfig::new(dir.join("events.jsonl"))
}

fn line(n: u32) -> String {
    format!("{{\"id\":\"{n}\"}}\n")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The names in a folder, sorted, with their contents.
fn content(dir: &Path) -> Vec<(String, String)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), read(&entry.path())))
        .collect();
    all.sort();
    all
}

#[test]
fn lines_are_appended_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    for n in 0..3 {
        LineFile::new(&settings).append(line(n).as_bytes(), NOW).unwrap();
    }
    assert_eq!(read(&settings.path), line(0) + &line(1) + &line(2));
    assert_eq!(fs::metadata(&settings.path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
}

#[test]
fn a_torn_last_line_is_cut_off_and_nothing_else() {
    let check = |before: &[u8], expected: Result<&str, &str>| {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        fs::write(&settings.path, before).unwrap();
        let appended = LineFile::new(&settings).append(line(9).as_bytes(), NOW);
        match (appended, expected) {
            (Ok(()), Ok(expected)) => assert_eq!(read(&settings.path), format!("{expected}{}", line(9))),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
                assert_eq!(fs::read(&settings.path).unwrap(), before, "a foreign file is left alone");
            }
            (got, _) => panic!("{got:?} instead of {expected:?}"),
        }
    };
    let whole = line(1) + &line(2);
    check(b"", Ok(""));
    check(whole.as_bytes(), Ok(&whole));
    check(format!("{whole}{{\"id\":\"3\",\"so").as_bytes(), Ok(&whole));
    check(format!("{whole}{{\"i").as_bytes(), Ok(&whole));
    check(b"{\"id\":\"3\"", Ok(""));
    check(format!("{whole}\0\0\0\0\0\0\0\0\0").as_bytes(), Ok(&whole));
    // Longer than one read of the repair.
    let long = format!("{whole}{{\"id\":\"{}", "x".repeat(200_000));
    check(long.as_bytes(), Ok(&whole));
    check(b"[settings]\nname = 1", Err("may not be a file of this router"));
    check(b"one line without a break", Err("may not be a file of this router"));
}

#[test]
fn it_is_rotated_by_size_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let settings = FileConfig { bytes_max: 25, keep: 2, ..settings(dir.path()) };
    let mut file = LineFile::new(&settings);
    for n in 0..9 {
        file.append(line(n).as_bytes(), NOW + i64::from(n) * 1_000_000).unwrap();
    }
    let named = |name: &str, first| (name.to_owned(), line(first) + &line(first + 1));
    assert_eq!(
        content(dir.path()),
        [
            named("events-20261130T231151Z.jsonl", 4),
            named("events-20261130T231153Z.jsonl", 6),
            ("events.jsonl".to_owned(), line(8)),
        ]
    );
}

#[test]
fn rotations_within_a_second_have_different_names() {
    let dir = tempfile::tempdir().unwrap();
    let settings = FileConfig { bytes_max: 5, ..settings(dir.path()) };
    let mut file = LineFile::new(&settings);
    (0..3).for_each(|n| file.append(line(n).as_bytes(), NOW).unwrap());
    let names: Vec<_> = content(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["events-20261130T231145Z-2.jsonl", "events-20261130T231145Z.jsonl", "events.jsonl"]);
}

#[test]
fn it_is_rotated_by_age_at_the_next_event() {
    let dir = tempfile::tempdir().unwrap();
    let settings = FileConfig { age_max: Some(Duration::from_secs(60)), ..settings(dir.path()) };
    let now = crate::clock::now_us();
    LineFile::new(&settings).append(line(0).as_bytes(), now).unwrap();
    // The age is that of the file, not of the process.
    let mut file = LineFile::new(&settings);
    file.append(line(1).as_bytes(), now + 50_000_000).unwrap();
    assert_eq!(content(dir.path()).len(), 1);
    file.append(line(2).as_bytes(), now + 70_000_000).unwrap();
    assert_eq!((content(dir.path()).len(), read(&settings.path)), (2, line(2)));
}

#[test]
fn a_file_that_another_program_moved_removed_or_emptied_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let mut file = LineFile::new(&settings);
    file.append(line(0).as_bytes(), NOW).unwrap();
    fs::rename(&settings.path, dir.path().join("moved")).unwrap();
    file.append(line(1).as_bytes(), NOW).unwrap();
    assert_eq!((read(&dir.path().join("moved")), read(&settings.path)), (line(0), line(1)));
    fs::remove_file(&settings.path).unwrap();
    file.append(line(2).as_bytes(), NOW).unwrap();
    assert_eq!(read(&settings.path), line(2));
    // `copytruncate` of logrotate.
    fs::File::options().write(true).open(&settings.path).unwrap().set_len(0).unwrap();
    file.append(line(3).as_bytes(), NOW).unwrap();
    assert_eq!(read(&settings.path), line(3));
    // A foreign line without its end is not continued.
    use std::io::Write;
    fs::File::options().append(true).open(&settings.path).unwrap().write_all(b"{\"id\":\"x").unwrap();
    file.append(line(4).as_bytes(), NOW).unwrap();
    assert_eq!(read(&settings.path), line(3) + &line(4));
}

#[test]
fn what_is_not_a_file_of_its_own_is_refused() {
    let check = |make: &dyn Fn(&Path), part: &str| {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        make(&settings.path);
        let error = LineFile::new(&settings).append(line(0).as_bytes(), NOW).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(&|path| symlink(path.with_extension("other"), path).unwrap(), "is a symbolic link");
    check(&|path| fs::create_dir(path).unwrap(), "cannot open");
    let fifo = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo belongs to every Unix");
    };
    check(&fifo, "is not a regular file");
    check(&|path| fs::remove_dir(path.parent().unwrap()).unwrap(), "create the directory");
}

#[test]
fn two_writers_do_not_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    let (mut one, mut other) = (LineFile::new(&settings), LineFile::new(&settings));
    one.append(line(0).as_bytes(), NOW).unwrap();
    let error = other.append(line(1).as_bytes(), NOW).unwrap_err().to_string();
    assert!(error.contains("another processor or program writes"), "{error}");
    one.close();
    other.append(line(1).as_bytes(), NOW).unwrap();
    assert_eq!(read(&settings.path), line(0) + &line(1));
}
