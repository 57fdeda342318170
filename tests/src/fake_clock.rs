//! The clock of processes under test, which a test sets through libfaketime.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::find_library;

/// A clock that the processes started with [`FakeClock::settings`] read. They see a change at their next look at the clock. Their
/// timeouts and timers follow the true time.
#[derive(Debug)]
pub struct FakeClock {
    file: PathBuf,
    library: Option<PathBuf>,
}

impl FakeClock {
    /// Prepares a clock that is kept in this file. It shows the true time until it is set.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        let clock = Self { file: file.to_owned(), library: find_library("faketime/libfaketimeMT.so.1") };
        clock.shift(0);
        clock
    }

    /// Reports whether libfaketime is installed. Without it, the processes have the true time.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.library.is_some()
    }

    /// The environment of a process that reads this clock.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let Some(library) = &self.library else { return Vec::new() };
        vec![
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            // Seconds since the Unix epoch, so that the time zone of the machine does not matter.
            ("FAKETIME_FMT", "%s".to_owned()),
            // Every look at the clock reads the file: 6 microseconds instead of one, and no change is seen late.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Lets it run this many seconds ahead of the true time, or behind it.
    pub fn shift(&self, seconds: i64) {
        self.write(&format!("{seconds:+}s"));
    }

    /// Stops it at an instant, in seconds since the Unix epoch.
    pub fn stop_at(&self, instant: i64) {
        self.write(&instant.to_string());
    }

    /// Replaces the file, so that nobody reads half of it.
    fn write(&self, content: &str) {
        let unfinished = self.file.with_extension("unfinished");
        fs::write(&unfinished, format!("{content}\n"))
            .and_then(|()| fs::rename(&unfinished, &self.file))
            .expect("the file of the clock is written");
    }
}
