//! Tables on a terminal: no frames, no blanks at the ends of lines, a count at the end.

use comfy_table::{ContentArrangement, Row, Table, presets};

/// A table with these heads.
pub(crate) fn headed(heads: impl Into<Row>) -> Table {
    let mut t = Table::new();
    t.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    t.set_header(heads);
    t
}

/// Its text, and how many of `what` there are; without the last line's end.
pub(crate) fn counted(t: &Table, count: usize, what: &str) -> String {
    let lines: Vec<String> = t.to_string().lines().map(|l| l.trim_end().to_string()).collect();
    format!("{}\n\n{count} {what}", lines.join("\n"))
}
