//! Whether records of accesses are lost, left out or late, by what the running server counts.

use reqwest::Client;

use super::report::{Finding, Severity};

/// From this age on, in seconds, a record that is not in the log yet is late.
const LATE_SECONDS: f64 = 60.0;

const REMEDY_LOST: &str = "Find the line of level ERROR with `captures are lost` in the log of `paddock serve`: it has the \
                           exact range. See how Redis came to lose what it had written.";
const REMEDY_LATE: &str = "See in the log of `paddock serve` why the database or Redis takes no records.";
const REMEDY_UNREADABLE: &str = "Keep the data folder and report it; the records were set aside.";
const REMEDY_DROPPED: &str =
    "Raise job_token_auth.captures.queue_length, or take these routes from best_effort to spool.";

/// Asks the server's own counters, which begin at its start.
pub async fn check(client: &Client, metrics_listen: &str) -> Option<Finding> {
    if metrics_listen.is_empty() {
        return None;
    }
    let asked =
        async { client.get(format!("http://{metrics_listen}/metrics")).send().await?.error_for_status()?.text().await };
    Some(match asked.await {
        Ok(metrics) => judge(&metrics),
        Err(error) => {
            let remedy = "Set PADDOCK_PADDOCK__METRICS_LISTEN to what `paddock serve` uses.";
            Finding::warning("captures", format!("the metrics cannot be read: {error}"), remedy)
        }
    })
}

fn judge(metrics: &str) -> Finding {
    let lost = sum(metrics, "paddock_capture_lost_total");
    let unreadable = sum(metrics, "paddock_capture_unreadable_total");
    let dropped = sum(metrics, "paddock_capture_dropped_total");
    let age = values(metrics, "paddock_capture_unflushed_age_seconds").fold(0.0, f64::max);
    let (severity, finding, remedy) = if lost > 0.0 {
        (Severity::Bad, format!("{lost} records of accesses are lost"), REMEDY_LOST)
    } else if unreadable > 0.0 {
        (Severity::Bad, format!("{unreadable} records of accesses cannot be read"), REMEDY_UNREADABLE)
    } else if age > LATE_SECONDS {
        (Severity::Warning, format!("a record of an access waits for {age:.0} seconds"), REMEDY_LATE)
    } else if dropped > 0.0 {
        (Severity::Warning, format!("{dropped} records of accesses were left out"), REMEDY_DROPPED)
    } else {
        (Severity::Good, "no record of an access is lost or late".to_owned(), "")
    };
    Finding { check: "captures", severity, finding, remedy: remedy.to_owned() }
}

fn sum(metrics: &str, name: &str) -> f64 {
    values(metrics, name).sum()
}

/// The values of a metric, one for each series.
/// Source of the format: <https://prometheus.io/docs/instrumenting/exposition_formats/>
fn values(metrics: &str, name: &str) -> impl Iterator<Item = f64> {
    let of_it = metrics.lines().filter_map(move |line| line.strip_prefix(name));
    of_it.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worst_is_told() {
        let late = "paddock_capture_unflushed_age_seconds{partition=\"0\"} 61.5\n";
        let dropped =
            "paddock_capture_dropped_total{step=\"flush\"} 2\npaddock_capture_dropped_total{step=\"pend\"} 1\n";
        let lost = "# TYPE paddock_capture_lost_total counter\npaddock_capture_lost_total 0\n";
        for (metrics, severity, told) in [
            (String::new(), Severity::Good, "no record"),
            (lost.to_owned(), Severity::Good, "no record"),
            (dropped.to_owned(), Severity::Warning, "3 records of accesses were left out"),
            (format!("{dropped}{late}"), Severity::Warning, "waits for 62 seconds"),
            (format!("{late}paddock_capture_unreadable_total 1\n"), Severity::Bad, "1 records of accesses cannot"),
            ("paddock_capture_lost_total 7\n".to_owned(), Severity::Bad, "7 records of accesses are lost"),
            ("paddock_capture_lost_total_other 7\n".to_owned(), Severity::Good, "no record"),
        ] {
            let found = judge(&metrics);
            assert!(found.severity == severity && found.finding.contains(told), "{metrics}: {found:?}");
            assert_eq!(found.remedy.is_empty(), severity == Severity::Good, "{found:?}");
        }
    }
}
