//! Checks the metrics of the running server for captures that are lost, unreadable, late or left out.

use chassis::{identity::IdentityKeys, secrets::SecretStore};
use reqwest::Client;

use super::report::Finding;
use crate::{api::root_cause, config::Config, data_folder, serve::INSTANCE_METRIC};

/// The age in seconds from which a record that is not in the log yet is late.
const LATE_SECONDS: f64 = 60.0;

const REMEDY_LOST: &str = "The table capture_gaps has the exact ranges, and the log of `paddock serve` a line of level ERROR with \
                           `captures are lost` for each. Find out why Redis lost what it had written.";
const REMEDY_LATE: &str = "Find the cause in the log of `paddock serve`: the database or Redis takes no records.";
const REMEDY_UNREADABLE: &str = "Keep the data folder and report it; the records were set aside.";
const REMEDY_DROPPED: &str =
    "Raise job_token_auth.captures.queue_length, or take these routes from best_effort to spool.";
const REMEDY_UNKNOWN: &str = "Set PADDOCK_PADDOCK__METRICS_LISTEN to what `paddock serve` uses.";

/// Returns a finding, or none if the server has no metrics. The count of lost captures survives a restart; the other
/// counts begin with the server.
pub async fn check(client: &Client, config: &Config) -> Option<Finding> {
    let address = &config.paddock.metrics_listen;
    if address.is_empty() {
        return None;
    }
    let keys = IdentityKeys::load(&SecretStore::open(data_folder::secrets_folder(&config.data)));
    let key_ids = keys.map(|keys| keys.key_ids()).unwrap_or_default();
    let finding = match fetch_metrics(client, address).await {
        Ok(metrics) => assess_metrics(&metrics, &key_ids),
        Err(error) => Err(root_cause(&error)),
    };
    Some(finding.unwrap_or_else(|problem| {
        let text = format!("cannot tell from the metrics at {address}: {problem}");
        Finding::warning("captures", text, REMEDY_UNKNOWN)
    }))
}

async fn fetch_metrics(client: &Client, address: &str) -> reqwest::Result<String> {
    let response = client.get(format!("http://{address}/metrics")).send().await?;
    response.error_for_status()?.text().await
}

/// Returns the finding for these metrics. Fails if they are not from the server that uses one of these keys.
fn assess_metrics(metrics: &str, key_ids: &[String]) -> Result<Finding, String> {
    check_origin(metrics, key_ids)?;
    let lost = sum_of_series(metrics, "paddock_capture_lost_records")?;
    let unreadable = sum_of_series(metrics, "paddock_capture_unreadable_total")?;
    // A pending capture that was left out loses no record; only the second step counts.
    let dropped = sum_of_series(metrics, r#"paddock_capture_dropped_total{step="flush"}"#)?;
    // The metric has a series for each partition that was read at least once.
    let age = series_values(metrics, "paddock_capture_unflushed_age_seconds").fold(0.0, f64::max);
    if lost > 0.0 {
        let text = format!("{lost} records of accesses were lost lately");
        return Ok(Finding::bad("captures", text, REMEDY_LOST));
    }
    if unreadable > 0.0 {
        let text = format!("{unreadable} records of accesses cannot be read");
        return Ok(Finding::bad("captures", text, REMEDY_UNREADABLE));
    }
    if age > LATE_SECONDS {
        let text = format!("a record of an access waits for {age:.0} seconds");
        return Ok(Finding::warning("captures", text, REMEDY_LATE));
    }
    if dropped > 0.0 {
        let text = format!("{dropped} records of accesses were left out");
        return Ok(Finding::warning("captures", text, REMEDY_DROPPED));
    }
    Ok(Finding::good("captures", "no record of an access is lost or late"))
}

fn check_origin(metrics: &str, key_ids: &[String]) -> Result<(), String> {
    let instances: Vec<_> = metric_series(metrics, INSTANCE_METRIC).collect();
    if instances.is_empty() {
        return Err("they are not those of `paddock serve`".to_owned());
    }
    let labels: Vec<_> = key_ids.iter().map(|id| format!("identity_key=\"{id}\"")).collect();
    if !instances.iter().any(|instance| labels.iter().any(|label| instance.contains(label))) {
        return Err(
            "they are those of a server with another data folder, or with keys that were changed since".to_owned()
        );
    }
    Ok(())
}

/// Returns the sum over all series of a metric. Fails if there is none.
fn sum_of_series(metrics: &str, name: &str) -> Result<f64, String> {
    let values: Vec<_> = series_values(metrics, name).collect();
    if values.is_empty() {
        return Err(format!("there is no {name}"));
    }
    Ok(values.iter().sum())
}

/// Returns the values of a metric, one for each series.
fn series_values(metrics: &str, name: &str) -> impl Iterator<Item = f64> {
    metric_series(metrics, name).filter_map(|series| series.rsplit(' ').next()?.parse().ok())
}

/// Returns the series of a metric: its lines, without the name.
/// Source of the format: <https://prometheus.io/docs/instrumenting/exposition_formats/>
fn metric_series<'a>(metrics: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let starting_with_name = metrics.lines().filter_map(move |line| line.strip_prefix(name));
    starting_with_name.filter(|rest| rest.starts_with(['{', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Severity;

    /// The metrics of a server that has counted nothing yet.
    const NOTHING_COUNTED: &str = "# TYPE paddock_capture_lost_records gauge\npaddock_capture_lost_records 0\n\
        paddock_capture_unreadable_total 0\npaddock_capture_dropped_total{step=\"begin\"} 0\n\
        paddock_capture_dropped_total{step=\"flush\"} 0\n\
        paddock_instance{identity_key=\"0a1b\"} 1\n";

    fn assess_with_key(metrics: &str, id: &str) -> Result<Finding, String> {
        assess_metrics(metrics, &["other".to_owned(), id.to_owned()])
    }

    #[test]
    fn the_worst_problem_is_reported() {
        let late = "paddock_capture_unflushed_age_seconds{partition=\"0\"} 61.5\n";
        let dropped =
            "paddock_capture_dropped_total{step=\"flush\"} 2\npaddock_capture_dropped_total{step=\"begin\"} 1\n";
        let pending = "paddock_capture_dropped_total{step=\"begin\"} 9\n";
        for (metrics, severity, text) in [
            (String::new(), Severity::Good, "no record"),
            (pending.to_owned(), Severity::Good, "no record"),
            (dropped.to_owned(), Severity::Warning, "2 records of accesses were left out"),
            (format!("{dropped}{late}"), Severity::Warning, "waits for 62 seconds"),
            (format!("{late}paddock_capture_unreadable_total 1\n"), Severity::Bad, "1 records of accesses cannot"),
            ("paddock_capture_lost_records 7\n".to_owned(), Severity::Bad, "7 records of accesses were lost lately"),
            ("paddock_capture_lost_records_other 7\n".to_owned(), Severity::Good, "no record"),
        ] {
            let found = assess_with_key(&format!("{NOTHING_COUNTED}{metrics}"), "0a1b");
            let Ok(found) = found else { panic!("{metrics}: {found:?}") };
            assert_eq!(found.severity, severity, "{metrics}: {found:?}");
            assert!(found.finding.contains(text), "{metrics}: {found:?}");
            assert_eq!(found.remedy.is_empty(), severity == Severity::Good, "{metrics}: {found:?}");
        }
    }

    #[test]
    fn incomplete_metrics_and_those_of_another_server_are_not_used() {
        assert!(assess_with_key(NOTHING_COUNTED, "0a1b").is_ok());
        let found = assess_with_key(NOTHING_COUNTED, "ffff");
        assert!(found.is_err_and(|problem| problem.contains("another data folder")));
        let found = assess_with_key("<html>It works!</html>", "0a1b");
        assert!(found.is_err_and(|problem| problem.contains("not those of")));
        for missing in ["lost", "unreadable", "dropped"] {
            let rest: Vec<_> = NOTHING_COUNTED.lines().filter(|line| !line.contains(missing)).collect();
            let found = assess_with_key(&rest.join("\n"), "0a1b");
            assert!(found.is_err_and(|problem| problem.contains(missing)), "{missing}");
        }
    }
}
