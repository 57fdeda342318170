//! The files of the spool: segments with growing numbers, and a lock against a second process.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

const EXTENSION: &str = "spool";
const LOCK: &str = "lock";

/// The opened folder. It stays locked as long as this lives.
#[derive(Debug)]
pub struct SpoolFolder {
    path: PathBuf,
    _lock: File,
}

impl SpoolFolder {
    /// Opens the folder. Makes it if it is missing.
    ///
    /// # Errors
    /// If it cannot be made or written, or another process uses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = File::create(path.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another process uses it; give each process a spool folder of its own"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Returns the numbers of the segments, with their sizes in bytes.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn segments(&self) -> io::Result<BTreeMap<u64, u64>> {
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(number) = number
                && path.extension().is_some_and(|extension| extension == EXTENSION)
            {
                segments.insert(number, entry.metadata()?.len());
            }
        }
        Ok(segments)
    }

    /// Makes a segment. It is there after a crash too.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(&self, segment: u64) -> io::Result<File> {
        let file = File::options().create_new(true).append(true).open(self.path(segment))?;
        File::open(&self.path)?.sync_all()?;
        Ok(file)
    }

    /// Returns the path of a segment.
    pub fn path(&self, segment: u64) -> PathBuf {
        self.path.join(format!("{segment:020}.{EXTENSION}"))
    }
}
