//! Lists as JSON Lines: one object a line, with the fields of the REST answer, and a last line with the number of lines
//! before it and their SHA-256, so that a reader sees whether the file is whole. Source: <https://jsonlines.org>

use prost_types::Timestamp;
use proto::paddock::job_token::v1::{AccessEvent, AuthenticationLogEntry, CaptureMode, LoggedProject, ObjectState};
use proto::timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::allowlist::policy;

/// A file that is written piece by piece.
#[derive(Default)]
pub struct JsonLines {
    count: usize,
    hash: Sha256,
}

impl JsonLines {
    /// The lines of these entries.
    ///
    /// # Errors
    /// Those of the writer; into memory it has none.
    pub fn entries(&mut self, entries: &[AuthenticationLogEntry]) -> Result<Vec<u8>, serde_json::Error> {
        self.lines(entries.iter().map(Entry::from))
    }

    /// The lines of these events.
    ///
    /// # Errors
    /// Those of the writer; into memory it has none.
    pub fn events(&mut self, events: &[AccessEvent]) -> Result<Vec<u8>, serde_json::Error> {
        self.lines(events.iter().map(Event::from))
    }

    /// The last line.
    ///
    /// # Errors
    /// Those of the writer; into memory it has none.
    pub fn end(self) -> Result<Vec<u8>, serde_json::Error> {
        let mut end = Vec::new();
        line(&mut end, &End { count: self.count, sha256: hex::encode(self.hash.finalize()) })?;
        Ok(end)
    }

    fn lines(&mut self, items: impl ExactSizeIterator<Item = impl Serialize>) -> Result<Vec<u8>, serde_json::Error> {
        let mut lines = Vec::new();
        self.count += items.len();
        for item in items {
            line(&mut lines, &item)?;
        }
        self.hash.update(&lines);
        Ok(lines)
    }
}

fn line(file: &mut Vec<u8>, line: &impl Serialize) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *file, line)?;
    file.push(b'\n');
    Ok(())
}

/// See [`AuthenticationLogEntry`]; the order is that of its fields.
#[derive(Serialize)]
struct Entry<'a> {
    origin_project: Option<Project<'a>>,
    accessed_project: Option<Project<'a>>,
    last_authorized_at: Option<String>,
    job_token_policies: Vec<String>,
    job_token_policies_last_used: Vec<Policy>,
    first_authorized_at: Option<String>,
    access_count: i64,
    last_job_id: i64,
    last_user_id: i64,
}

/// See [`AccessEvent`]; the order is that of its fields.
#[derive(Serialize)]
struct Event<'a> {
    id: &'a str,
    origin_project: Option<Project<'a>>,
    accessed_project: Option<Project<'a>>,
    accessed_at: Option<String>,
    job_id: i64,
    user_id: i64,
    route: &'a str,
    job_token_policies: Vec<String>,
    status: i32,
    capture_mode: Option<&'static str>,
    request_id: &'a str,
    remote_ip: Option<&'a str>,
    resolved: bool,
}

#[derive(Serialize)]
struct Project<'a> {
    id: i64,
    name: Option<&'a str>,
    path: Option<&'a str>,
    path_with_namespace: Option<&'a str>,
    state: Option<&'static str>,
}

#[derive(Serialize)]
struct Policy {
    policy: String,
    last_authorized_at: Option<String>,
}

#[derive(Serialize)]
struct End {
    count: usize,
    sha256: String,
}

impl<'a> From<&'a AuthenticationLogEntry> for Entry<'a> {
    fn from(entry: &'a AuthenticationLogEntry) -> Self {
        let last_used = entry.job_token_policies_last_used.iter().map(|used| Policy {
            policy: policy::name(used.policy()),
            last_authorized_at: utc(used.last_authorized_at.as_ref()),
        });
        Self {
            origin_project: entry.origin_project.as_ref().map(Project::from),
            accessed_project: entry.accessed_project.as_ref().map(Project::from),
            last_authorized_at: utc(entry.last_authorized_at.as_ref()),
            job_token_policies: entry.job_token_policies().map(policy::name).collect(),
            job_token_policies_last_used: last_used.collect(),
            first_authorized_at: utc(entry.first_authorized_at.as_ref()),
            access_count: entry.access_count,
            last_job_id: entry.last_job_id,
            last_user_id: entry.last_user_id,
        }
    }
}

impl<'a> From<&'a AccessEvent> for Event<'a> {
    fn from(event: &'a AccessEvent) -> Self {
        Self {
            id: &event.id,
            origin_project: event.origin_project.as_ref().map(Project::from),
            accessed_project: event.accessed_project.as_ref().map(Project::from),
            accessed_at: utc(event.accessed_at.as_ref()),
            job_id: event.job_id,
            user_id: event.user_id,
            route: &event.route,
            job_token_policies: event.job_token_policies().map(policy::name).collect(),
            status: event.status,
            capture_mode: match event.capture_mode() {
                CaptureMode::Unspecified => None,
                CaptureMode::Strict => Some("strict"),
                CaptureMode::Spool => Some("spool"),
                CaptureMode::BestEffort => Some("best_effort"),
            },
            request_id: &event.request_id,
            remote_ip: event.remote_ip.as_deref(),
            resolved: event.resolved,
        }
    }
}

impl<'a> From<&'a LoggedProject> for Project<'a> {
    fn from(project: &'a LoggedProject) -> Self {
        Self {
            id: project.id,
            name: project.name.as_deref(),
            path: project.path.as_deref(),
            path_with_namespace: project.path_with_namespace.as_deref(),
            state: match project.state() {
                ObjectState::Unspecified => None,
                ObjectState::Visible => Some("visible"),
                ObjectState::Hidden => Some("hidden"),
                ObjectState::Deleted => Some("deleted"),
            },
        }
    }
}

/// The time as REST writes it, with milliseconds.
fn utc(at: Option<&Timestamp>) -> Option<String> {
    let at = at?;
    let seconds = timestamp::to_iso8601_seconds(at)?;
    Some(format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at.nanos / 1_000_000))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proto::paddock::job_token::v1::{JobTokenPolicy::ReadJobs, LoggedPolicy};

    use super::*;

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
        let mut file = JsonLines::default();
        let file = [file.entries(&[entry]).unwrap(), file.end().unwrap()].concat();
        let text = std::str::from_utf8(&file).unwrap();
        let (lines, end) = text.trim_end().rsplit_once('\n').unwrap();
        let expected = "{\"origin_project\":{\"id\":1,\"name\":\"Origin\",\"path\":\"origin\",\
            \"path_with_namespace\":\"group/origin\",\"state\":\"visible\"},\
            \"accessed_project\":{\"id\":2,\"name\":null,\"path\":null,\"path_with_namespace\":null,\"state\":\"deleted\"},\
            \"last_authorized_at\":\"2026-01-15T12:00:00.045Z\",\"job_token_policies\":[\"read_jobs\"],\
            \"job_token_policies_last_used\":[{\"policy\":\"read_jobs\",\"last_authorized_at\":\"2026-01-15T12:00:00.045Z\"}],\
            \"first_authorized_at\":\"2026-01-15T12:00:00.045Z\",\"access_count\":3,\"last_job_id\":4,\"last_user_id\":5}";
        assert_eq!(lines, expected);
        let hash = hex::encode(Sha256::digest(format!("{lines}\n")));
        assert_eq!(end, format!("{{\"count\":1,\"sha256\":\"{hash}\"}}"));
    }

    #[test]
    fn a_file_without_entries_says_so() {
        let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(JsonLines::default().end().unwrap(), format!("{{\"count\":0,\"sha256\":\"{hash}\"}}\n").as_bytes());
    }
}
