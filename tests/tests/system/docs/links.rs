//! Links between the pages lead to existing pages and headings.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// The anchors that the headings of a page make, in GitHub's spelling.
fn anchors(text: &str) -> HashSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// The targets of the links of a page, without external ones.
fn targets(text: &str) -> Vec<String> {
    let parts = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    parts.filter(|target| !target.contains("://") && !target.contains(' ')).map(ToOwned::to_owned).collect()
}

fn problem(page: &Path, text: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { page.to_owned() } else { page.parent()?.join(path) };
    if !file.exists() {
        return Some(format!("{}: {target}: no such file", page.display()));
    }
    let linked = if path.is_empty() { text.to_owned() } else { std::fs::read_to_string(&file).unwrap_or_default() };
    let known = anchor.is_empty() || anchors(&linked).contains(anchor);
    (!known).then(|| format!("{}: {target}: no such heading", page.display()))
}

fn pages() -> Vec<PathBuf> {
    let mut pages = system::files_below(&system::root().join("docs"));
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| system::root().join(name)));
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut problems = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for target in targets(&text) {
            links += 1;
            problems.extend(problem(&page, &text, &target));
        }
    }
    assert!(links > 100, "only {links} links were found");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_link_check_can_fail() {
    let page = system::root().join("README.md");
    let text = "# One\n\n## Two words\n";
    assert_eq!(problem(&page, text, "#two-words"), None);
    assert!(problem(&page, text, "#three").is_some());
    assert!(problem(&page, text, "docs/nothing.md").is_some());
}
