//! Who the member is: two numbers made once by chance and kept in `MEMBER`, one line.
//!
//! ```text
//! ketch-member <cluster id, 16 hex digits> <member id, 16 hex digits>
//! ```

use std::path::Path;

use base::disk::Disk;
use base::random::Random;

use crate::Error;

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
        let parsed = std::str::from_utf8(&content).ok().and_then(parse);
        let shown = || format!("not an identity: {:?}", content.escape_ascii().to_string());
        parsed.map(Some).ok_or_else(|| Error::corrupt(&path, shown()))
    }

    /// Keeps it, durably.
    pub(crate) fn write(self, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
        let path = dir.join("MEMBER");
        let line = format!("{NAME} {:016x} {:016x}\n", self.cluster_id, self.member_id);
        disk.write_atomically(&path, line.as_bytes()).map_err(Error::io(&path))
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
    let mut words = text.trim_end().strip_prefix(NAME)?.split_ascii_whitespace();
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
}
