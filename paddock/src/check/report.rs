//! The findings of the checks, printed as text or as JSON.

use std::io;

use serde::Serialize;

use crate::output::{self, Format};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong.
    Good,
    /// It works, but needs attention.
    Warning,
    /// It does not work.
    Bad,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The name of the check. It is the same in every release.
    pub check: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The state, in one line.
    pub finding: String,
    /// What to do. Empty if nothing is wrong.
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

    /// Reports whether something is broken.
    pub fn has_bad(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Bad)
    }

    #[cfg(test)]
    pub fn into_findings(self) -> Vec<Finding> {
        self.0
    }

    pub fn print(&self, format: Format) -> io::Result<()> {
        match format {
            Format::Json => output::print_json(&self.0),
            Format::Text => output::print(&self.text()),
        }
    }

    fn text(&self) -> String {
        self.0.iter().map(lines_of).collect()
    }
}

fn lines_of(Finding { check, severity, finding, remedy }: &Finding) -> String {
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
        assert!(!report.has_bad());
        assert_eq!(report.text(), "✓ one: fine\n! two: odd\n    → Look at it.\n");
        report.add(Finding::bad("three", "broken", "Mend it."));
        assert!(report.has_bad());
    }
}
