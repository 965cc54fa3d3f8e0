//! Sections with `name = value`, as Windows and rclone write them.

/// A section.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    /// In order; a name may come twice.
    pub(super) values: Vec<(&'a str, &'a str)>,
}

impl<'a> Section<'a> {
    /// The last value of this name, in any case.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().rev().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }
}

/// The sections of a text. Lines that begin with a semicolon or a hash are comments; what stands before the first
/// section belongs to one without a name.
pub(super) fn sections(text: &str) -> Vec<Section<'_>> {
    let mut all = vec![Section::default()];
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            all.push(Section { name, values: Vec::new() });
        } else if let (Some((name, value)), Some(section)) = (line.split_once('='), all.last_mut()) {
            section.values.push((name.trim(), value.trim()));
        }
    }
    all
}
