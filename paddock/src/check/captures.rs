//! Whether records of accesses are lost, left out or late, by what the running server counts.

use chassis::{identity::IdentityKeys, secrets::SecretStore};
use reqwest::Client;

use super::{
    INSTANCE_METRIC,
    report::{Finding, Severity},
};
use crate::{api::cause, config::Config, data_folder};

/// From this age on, in seconds, a record that is not in the log yet is late.
const LATE_SECONDS: f64 = 60.0;

const REMEDY_LOST: &str = "The table capture_gaps has the exact ranges, and the log of `paddock serve` a line of level ERROR with \
                           `captures are lost` for each. See how Redis came to lose what it had written.";
const REMEDY_LATE: &str = "See in the log of `paddock serve` why the database or Redis takes no records.";
const REMEDY_UNREADABLE: &str = "Keep the data folder and report it; the records were set aside.";
const REMEDY_DROPPED: &str =
    "Raise job_token_auth.captures.queue_length, or take these routes from best_effort to spool.";

/// Asks the server's own metrics. What was lost is remembered over a restart; the others begin with the server.
pub async fn check(client: &Client, config: &Config) -> Option<Finding> {
    let address = &config.paddock.metrics_listen;
    if address.is_empty() {
        return None;
    }
    let asked =
        async { client.get(format!("http://{address}/metrics")).send().await?.error_for_status()?.text().await };
    let keys = IdentityKeys::load(&SecretStore::open(data_folder::secrets(&config.data)));
    let ids = keys.map(|keys| keys.key_ids()).unwrap_or_default();
    let judged = asked.await.map_err(|error| cause(&error)).and_then(|metrics| judge(&metrics, &ids));
    Some(judged.unwrap_or_else(|problem| {
        let remedy = "Set PADDOCK_PADDOCK__METRICS_LISTEN to what `paddock serve` uses.";
        Finding::warning("captures", format!("cannot tell from the metrics at {address}: {problem}"), remedy)
    }))
}

/// What the metrics say; an error if they are not those of the server that has one of these keys.
fn judge(metrics: &str, ids: &[String]) -> Result<Finding, String> {
    let instances: Vec<_> = lines(metrics, INSTANCE_METRIC).collect();
    if instances.is_empty() {
        return Err("they are not those of `paddock serve`".to_owned());
    }
    if !ids.iter().any(|id| instances.iter().any(|line| line.contains(&format!("\"{id}\"")))) {
        return Err(
            "they are those of a server with another data folder, or with keys that were changed since".to_owned()
        );
    }
    let lost = sum(metrics, "paddock_capture_lost_records")?;
    let unreadable = sum(metrics, "paddock_capture_unreadable_total")?;
    // A pending capture that was left out costs no record.
    let dropped = sum(metrics, r#"paddock_capture_dropped_total{step="flush"}"#)?;
    // There is one for each partition once it was looked at.
    let age = values(metrics, "paddock_capture_unflushed_age_seconds").fold(0.0, f64::max);
    let (severity, finding, remedy) = if lost > 0.0 {
        (Severity::Bad, format!("{lost} records of accesses were lost lately"), REMEDY_LOST)
    } else if unreadable > 0.0 {
        (Severity::Bad, format!("{unreadable} records of accesses cannot be read"), REMEDY_UNREADABLE)
    } else if age > LATE_SECONDS {
        (Severity::Warning, format!("a record of an access waits for {age:.0} seconds"), REMEDY_LATE)
    } else if dropped > 0.0 {
        (Severity::Warning, format!("{dropped} records of accesses were left out"), REMEDY_DROPPED)
    } else {
        (Severity::Good, "no record of an access is lost or late".to_owned(), "")
    };
    Ok(Finding { check: "captures", severity, finding, remedy: remedy.to_owned() })
}

fn sum(metrics: &str, name: &str) -> Result<f64, String> {
    let all: Vec<_> = values(metrics, name).collect();
    if all.is_empty() { Err(format!("there is no {name}")) } else { Ok(all.iter().sum()) }
}

/// The values of a metric, one for each series.
fn values(metrics: &str, name: &str) -> impl Iterator<Item = f64> {
    lines(metrics, name).filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
}

/// What stands behind the name in the lines of a metric.
/// Source of the format: <https://prometheus.io/docs/instrumenting/exposition_formats/>
fn lines<'a>(metrics: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let of_it = metrics.lines().filter_map(move |line| line.strip_prefix(name));
    of_it.filter(|rest| rest.starts_with(['{', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server shows that has counted nothing yet.
    const CALM: &str = "# TYPE paddock_capture_lost_records gauge\npaddock_capture_lost_records 0\n\
        paddock_capture_unreadable_total 0\npaddock_capture_dropped_total{step=\"begin\"} 0\n\
        paddock_capture_dropped_total{step=\"flush\"} 0\n\
        paddock_instance{identity_key=\"0a1b\"} 1\n";

    fn judge_as(metrics: &str, id: &str) -> Result<Finding, String> {
        judge(metrics, &["other".to_owned(), id.to_owned()])
    }

    #[test]
    fn what_is_worst_is_told() {
        let late = "paddock_capture_unflushed_age_seconds{partition=\"0\"} 61.5\n";
        let dropped =
            "paddock_capture_dropped_total{step=\"flush\"} 2\npaddock_capture_dropped_total{step=\"begin\"} 1\n";
        let pending = "paddock_capture_dropped_total{step=\"begin\"} 9\n";
        for (metrics, severity, told) in [
            (String::new(), Severity::Good, "no record"),
            (pending.to_owned(), Severity::Good, "no record"),
            (dropped.to_owned(), Severity::Warning, "2 records of accesses were left out"),
            (format!("{dropped}{late}"), Severity::Warning, "waits for 62 seconds"),
            (format!("{late}paddock_capture_unreadable_total 1\n"), Severity::Bad, "1 records of accesses cannot"),
            ("paddock_capture_lost_records 7\n".to_owned(), Severity::Bad, "7 records of accesses were lost lately"),
            ("paddock_capture_lost_records_other 7\n".to_owned(), Severity::Good, "no record"),
        ] {
            let found = judge_as(&format!("{CALM}{metrics}"), "0a1b");
            let is_it = |found: &Finding| {
                found.severity == severity
                    && found.finding.contains(told)
                    && found.remedy.is_empty() == (severity == Severity::Good)
            };
            assert!(found.as_ref().is_ok_and(is_it), "{metrics}: {found:?}");
        }
    }

    #[test]
    fn what_is_not_told_or_told_by_another_is_not_believed() {
        assert!(judge_as(CALM, "0a1b").is_ok());
        assert!(judge_as(CALM, "ffff").is_err_and(|problem| problem.contains("another data folder")));
        assert!(judge_as("<html>It works!</html>", "0a1b").is_err_and(|problem| problem.contains("not those of")));
        for missing in ["lost", "unreadable", "dropped"] {
            let rest: Vec<_> = CALM.lines().filter(|line| !line.contains(missing)).collect();
            let judged = judge_as(&rest.join("\n"), "0a1b");
            assert!(judged.is_err_and(|problem| problem.contains(missing)), "{missing}");
        }
    }
}
