//! Who the member is: two numbers made once by chance and kept in `MEMBER`, one line.
//!
//! ```text
//! ketch-member <cluster id, 16 hex digits> <member id, 16 hex digits> crc=<8 hex digits>
//! ```
//! The checksum (see [`crate::line`]) came later: a line without one is taken as it is.

use std::path::Path;

use base::disk::Disk;
use base::random::Random;

use crate::{Error, line};

const NAME: &str = "ketch-member";

/// The cluster and the member in it. Neither is ever 0, which etcd's clients read as "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
}

impl Identity {
    /// Numbers nobody had before.
    pub(crate) fn fresh(random: &mut Random) -> Self {
        Self { cluster_id: random.next_u64().max(1), member_id: random.next_u64().max(1) }
    }

    /// What the directory says; None in a directory that has no identity yet.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join("MEMBER");
        if !disk.exists(&path) {
            return Ok(None);
        }
        let content = disk.read(&path).map_err(Error::io(&path))?;
        let parsed = line::unsealed(&content).and_then(parse);
        parsed.map(Some).ok_or_else(|| Error::damaged(&path, &content))
    }

    /// Keeps it, durably.
    pub(crate) fn write(self, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
        let path = dir.join("MEMBER");
        let words = format!("{NAME} {:016x} {:016x}", self.cluster_id, self.member_id);
        disk.write_atomically(&path, line::sealed(&words).as_bytes()).map_err(Error::io(&path))
    }

    /// What the directory says, or fresh numbers, which it says from now on.
    pub(crate) fn read_or_make(disk: &dyn Disk, dir: &Path, random: &mut Random) -> Result<Self, Error> {
        if let Some(found) = Self::read(disk, dir)? {
            return Ok(found);
        }
        let made = Self::fresh(random);
        made.write(disk, dir)?;
        Ok(made)
    }
}

fn parse(text: &str) -> Option<Identity> {
    let mut words = text.strip_prefix(NAME)?.split_ascii_whitespace();
    let mut number = || u64::from_str_radix(words.next()?, 16).ok().filter(|id| *id != 0);
    let identity = Identity { cluster_id: number()?, member_id: number()? };
    words.next().is_none().then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::sim::SimDisk;

    #[test]
    fn it_is_made_once() {
        let disk = SimDisk::new();
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        let mut random = Random::from_seed(7);
        let made = Identity::read_or_make(&disk, dir, &mut random).unwrap();
        assert_eq!(Identity::read_or_make(&disk, dir, &mut random).unwrap(), made);
        disk.write_atomically(&dir.join("MEMBER"), b"ketch-member 0 1\n").unwrap();
        assert!(Identity::read(&disk, dir).is_err());
    }

    #[test]
    fn a_bit_that_flips_makes_nobody_else_of_a_member() {
        let disk = SimDisk::new();
        let (dir, path) = (Path::new("/store"), Path::new("/store/MEMBER"));
        disk.create_dir_all(dir).unwrap();
        Identity { cluster_id: 9, member_id: 100 }.write(&disk, dir).unwrap();
        let written = disk.read(path).unwrap();
        for bit in 0..written.len() * 8 {
            let mut rotten = written.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            disk.write_atomically(path, &rotten).unwrap();
            assert!(Identity::read(&disk, dir).is_err(), "{}", rotten.escape_ascii());
        }
        // As the first releases wrote it.
        disk.write_atomically(path, b"ketch-member 0000000000000009 0000000000000064\n").unwrap();
        assert_eq!(Identity::read(&disk, dir).unwrap(), Some(Identity { cluster_id: 9, member_id: 100 }));
    }
}
