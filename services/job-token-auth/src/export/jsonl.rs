//! The log as JSON Lines: one object a line, with the fields of the REST response. The last line has the number of lines before it
//! and their SHA-256, so that a reader sees whether the file is complete. Source: <https://jsonlines.org>

use std::sync::Arc;

use prost::{DecodeError, Message};
use proto::{
    json::{self, MessageWriter, PlanError},
    paddock::job_token::v1::{AccessEvent, AuthenticationLogEntry},
};
use sha2::{Digest as _, Sha256};

/// The writers of the lines. They are prepared once.
#[derive(Debug)]
pub struct LineWriters {
    entries: MessageWriter,
    events: MessageWriter,
}

impl LineWriters {
    /// Prepares the writers.
    ///
    /// # Errors
    /// If the contract has a field that JSON cannot show.
    pub fn new() -> Result<Self, PlanError> {
        let pool = json::descriptor_pool()?;
        Ok(Self {
            entries: MessageWriter::new(&pool, "paddock.job_token.v1.AuthenticationLogEntry")?,
            events: MessageWriter::new(&pool, "paddock.job_token.v1.AccessEvent")?,
        })
    }
}

/// A file that is written in chunks.
pub struct JsonLines {
    writers: Arc<LineWriters>,
    count: usize,
    hash: Sha256,
}

impl JsonLines {
    /// Begins a file.
    pub fn new(writers: Arc<LineWriters>) -> Self {
        Self { writers, count: 0, hash: Sha256::new() }
    }

    /// Writes the lines of entries.
    ///
    /// # Errors
    /// If the messages are not those of the contract.
    pub fn entries(&mut self, entries: &[AuthenticationLogEntry]) -> Result<Vec<u8>, DecodeError> {
        let lines = write_lines(&self.writers.entries, entries)?;
        self.add_lines(entries.len(), &lines);
        Ok(lines)
    }

    /// Writes the lines of events.
    ///
    /// # Errors
    /// If the messages are not those of the contract.
    pub fn events(&mut self, events: &[AccessEvent]) -> Result<Vec<u8>, DecodeError> {
        let lines = write_lines(&self.writers.events, events)?;
        self.add_lines(events.len(), &lines);
        Ok(lines)
    }

    /// Returns the last line.
    pub fn end(&self) -> String {
        let hash = hex::encode(self.hash.clone().finalize());
        format!("{{\"count\":{},\"sha256\":\"{hash}\"}}\n", self.count)
    }

    fn add_lines(&mut self, count: usize, lines: &[u8]) {
        self.count += count;
        self.hash.update(lines);
    }
}

fn write_lines(writer: &MessageWriter, messages: &[impl Message]) -> Result<Vec<u8>, DecodeError> {
    let mut lines = Vec::new();
    for message in messages {
        writer.write(&mut lines, message)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use prost_types::Timestamp;
    use proto::paddock::job_token::v1::{JobTokenPolicy::ReadJobs, LoggedPolicy, LoggedProject, ObjectState};

    use super::*;

    fn new_file() -> JsonLines {
        JsonLines::new(Arc::new(LineWriters::new().unwrap()))
    }

    #[test]
    fn a_line_has_the_fields_of_the_rest_answer() {
        let at = Some(Timestamp { seconds: 1_768_478_400, nanos: 45_000_000 });
        let entry = AuthenticationLogEntry {
            origin_project: Some(LoggedProject {
                id: 1,
                name: Some("Origin".to_owned()),
                path: Some("origin".to_owned()),
                path_with_namespace: Some("group/origin".to_owned()),
                state: ObjectState::Visible.into(),
            }),
            accessed_project: Some(LoggedProject { id: 2, state: ObjectState::Deleted.into(), ..Default::default() }),
            last_authorized_at: at,
            job_token_policies: vec![ReadJobs.into()],
            job_token_policies_last_used: vec![LoggedPolicy { policy: ReadJobs.into(), last_authorized_at: at }],
            first_authorized_at: at,
            access_count: 3,
            last_job_id: 4,
            last_user_id: 5,
        };
        let mut file = new_file();
        let lines = String::from_utf8(file.entries(&[entry]).unwrap()).unwrap();
        let lines = lines.trim_end();
        let end = file.end();
        let expected = "{\"origin_project\":{\"id\":1,\"name\":\"Origin\",\"path\":\"origin\",\
            \"path_with_namespace\":\"group/origin\",\"state\":\"visible\"},\
            \"accessed_project\":{\"id\":2,\"name\":null,\"path\":null,\"path_with_namespace\":null,\"state\":\"deleted\"},\
            \"last_authorized_at\":\"2026-01-15T12:00:00.045Z\",\"job_token_policies\":[\"read_jobs\"],\
            \"job_token_policies_last_used\":[{\"policy\":\"read_jobs\",\"last_authorized_at\":\"2026-01-15T12:00:00.045Z\"}],\
            \"first_authorized_at\":\"2026-01-15T12:00:00.045Z\",\"access_count\":3,\"last_job_id\":4,\"last_user_id\":5}";
        assert_eq!(lines, expected);
        let hash = hex::encode(Sha256::digest(format!("{lines}\n")));
        assert_eq!(end, format!("{{\"count\":1,\"sha256\":\"{hash}\"}}\n"));
    }

    #[test]
    fn a_file_without_entries_says_so() {
        let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(new_file().end(), format!("{{\"count\":0,\"sha256\":\"{hash}\"}}\n"));
    }
}
