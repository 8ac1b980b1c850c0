//! Sorting versions by revision with bounded memory: sorted runs in a file without a name, then one merge.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use store_api::Revision;

/// Bytes of keys held in memory before they go to the file.
const MEMORY_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of each run read ahead in the merge.
const AHEAD_BYTES: usize = 16 * 1024;

/// Takes (revision, key) in any order.
pub(super) struct Sorter<'d> {
    dir: &'d Path,
    memory_bytes: usize,
    keys: Vec<u8>,
    /// Revision, and where the key is in `keys`.
    held: Vec<(i64, u32, u32)>,
    file: Option<BufWriter<File>>,
    runs: Vec<(u64, u64)>,
    written: u64,
}

impl<'d> Sorter<'d> {
    pub(super) fn new(dir: &'d Path) -> Self {
        Self::with_memory(dir, MEMORY_BYTES)
    }

    pub(super) fn with_memory(dir: &'d Path, memory_bytes: usize) -> Self {
        Self {
            dir,
            memory_bytes,
            keys: Vec::new(),
            held: Vec::new(),
            file: None,
            runs: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn push(&mut self, revision: Revision, key: &[u8]) -> io::Result<()> {
        let at = self.keys.len() as u32;
        self.keys.extend_from_slice(key);
        // Bounded by `memory_bytes` and one request's key.
        self.held.push((revision.get(), at, key.len() as u32));
        if self.keys.len() + self.held.len() * size_of::<(i64, u32, u32)>() > self.memory_bytes {
            self.write_run()?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        let keys = &self.keys;
        let key = |at: u32, len: u32| &keys[at as usize..(at + len) as usize];
        self.held.sort_unstable_by(|a, b| (a.0, key(a.1, a.2)).cmp(&(b.0, key(b.1, b.2))));
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.sort();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::new(super::scratch(self.dir)?)),
        };
        let from = self.written;
        for (revision, at, len) in self.held.drain(..) {
            file.write_all(&revision.to_be_bytes())?;
            file.write_all(&len.to_be_bytes())?;
            file.write_all(&self.keys[at as usize..(at + len) as usize])?;
            self.written += 12 + u64::from(len);
        }
        self.keys.clear();
        self.runs.push((from, self.written));
        Ok(())
    }

    /// Visits all in order of revision and key.
    pub(super) fn each<E: From<io::Error>>(
        mut self,
        mut visit: impl FnMut(Revision, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.runs.is_empty() {
            self.sort();
            let mut held = self.held.iter();
            return held.try_for_each(|(revision, at, len)| {
                visit(Revision(*revision), &self.keys[*at as usize..(*at + *len) as usize])
            });
        }
        if !self.held.is_empty() {
            self.write_run()?;
        }
        let Some(file) = self.file.take() else { return Ok(()) };
        let file = Arc::new(file.into_inner().map_err(io::IntoInnerError::into_error)?);
        merge(&file, &self.runs, visit)
    }
}

/// The runs side by side, always the least first.
fn merge<E: From<io::Error>>(
    file: &Arc<File>,
    runs: &[(u64, u64)],
    mut visit: impl FnMut(Revision, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut readers: Vec<_> = runs
        .iter()
        .map(|(at, end)| {
            BufReader::with_capacity(AHEAD_BYTES, Run { file: file.clone(), at: *at, end: *end })
        })
        .collect();
    let mut least = BinaryHeap::with_capacity(readers.len());
    for (place, reader) in readers.iter_mut().enumerate() {
        if let Some((revision, key)) = next(reader)? {
            least.push(Reverse((revision, key, place)));
        }
    }
    while let Some(Reverse((revision, key, place))) = least.pop() {
        visit(revision, &key)?;
        if let Some((revision, key)) = next(&mut readers[place])? {
            least.push(Reverse((revision, key, place)));
        }
    }
    Ok(())
}

fn next(reader: &mut BufReader<Run>) -> io::Result<Option<(Revision, Vec<u8>)>> {
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let (mut revision, mut len) = ([0; 8], [0; 4]);
    reader.read_exact(&mut revision)?;
    reader.read_exact(&mut len)?;
    let mut key = vec![0; u32::from_be_bytes(len) as usize];
    reader.read_exact(&mut key)?;
    Ok(Some((Revision(i64::from_be_bytes(revision)), key)))
}

/// A part of the file.
struct Run {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Run {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = (out.len() as u64).min(self.end - self.at) as usize;
        let read = self.file.read_at(&mut out[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::random::Random;

    #[test]
    fn sorted_in_memory_and_by_runs_alike() {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random::from_seed(3);
        let mut all: Vec<(i64, Vec<u8>)> = (0..5000)
            .map(|_| (random.below(1000) as i64, random.next_u64().to_string().into_bytes()))
            .collect();
        for memory in [1, 5000, 1 << 20] {
            let mut sorter = Sorter::with_memory(dir.path(), memory);
            for (revision, key) in &all[..if memory == 1 { 300 } else { 5000 }] {
                sorter.push(Revision(*revision), key).unwrap();
            }
            let mut found = Vec::new();
            sorter
                .each(|revision, key| {
                    found.push((revision.get(), key.to_vec()));
                    Ok::<_, io::Error>(())
                })
                .unwrap();
            let mut expect = all[..found.len()].to_vec();
            expect.sort();
            assert_eq!(found, expect, "{memory} bytes of memory");
        }
        all.clear();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "files stay behind");
    }
}
