//! What commands print to standard output: text, JSON and tables. The reader may leave before the end, as `head` does.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use clap::ValueEnum;
use serde::Serialize;

/// How a command prints a list.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// A JSON array of objects.
    Json,
}

/// Prints a text. A reader that has left is not an error.
///
/// # Errors
/// If the text cannot be written for another reason.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a value as indented JSON.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    print(&(text + "\n"))
}

/// Returns a table: a line of headings, then the rows, in columns as wide as their widest cell.
pub fn table<const COLUMNS: usize>(headings: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = table_line(headings, widths);
    for row in rows {
        text += &table_line(row.each_ref().map(String::as_str), widths);
    }
    text
}

fn table_line<const COLUMNS: usize>(cells: [&str; COLUMNS], widths: [usize; COLUMNS]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.into_iter().zip(widths) {
        let _ = write!(line, "{cell:<width$}  ");
    }
    line.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let rows = [["7", "ä", "x"], ["1234", "b", ""]].map(|row| row.map(ToOwned::to_owned));
        assert_eq!(table(["ID", "NAME", "REF"], &rows), "ID    NAME  REF\n7     ä     x\n1234  b\n");
    }
}
