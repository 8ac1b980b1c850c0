//! Reading container logs: the files the shim writes, rotated ones first.

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A piece of output at a time.
const CHUNK_BYTES: usize = 32 << 10;
/// A backward scan reads this much at a time.
const SCAN_BYTES: u64 = 64 << 10;

/// What of a log is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// Each line with its time.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Reads a log from where it should begin, then goes on where it stopped.
pub(crate) struct Reader {
    wanted: Wanted,
    path: PathBuf,
    files: Vec<BufReader<File>>,
    /// The inode of the file being written, to notice its rotation.
    current: u64,
    left: Option<u64>,
    line: Vec<u8>,
}

impl Reader {
    /// Opens the log and skips to where the tail begins.
    pub fn open(path: &Path, wanted: Wanted) -> io::Result<Self> {
        let mut paths = crate::shim::rotated_logs(path).unwrap_or_default();
        paths.push(path.to_owned());
        let mut files = Vec::new();
        let mut lines_left = wanted.tail_lines;
        for path in paths.iter().rev() {
            let Ok(mut file) = File::open(path) else { continue };
            if let Some(left) = &mut lines_left {
                seek_to_tail(&mut file, left)?;
            }
            files.push(BufReader::new(file));
            if lines_left == Some(0) {
                break;
            }
        }
        files.reverse();
        let current = inode(path);
        let left = wanted.limit_bytes;
        Ok(Self { wanted, path: path.to_owned(), files, current, left, line: Vec::new() })
    }

    /// The next piece; None at the end as it is now.
    pub fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES && self.left != Some(0) {
            if !self.read_line()? {
                break;
            }
            self.render(&mut out);
        }
        if let Some(left) = &mut self.left {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= out.len() as u64;
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Whether the byte limit is used up.
    pub fn is_exhausted(&self) -> bool {
        self.left == Some(0)
    }

    /// Reads a whole line into `line`; false when there is none yet.
    fn read_line(&mut self) -> io::Result<bool> {
        loop {
            let Some(file) = self.files.first_mut() else { return Ok(false) };
            file.read_until(b'\n', &mut self.line)?;
            if self.line.last() == Some(&b'\n') {
                return Ok(true);
            }
            if self.files.len() > 1 {
                self.files.remove(0);
                continue;
            }
            // At the end of the newest file known: has it been rotated away meanwhile?
            let now = inode(&self.path);
            if now == self.current || now == 0 {
                return Ok(false);
            }
            let Ok(fresh) = File::open(&self.path) else { return Ok(false) };
            self.current = now;
            self.files.push(BufReader::new(fresh));
        }
    }

    /// Turns `<time> <stream> <tag> <text>` into what the client wants.
    fn render(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(_), Some(tag), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        if let Some(since) = self.wanted.since {
            let at = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok());
            if at.is_some_and(|at| at < since) {
                return;
            }
        }
        if self.wanted.timestamps {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        let text = if tag == b"P" { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        out.extend_from_slice(text);
    }
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| std::os::unix::fs::MetadataExt::ino(&found))
}

/// Seeks to the start of the last `left` lines and lowers `left` by those found.
fn seek_to_tail(file: &mut File, left: &mut u64) -> io::Result<()> {
    let end = file.metadata()?.len();
    let mut position = if *left == 0 { 0 } else { end };
    while position > 0 {
        let from = position.saturating_sub(SCAN_BYTES);
        let mut chunk = vec![0u8; usize::try_from(position - from).unwrap_or(0)];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut chunk)?;
        for (at, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = from + at as u64 + 1;
            // The newline that ends the file's last line begins no other.
            if after == end {
                continue;
            }
            *left -= 1;
            if *left == 0 {
                return file.seek(SeekFrom::Start(after)).map(drop);
            }
        }
        position = from;
    }
    if *left == 0 {
        return file.seek(SeekFrom::End(0)).map(drop);
    }
    // The file's first line counts as well.
    *left -= u64::from(end > 0);
    file.seek(SeekFrom::Start(0)).map(drop)
}

/// The end of a log as text, for termination messages.
pub(crate) fn tail_text(path: &Path, lines: usize, bytes: usize) -> String {
    let wanted = Wanted { tail_lines: Some(lines as u64), ..Wanted::default() };
    let Ok(mut reader) = Reader::open(path, wanted) else { return String::new() };
    let mut all = Vec::new();
    while let Ok(Some(piece)) = reader.next() {
        all.extend_from_slice(&piece);
    }
    let from = all.len().saturating_sub(bytes);
    String::from_utf8_lossy(&all[from..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path, wanted: Wanted) -> String {
        let mut reader = Reader::open(path, wanted).unwrap();
        let mut out = Vec::new();
        while let Some(piece) = reader.next().unwrap() {
            out.extend_from_slice(&piece);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_wanted_of_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(dir.path().join("0.log.2026"), "2026-01-01T00:00:00Z stdout F one\n").unwrap();
        std::fs::write(
            &path,
            "2026-01-01T00:00:01Z stdout P tw\n2026-01-01T00:00:02Z stdout F o\n2026-01-01T00:00:03Z stderr F three\n",
        )
        .unwrap();
        let check = |wanted: Wanted, expect: &str| assert_eq!(read(&path, wanted), expect);
        check(Wanted::default(), "one\ntwo\nthree\n");
        check(Wanted { tail_lines: Some(1), ..Wanted::default() }, "three\n");
        check(Wanted { tail_lines: Some(0), ..Wanted::default() }, "");
        check(Wanted { tail_lines: Some(99), ..Wanted::default() }, "one\ntwo\nthree\n");
        check(Wanted { limit_bytes: Some(5), ..Wanted::default() }, "one\nt");
        check(
            Wanted { since: "2026-01-01T00:00:03Z".parse().ok(), timestamps: true, ..Wanted::default() },
            "2026-01-01T00:00:03Z three\n",
        );
        assert_eq!(tail_text(&path, 80, 3), "ee\n");
    }
}
