//! The log file of a container: one line per line of output, in the format of the container runtime interface.
//!
//! `2026-01-02T03:04:05.123456789Z stdout F text` (F: full line, P: a part of a line longer than 16 KiB).

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A line longer than this is written in parts (containerd's limit).
const LINE_BYTES_MAX: usize = 16 << 10;
/// A log file is rotated when it reaches this size (kubelet's `containerLogMaxSize`).
const FILE_BYTES_MAX: u64 = 10 << 20;
/// Files kept per container, the current one included (kubelet's `containerLogMaxFiles`).
const FILES_MAX: usize = 5;

/// Which of the two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and all of a terminal's output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Writes one container's log.
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Incomplete lines of stdout and stderr.
    pending: [Vec<u8>; 2],
    /// Lines of one read, written with one call.
    batch: Vec<u8>,
}

impl LogFile {
    /// Opens (appends to) the file, making its directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, pending: [Vec::new(), Vec::new()], batch: Vec::new() })
    }

    /// Takes output as it came and writes the lines that are complete.
    pub fn write(&mut self, stream: Stream, mut data: &[u8]) {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            self.add(stream, &data[..end]);
            self.line(stream, b'F');
            data = &data[end + 1..];
        }
        self.add(stream, data);
        self.flush();
    }

    /// Writes what is left of an unfinished line.
    pub fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.pending[stream as usize].is_empty() {
                self.line(stream, b'F');
            }
        }
        self.flush();
    }

    fn add(&mut self, stream: Stream, mut data: &[u8]) {
        loop {
            let room = LINE_BYTES_MAX - self.pending[stream as usize].len();
            if data.len() <= room {
                self.pending[stream as usize].extend_from_slice(data);
                return;
            }
            self.pending[stream as usize].extend_from_slice(&data[..room]);
            self.line(stream, b'P');
            data = &data[room..];
        }
    }

    fn line(&mut self, stream: Stream, tag: u8) {
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        self.batch.extend_from_slice(timestamp(SystemTime::now()).as_bytes());
        self.batch.push(b' ');
        self.batch.extend_from_slice(stream.name().as_bytes());
        self.batch.extend_from_slice(&[b' ', tag, b' ']);
        self.batch.extend_from_slice(&pending);
        self.batch.push(b'\n');
        pending.clear();
        self.pending[stream as usize] = pending;
    }

    /// A full disk loses log lines rather than stopping the container.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.file.write_all(&self.batch).is_ok() {
            self.size += self.batch.len() as u64;
        }
        self.batch.clear();
        self.batch.shrink_to(LINE_BYTES_MAX * 2);
        if self.size >= FILE_BYTES_MAX {
            let _ = self.rotate();
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let stamp: String =
            timestamp(SystemTime::now()).chars().filter(char::is_ascii_digit).take(17).collect();
        let mut old = self.path.clone().into_os_string();
        old.push(format!(".{stamp}"));
        rename(&self.path, &old)?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = 0;
        self.drop_oldest()
    }

    fn drop_oldest(&self) -> io::Result<()> {
        let rotated = rotated(&self.path)?;
        for path in rotated.iter().rev().skip(FILES_MAX - 1) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// The rotated files of a log, oldest first.
pub fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// RFC 3339 with nanoseconds, UTC.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// Year, month and day of a count of days since 1970 (Howard Hinnant's algorithm).
const fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_is_written_as_the_runtime_interface_wants() {
        let check = |seconds, expect: &str| {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::new(seconds, 5)), expect);
        };
        check(0, "1970-01-01T00:00:00.000000005Z");
        check(951_782_400, "2000-02-29T00:00:00.000000005Z");
        check(1_767_225_599, "2025-12-31T23:59:59.000000005Z");
    }

    #[test]
    fn lines_are_split_and_long_ones_parted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = LogFile::open(&path).unwrap();
        log.write(Stream::Stdout, b"one\ntw");
        log.write(Stream::Stderr, b"err\n");
        log.write(Stream::Stdout, b"o\n");
        log.write(Stream::Stdout, &vec![b'x'; LINE_BYTES_MAX + 1]);
        log.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        let shown: Vec<_> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.chars().take(12).collect::<String>())
            .collect();
        assert_eq!(shown, ["stdout F one", "stderr F err", "stdout F two", "stdout P xxx", "stdout F x"]);
    }
}
