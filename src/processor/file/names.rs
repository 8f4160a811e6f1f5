//! The names of a file and of its rotated predecessors.
//!
//! ```text
//! events.jsonl                       the file that is written
//! events-20261130T231145Z.jsonl      rotated at that time, UTC
//! events-20261130T231145Z-2.jsonl    another one in the same second
//! ```

use std::path::{Path, PathBuf};

/// The parts of a file's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNames {
    pub folder: PathBuf,
    stem: String,
    /// With its dot; empty if there is none.
    extension: String,
}

/// The form of the time in a name.
const TIME: &str = "%Y%m%dT%H%M%SZ";

impl FileNames {
    /// Returns `None` for a path that ends with no name.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let (stem, extension) = match name.rfind('.') {
            Some(at) if at > 0 => name.split_at(at),
            _ => (name, ""),
        };
        Some(FileNames {
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
            stem: stem.to_owned(),
            extension: extension.to_owned(),
        })
    }

    /// The name of a file that is rotated at `now_us`, the `number`-th of its second.
    pub fn rotated(&self, now_us: i64, number: u32) -> PathBuf {
        let time = jiff::Timestamp::from_microsecond(now_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let time = time.strftime(TIME);
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        self.folder.join(format!("{}-{time}{number}{}", self.stem, self.extension))
    }

    /// The rotated files beyond the newest `keep` among the names of a folder.
    pub fn surplus(&self, names: impl IntoIterator<Item = String>, keep: usize) -> Vec<PathBuf> {
        let mut rotated: Vec<_> =
            names.into_iter().filter_map(|name| Some((self.time_of(&name)?, name))).collect();
        rotated.sort_unstable();
        rotated.truncate(rotated.len().saturating_sub(keep));
        rotated.into_iter().map(|(_, name)| self.folder.join(name)).collect()
    }

    /// The time and number in the name of a rotated file; `None` for any other name.
    fn time_of(&self, name: &str) -> Option<(String, u32)> {
        let rest = name.strip_prefix(&*self.stem)?.strip_prefix('-')?.strip_suffix(&*self.extension)?;
        let (time, number) = match rest.split_once('-') {
            None => (rest, 1),
            Some((time, number)) => (time, number.parse().ok().filter(|number| *number > 1)?),
        };
        jiff::civil::DateTime::strptime(TIME, time).ok()?;
        (time.len() == 16).then(|| (time.to_owned(), number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_file_keeps_its_extension() {
        let check = |path: &str, number, expected: &str| {
            let names = FileNames::of(Path::new(path)).unwrap();
            assert_eq!(names.rotated(1_796_080_305_000_000, number), Path::new(expected), "{path}");
        };
        check("/log/events.jsonl", 1, "/log/events-20261130T231145Z.jsonl");
        check("/log/events.jsonl", 2, "/log/events-20261130T231145Z-2.jsonl");
        check("events", 1, "./events-20261130T231145Z");
        check("/log/.events", 1, "/log/.events-20261130T231145Z");
        assert_eq!(FileNames::of(Path::new("/log/..")), None);
    }

    #[test]
    fn only_the_oldest_rotated_files_are_surplus() {
        let names = FileNames::of(Path::new("/log/events.jsonl")).unwrap();
        let found = [
            "events-20261130T231145Z-2.jsonl",
            "events-20261130T231145Z.jsonl",
            "events-20261130T231145Z-10.jsonl",
            "events-20261201T000000Z.jsonl",
            "events.jsonl",
            "events-old.jsonl",
            "events-20261330T231145Z.jsonl",
            "events-20261130T231145Z.jsonl.gz",
            "other-20261130T231145Z.jsonl",
        ];
        let surplus = |keep| names.surplus(found.map(str::to_owned), keep);
        let expected = ["/log/events-20261130T231145Z.jsonl", "/log/events-20261130T231145Z-2.jsonl"];
        assert_eq!(surplus(2), expected.map(PathBuf::from));
        assert_eq!(surplus(4), Vec::<PathBuf>::new());
        assert_eq!(surplus(0).len(), 4);
    }
}
