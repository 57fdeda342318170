//! The page of metrics names exactly the metrics of the source.

use std::collections::BTreeSet;

/// The prefix of every metric of Paddock.
const PREFIX: &str = "paddock_";

/// The endings of the names of counters and of metrics with a unit. Other names begin with `paddock_` too.
const ENDINGS: [&str; 5] = ["_total", "_seconds", "_bytes", "_length", "_instance"];

/// Reports whether the word has the form of a metric's name.
fn is_metric(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && ENDINGS.iter().any(|ending| word.ends_with(ending))
}

/// The names in a text between these two marks.
fn names(text: &str, mark: char) -> BTreeSet<String> {
    let quoted = text.split(mark).filter(|word| word.starts_with(PREFIX));
    quoted.filter(|word| is_metric(word)).map(ToOwned::to_owned).collect()
}

#[test]
fn the_page_of_metrics_names_every_one_of_the_source() {
    let mut in_source = BTreeSet::new();
    for folder in ["services", "gateway", "paddock"] {
        for file in system::files_below(&system::root().join(folder)) {
            let is_source = file.extension().is_some_and(|extension| extension == "rs");
            if is_source && !file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "target") {
                in_source.append(&mut names(&std::fs::read_to_string(file).expect("a text"), '"'));
            }
        }
    }
    let page = std::fs::read_to_string(system::root().join("docs/reference/metrics.md")).expect("the page");
    assert!(in_source.len() > 10, "{in_source:?}");
    assert_eq!(names(&page, '`'), in_source);
}
