//! `configuration.md`: every setting, from the default files that the crates compile in.

use std::{fmt::Write as _, fs};

use super::{cell, header};

/// The default files and who reads them.
const FILES: [(&str, &str, &str); 5] = [
    (
        "paddock serve",
        "paddock/config.default.toml",
        "Read only by `paddock serve`. These values override the defaults of the sections below.",
    ),
    ("Every process", "services/chassis/config.default.toml", "Read by every process."),
    (
        "gateway",
        "gateway/config.default.toml",
        "Read by `gateway`, and by `paddock serve` except for `listen`, `metrics_listen` and `endpoint`, which it sets itself.",
    ),
    (
        "runner-registry",
        "services/runner-registry/config.default.toml",
        "Read by `runner-registry`, and by `paddock serve` except for `listen`, `metrics_listen`, `sqlite_path` and\n`root_token_file`, which it sets itself. `paddock serve` refuses another `database`.",
    ),
    (
        "job-token-auth",
        "services/job-token-auth/config.default.toml",
        "Read by `job-token-auth`, and by `paddock serve` except for `listen`, `metrics_listen`, `sqlite_path`, `endpoint` and\n`spool_folder`, which it sets itself. `paddock serve` refuses another `database`.",
    ),
];

const INTRODUCTION: &str = "\
Every setting has a default. A file (`--config FILE`, TOML) overrides the default, and an environment variable overrides the file.
Its name is `PADDOCK_` and the names of the levels in capitals, with `__` between them. An unknown name or an invalid value ends
the process at start; [mistakes](../how-to/configure.md#mistakes) are reported together. Secrets are files and never settings:
[secrets](secrets.md).
";

const TABLE: &str = "| Setting | Default | Variable | Meaning |\n|---|---|---|---|\n";

pub fn page() -> String {
    let mut out = header("Configuration", "the files `config.default.toml`", INTRODUCTION);
    for (title, file, readers) in FILES {
        let text = fs::read_to_string(system::root().join(file)).expect("a default file");
        let _ = write!(out, "\n## {title}\n\n{readers}\n");
        render(&mut out, file, &text);
    }
    out
}

/// Renders the settings of a default file. The comment above a setting also applies to those that directly follow it.
fn render(out: &mut String, file: &str, text: &str) {
    let mut section = String::new();
    let mut comment = Vec::new();
    let mut is_commented = false;
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix('#') {
            if std::mem::take(&mut is_commented) {
                comment.clear();
            }
            comment.push(words.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            let introduction = std::mem::take(&mut comment).join(" ");
            let gap = if introduction.is_empty() { "" } else { "\n\n" };
            let _ = write!(out, "\n### `[{section}]`\n\n{introduction}{gap}{TABLE}");
        } else if let Some((name, value)) = line.split_once('=') {
            let name = name.trim();
            let value = value.trim();
            assert!(!comment.is_empty(), "{file}: {section}.{name} has no comment");
            if section.is_empty() && !out.ends_with("|\n") {
                let _ = write!(out, "\n{TABLE}");
            }
            let variable = variable(&section, name);
            let _ = writeln!(out, "| `{name}` | `{}` | `{variable}` | {} |", cell(value), cell(&comment.join(" ")));
            is_commented = true;
        } else {
            assert!(line.is_empty(), "{file}: cannot read {line:?}");
            comment.clear();
        }
    }
}

/// The environment variable of a setting.
fn variable(section: &str, name: &str) -> String {
    let levels = section.split('.').chain([name]).filter(|level| !level.is_empty());
    format!("PADDOCK_{}", levels.collect::<Vec<_>>().join("__").to_uppercase())
}

/// The renderer reads every setting of the default files.
#[test]
fn every_default_is_rendered() {
    for (_, file, _) in FILES {
        let text = fs::read_to_string(system::root().join(file)).expect("a default file");
        let table: toml::Table = text.parse().expect("TOML");
        let mut rendered = String::new();
        render(&mut rendered, file, &text);
        let rows = rendered.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, count(&table), "{file}");
    }
}

fn count(table: &toml::Table) -> usize {
    table.values().map(|value| value.as_table().map_or(1, count)).sum()
}
