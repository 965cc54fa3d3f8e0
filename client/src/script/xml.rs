//! The XML log, by WinSCP's schema `http://winscp.net/schema/session/1.0`.
//!
//! A root `session`; with groups, one `group` for each command; an element for each operation, that ends
//! with its `result`; a `failure` by itself for what belongs to no operation. Values stand in attributes.
//! Times are UTC with milliseconds. Control characters are character references, as WinSCP writes them, so
//! that a reader must allow those.
//!
//! Not here: files. The text grows until somebody takes it.

use std::fmt::Write as _;
use std::time::SystemTime;

use session_core::error::Error;
use session_core::event::timestamp;
use session_core::metadata::FileType;

use crate::session::RemoteFileInfo;

/// The name space of the schema.
pub const NAMESPACE: &str = "http://winscp.net/schema/session/1.0";

/// A log that grows.
#[derive(Debug, Default)]
pub struct XmlLog {
    text: String,
    groups: bool,
    begun: bool,
    ended: bool,
    in_group: bool,
    /// The group of the command that runs, where nothing was written of it yet.
    pending: Option<(String, SystemTime)>,
    depth: usize,
}

impl XmlLog {
    /// An empty log; with groups, if each command shall have one.
    pub fn new(groups: bool) -> Self {
        XmlLog { groups, ..Self::default() }
    }

    /// Begins the session, at its first one only.
    pub fn begin(&mut self, name: &str, start: SystemTime) {
        if self.begun {
            return;
        }
        self.begun = true;
        self.text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            self.text,
            "<session xmlns=\"{NAMESPACE}\" name=\"{}\" start=\"{}\">",
            escape(name),
            timestamp(start)
        );
        self.depth = 1;
    }

    /// Begins the group of a command; where the session has not begun, with the first thing to be said of it.
    pub fn group(&mut self, command: &str, start: SystemTime) {
        self.coming_group(command, start);
        if self.begun {
            self.enter();
        }
    }

    /// A command begins. Its group does with the first thing to be said of it, unless it is called something better
    /// before.
    pub fn coming_group(&mut self, command: &str, start: SystemTime) {
        self.end_group();
        self.pending = self.groups.then(|| (command.to_owned(), start));
    }

    fn enter(&mut self) {
        if let Some((command, start)) = self.pending.take() {
            self.line(&format!("<group name=\"{}\" start=\"{}\">", escape(&command), timestamp(start)));
            self.depth += 1;
            self.in_group = true;
        }
    }

    fn end_group(&mut self) {
        if self.in_group {
            self.depth = self.depth.saturating_sub(1);
            self.line("</group>");
            self.in_group = false;
        }
    }

    /// Ends the session; the log is well-formed then.
    pub fn end(&mut self) {
        if self.begun && !self.ended {
            self.end_group();
            self.depth = 0;
            self.line("</session>");
            self.ended = true;
        }
    }

    /// What was written since this was last called.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    fn line(&mut self, text: &str) {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// An operation with its values and its end.
    pub fn operation(&mut self, name: &str, values: &[(&str, &str)], error: Option<&Error>) {
        self.operation_with(name, "", values, &[], error);
    }

    /// An operation with attributes, values, files, and its end.
    pub fn operation_with(
        &mut self,
        name: &str,
        attributes: &str,
        values: &[(&str, &str)],
        files: &[Files<'_>],
        error: Option<&Error>,
    ) {
        self.enter();
        self.line(&format!("<{name}{attributes}>"));
        self.depth += 1;
        for (name, value) in values {
            self.value(name, value);
        }
        for files in files {
            match files {
                Files::One(file) => self.file(file, false),
                Files::Listing(all) => {
                    self.line("<files>");
                    self.depth += 1;
                    all.iter().for_each(|file| self.file(file, true));
                    self.depth -= 1;
                    self.line("</files>");
                }
            }
        }
        match error {
            None => self.line("<result success=\"true\" />"),
            Some(error) => {
                self.line("<result success=\"false\">");
                self.messages(error);
                self.line("</result>");
            }
        }
        self.depth -= 1;
        self.line(&format!("</{name}>"));
    }

    /// A failure that belongs to no operation.
    pub fn failure(&mut self, error: &Error) {
        self.enter();
        self.line("<failure>");
        self.messages(error);
        self.line("</failure>");
    }

    fn messages(&mut self, error: &Error) {
        self.depth += 1;
        for line in format!("{error:#}").lines() {
            self.line(&format!("<message>{}</message>", escape(line)));
        }
        self.depth -= 1;
    }

    fn value(&mut self, name: &str, value: &str) {
        self.line(&format!("<{name} value=\"{}\" />", escape(value)));
    }

    fn file(&mut self, file: &RemoteFileInfo, named: bool) {
        self.line("<file>");
        self.depth += 1;
        if named {
            self.value("filename", &text_of(file.path.name()));
        }
        self.value("type", &kind(file.metadata.file_type).to_string());
        if !file.is_directory() {
            self.value("size", &file.length().to_string());
        }
        if let Some(modified) = file.last_write_time() {
            self.value("modification", &timestamp(modified));
        }
        if let Some(permissions) = file.file_permissions() {
            self.value("permissions", &permissions.text());
        }
        for (name, value) in [("owner", file.owner()), ("group", file.group())] {
            if let Some(value) = value {
                self.value(name, &value);
            }
        }
        self.depth -= 1;
        self.line("</file>");
    }
}

/// Files inside an operation.
#[derive(Debug)]
pub enum Files<'a> {
    /// Those of a directory.
    Listing(&'a [RemoteFileInfo]),
    /// One that the operation is about.
    One(&'a RemoteFileInfo),
}

/// The letter of the schema: `d`, `-`, `l`, or `?`.
fn kind(t: FileType) -> char {
    match t {
        FileType::Directory => 'd',
        FileType::File => '-',
        FileType::Other => '?',
        FileType::Symlink => 'l',
    }
}

/// A name as text: what is not UTF-8 is replaced.
pub(super) fn text_of(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Text for an attribute or an element.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No reader takes these, as a reference or otherwise.
            '\0' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => {
                let _ = write!(out, "&#x{:x};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::error::ErrorKind;
    use session_core::metadata::Metadata;
    use session_core::path::VPath;

    #[test]
    fn the_log_is_the_schemas() {
        let start = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_325_691_888_204);
        let mut log = XmlLog::new(true);
        log.begin("u@h", start);
        log.begin("other", start);
        log.group("put \"a\" /", start);
        log.operation("upload", &[("filename", "/a&b"), ("destination", "/\u{1}"), ("size", "1")], None);
        let e = Error::new(ErrorKind::NotFound).with_hint("look elsewhere");
        log.group("ls", start);
        let mut file = Metadata::new(FileType::File, 5);
        file.mode = Some(0o644);
        file.modified = Some(start);
        let file = RemoteFileInfo { path: VPath::absolute("/d/f").unwrap(), metadata: file };
        log.operation_with("ls", "", &[("destination", "/d")], &[Files::Listing(&[file])], None);
        log.operation("mkdir", &[("filename", "/x")], Some(&e));
        log.failure(&e);
        log.end();
        log.end();
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<session xmlns=\"http://winscp.net/schema/session/1.0\" name=\"u@h\" start=\"2012-01-04T15:44:48.204Z\">
  <group name=\"put &quot;a&quot; /\" start=\"2012-01-04T15:44:48.204Z\">
    <upload>
      <filename value=\"/a&amp;b\" />
      <destination value=\"/&#x1;\" />
      <size value=\"1\" />
      <result success=\"true\" />
    </upload>
  </group>
  <group name=\"ls\" start=\"2012-01-04T15:44:48.204Z\">
    <ls>
      <destination value=\"/d\" />
      <files>
        <file>
          <filename value=\"f\" />
          <type value=\"-\" />
          <size value=\"5\" />
          <modification value=\"2012-01-04T15:44:48.204Z\" />
          <permissions value=\"rw-r--r--\" />
        </file>
      </files>
      <result success=\"true\" />
    </ls>
    <mkdir>
      <filename value=\"/x\" />
      <result success=\"false\">
        <message>no such file or directory</message>
        <message>hint: look elsewhere</message>
      </result>
    </mkdir>
    <failure>
      <message>no such file or directory</message>
      <message>hint: look elsewhere</message>
    </failure>
  </group>
</session>
";
        assert_eq!(log.take(), expected);
        assert_eq!(log.take(), "");
    }
}
