//! The log as CSV (RFC 4180). The first two columns and the name of the file are those of GitLab, so that readers of GitLab's export
//! accept this one: <https://docs.gitlab.com/ci/jobs/ci_job_token/#job-token-authentication-log>

use std::borrow::Cow;

use prost_types::Timestamp;
use proto::{
    iso8601,
    paddock::job_token::v1::{AuthenticationLogEntry, LoggedProject},
    timestamp,
};
use time::OffsetDateTime;

use crate::allowlist::policy;

/// The header line.
const COLUMNS: [&str; 10] = [
    "Origin Project Path",
    "Last Authorized At (UTC)",
    "Origin Project ID",
    "Accessed Project Path",
    "Accessed Project ID",
    "Job Token Policies",
    "First Authorized At (UTC)",
    "Access Count",
    "Last Job ID",
    "Last User ID",
];

/// The characters that start a formula in a spreadsheet, or that it ignores before one.
const FORMULA_STARTS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Writes the header line.
///
/// # Errors
/// Those of the writer; into memory it has none.
pub fn header() -> Result<Vec<u8>, csv::Error> {
    write_records([COLUMNS])
}

/// Writes the lines of the entries.
///
/// # Errors
/// Those of the writer; into memory it has none.
pub fn lines(entries: &[AuthenticationLogEntry]) -> Result<Vec<u8>, csv::Error> {
    write_records(entries.iter().map(|entry| entry_cells(entry).map(|cell| without_formula(&cell).into_owned())))
}

fn write_records<T: AsRef<[u8]>>(records: impl IntoIterator<Item = [T; COLUMNS.len()]>) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for record in records {
        writer.write_record(record)?;
    }
    Ok(writer.into_inner().map_err(|error| error.into_error())?)
}

/// Returns the name of an export of a project.
pub fn file_name(project_id: i64, now: OffsetDateTime, extension: &str) -> String {
    let stamp: String = iso8601::seconds(now).chars().filter(char::is_ascii_digit).collect();
    format!("job-token-authorizations-{project_id}-{stamp}.{extension}")
}

fn entry_cells(entry: &AuthenticationLogEntry) -> [String; COLUMNS.len()] {
    let policies: Vec<_> = entry.job_token_policies().collect();
    [
        project_path(entry.origin_project.as_ref()),
        utc_text(entry.last_authorized_at.as_ref()),
        project_id(entry.origin_project.as_ref()),
        project_path(entry.accessed_project.as_ref()),
        project_id(entry.accessed_project.as_ref()),
        policy::join(&policies),
        utc_text(entry.first_authorized_at.as_ref()),
        entry.access_count.to_string(),
        entry.last_job_id.to_string(),
        entry.last_user_id.to_string(),
    ]
}

/// Returns the path; empty for a project that is deleted or that the caller does not see.
fn project_path(project: Option<&LoggedProject>) -> String {
    project.and_then(|project| project.path_with_namespace.clone()).unwrap_or_default()
}

fn project_id(project: Option<&LoggedProject>) -> String {
    project.map(|project| project.id.to_string()).unwrap_or_default()
}

/// Returns the time in ISO 8601, or an empty text if there is none.
fn utc_text(at: Option<&Timestamp>) -> String {
    at.and_then(timestamp::to_iso8601_seconds).unwrap_or_default()
}

/// Puts a quote before a cell that a spreadsheet would run as a formula, also if white space comes before the formula.
/// Source: <https://owasp.org/www-community/attacks/CSV_Injection>
fn without_formula(cell: &str) -> Cow<'_, str> {
    let is_formula = cell.starts_with(FORMULA_STARTS) || cell.trim_start().starts_with(FORMULA_STARTS);
    if is_formula { format!("'{cell}").into() } else { cell.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use proto::paddock::job_token::v1::JobTokenPolicy::{ReadJobs, ReadPackages};

    use super::*;

    fn file(entries: &[AuthenticationLogEntry]) -> Vec<u8> {
        [header().unwrap(), lines(entries).unwrap()].concat()
    }

    fn project(id: i64, path: Option<&str>) -> Option<LoggedProject> {
        Some(LoggedProject { id, path_with_namespace: path.map(str::to_owned), ..Default::default() })
    }

    fn entry(origin: Option<LoggedProject>) -> AuthenticationLogEntry {
        AuthenticationLogEntry {
            origin_project: origin,
            accessed_project: project(2, Some("group/target")),
            last_authorized_at: Some(Timestamp { seconds: 1_768_478_400, nanos: 999_000_000 }),
            first_authorized_at: Some(Timestamp { seconds: 0, nanos: 0 }),
            job_token_policies: vec![ReadPackages.into(), ReadJobs.into()],
            access_count: 3,
            last_job_id: 4,
            last_user_id: 5,
            ..Default::default()
        }
    }

    #[test]
    fn the_file_begins_with_the_columns_of_gitlab() {
        let file = file(&[entry(project(1, Some("group/origin"))), entry(project(9, None))]);
        let expected = "Origin Project Path,Last Authorized At (UTC),Origin Project ID,Accessed Project Path,\
             Accessed Project ID,Job Token Policies,First Authorized At (UTC),Access Count,Last Job ID,Last User ID\r\n\
             group/origin,2026-01-15T12:00:00Z,1,group/target,2,\"read_jobs,read_packages\",1970-01-01T00:00:00Z,3,4,5\r\n\
             ,2026-01-15T12:00:00Z,9,group/target,2,\"read_jobs,read_packages\",1970-01-01T00:00:00Z,3,4,5\r\n";
        assert_eq!(std::str::from_utf8(&file).unwrap(), expected);
    }

    #[test]
    fn the_name_has_the_project_and_the_time() {
        let now = time::macros::datetime!(2026-01-15 12:34:56.789 UTC);
        assert_eq!(file_name(42, now, "csv"), "job-token-authorizations-42-20260115123456.csv");
    }

    #[test]
    fn a_formula_gets_a_quote() {
        for (cell, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\rx", "'\rx"),
            ("  =1", "'  =1"),
            ("\u{a0}\n@x", "'\u{a0}\n@x"),
            ("", ""),
            ("group/a-b", "group/a-b"),
            ("a=b", "a=b"),
            ("'=1", "'=1"),
        ] {
            assert_eq!(without_formula(cell), expected, "{cell:?}");
        }
    }

    proptest! {
        #[test]
        fn no_cell_of_a_file_starts_a_formula_and_every_path_can_be_read_back(path in "[=+@\t\r\n\" ,;'a-z-]{0,12}|.{0,12}") {
            let file = file(&[entry(project(1, Some(&path)))]);
            let mut reader = csv::ReaderBuilder::new().from_reader(file.as_slice());
            let record = reader.records().next().unwrap().unwrap();
            for cell in &record {
                prop_assert!(!cell.starts_with(FORMULA_STARTS) && !cell.trim_start().starts_with(FORMULA_STARTS), "{cell:?}");
            }
            let cell = &record[0];
            prop_assert!(cell == path || cell.strip_prefix('\'') == Some(path.as_str()), "{cell:?} of {path:?}");
        }
    }
}
