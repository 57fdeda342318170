//! The findings, for people or as JSON.

use std::io;

use clap::ValueEnum;
use serde::Serialize;

use crate::output;

/// How the findings are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// A line per finding.
    Text,
    /// A JSON array of objects.
    Json,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Good,
    /// It works, but somebody should look at it.
    Warning,
    /// It does not work.
    Bad,
}

/// What one check found.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The name of the check; it stays the same from release to release.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub finding: String,
    /// What to do; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Finding {
    pub fn good(check: &'static str, finding: impl Into<String>) -> Self {
        Self { check, severity: Severity::Good, finding: finding.into(), remedy: String::new() }
    }

    pub fn warning(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, severity: Severity::Warning, finding: finding.into(), remedy: remedy.into() }
    }

    pub fn bad(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, severity: Severity::Bad, finding: finding.into(), remedy: remedy.into() }
    }
}

/// All findings, in the order of the checks.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    pub fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    /// Whether nothing is broken.
    pub fn is_good(&self) -> bool {
        self.0.iter().all(|finding| finding.severity != Severity::Bad)
    }

    #[cfg(test)]
    pub fn into_findings(self) -> Vec<Finding> {
        self.0
    }

    pub fn print(&self, format: Format) -> io::Result<()> {
        output::print(&match format {
            Format::Json => serde_json::to_string_pretty(&self.0)? + "\n",
            Format::Text => self.text(),
        })
    }

    fn text(&self) -> String {
        self.0.iter().map(lines).collect()
    }
}

fn lines(Finding { check, severity, finding, remedy }: &Finding) -> String {
    let mark = match severity {
        Severity::Good => "✓",
        Severity::Warning => "!",
        Severity::Bad => "✗",
    };
    let remedy = if remedy.is_empty() { String::new() } else { format!("    → {remedy}\n") };
    format!("{mark} {check}: {finding}\n{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_shown_with_its_remedy_and_breaks_nothing() {
        let mut report = Report::default();
        report.add(Finding::good("one", "fine"));
        report.add(Finding::warning("two", "odd", "Look at it."));
        assert!(report.is_good());
        assert_eq!(report.text(), "✓ one: fine\n! two: odd\n    → Look at it.\n");
        report.add(Finding::bad("three", "broken", "Mend it."));
        assert!(!report.is_good());
    }
}
