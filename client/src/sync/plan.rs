//! Differences as a file: JSON lines to be reviewed, cut down, kept, and applied exactly.
//!
//! The first line names the schema, both places and what the removal of files needs to know; each
//! difference is a line; the last line counts them, so that half a plan is none. A line may be taken out by
//! whoever reviews a plan, if the count is corrected. Paths stand below the roots; where one is not UTF-8 a
//! second field holds it in base64. What is read is not trusted: a path cannot lead out of its root.

use std::io::{BufRead, Read, Write};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::metadata::FileType;
use session_core::path::{VPath, check_name};

use super::base::Conflict;
use super::decide::{Action, Facts};
use super::difference::{Difference, Differences};
use super::{Direction, Side};

/// The schema of this version.
pub const SCHEMA: &str = "ferry.plan/1";

/// The longest line, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// The most differences.
const MAX_ITEMS: usize = 20_000_000;

/// What stands above the differences.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The left place, as it is opened again.
    pub left: String,
    /// The right place.
    pub right: String,
    /// Where things go.
    pub direction: Direction,
    /// Where what is replaced or removed goes, on the side that changes.
    pub backup_dir: Option<VPath>,
}

/// A plan that was read.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What stands above the differences.
    pub header: Header,
    /// What is to be done.
    pub differences: Differences,
    /// Whether every listing of the comparison was complete.
    pub complete: bool,
}

pub(crate) fn bytes_into(map: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    map.insert(key.into(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        map.insert(format!("{key}_b64"), STANDARD.encode(bytes).into());
    }
}

pub(super) fn facts_json(facts: &Facts) -> Value {
    let mut v = json!({ "type": facts.kind.name(), "size": facts.size });
    if let Some(map) = v.as_object_mut() {
        if let Some(time) = facts.modified.and_then(|t| jiff::Timestamp::try_from(t).ok()) {
            map.insert("modified".into(), time.to_string().into());
        }
        if let Some(mode) = facts.mode {
            map.insert("mode".into(), format!("{mode:04o}").into());
        }
    }
    v
}

/// A difference as JSON, as plans and `--json` show it.
pub fn difference_json(d: &Difference) -> Value {
    let mut map = Map::new();
    map.insert("action".into(), d.action.name().into());
    map.insert("side".into(), d.action.side().name().into());
    bytes_into(&mut map, "path", d.path(Side::Left));
    if d.path(Side::Right) != d.path(Side::Left) {
        bytes_into(&mut map, "right_path", d.path(Side::Right));
    }
    for side in [Side::Left, Side::Right] {
        if let Some(facts) = d.facts(side) {
            map.insert(side.name().into(), facts_json(facts));
        }
    }
    if d.tree {
        map.insert("tree".into(), true.into());
    }
    match d.conflict {
        Some(Conflict::Ask) => map.insert("conflict".into(), "ask".into()),
        Some(Conflict::Both) => map.insert("conflict".into(), "both".into()),
        _ => None,
    };
    if let Some(old) = &d.moved {
        map.insert("moved".into(), difference_json(old));
    }
    Value::Object(map)
}

/// Writes a plan. Errors: those of `out`.
pub fn write(out: &mut dyn Write, header: &Header, differences: &Differences) -> std::io::Result<()> {
    let mut head = json!({
        "schema": SCHEMA,
        "left": header.left,
        "right": header.right,
        "direction": header.direction.name(),
    });
    if let (Some(map), Some(dir)) = (head.as_object_mut(), &header.backup_dir) {
        bytes_into(map, "backup_dir", dir.as_bytes());
    }
    writeln!(out, "{head}")?;
    for d in &differences.items {
        writeln!(out, "{}", difference_json(d))?;
    }
    writeln!(out, "{}", json!({ "items": differences.items.len(), "complete": differences.is_complete() }))
}

/// Reads a plan. Errors: `InvalidArgument` with the line for what is no plan, or not all of one; those of
/// `input`.
pub fn read(mut input: impl BufRead) -> Result<Plan> {
    let mut header = None;
    let mut found = Differences::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = input.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
        let wrong = |why: &str| {
            Error::new(ErrorKind::InvalidArgument)
                .with_detail(format!("line {number} of the plan: {why}"))
                .with_hint("make it with 'ferry plan'")
        };
        if n == 0 {
            return Err(wrong("the last line is missing"));
        }
        if n as u64 > MAX_LINE {
            return Err(wrong("it is too long"));
        }
        let value: Value =
            serde_json::from_slice(&line).map_err(|e| wrong(&format!("it is no JSON: {e}")))?;
        if header.is_none() {
            header = Some(read_header(&value).ok_or_else(|| wrong("it is not the head of a plan"))?);
        } else if let Some(count) = value.get("items").and_then(Value::as_u64) {
            if count != found.items.len() as u64 {
                return Err(wrong(&format!("{count} lines are announced, {} are there", found.items.len())));
            }
            let complete = value.get("complete").and_then(Value::as_bool).unwrap_or(true);
            return Ok(Plan { header: header.ok_or(ErrorKind::Internal)?, differences: found, complete });
        } else {
            let d = read_difference(&value).ok_or_else(|| wrong("it is no difference"))?;
            found.items.push(d);
            if found.items.len() > MAX_ITEMS {
                return Err(wrong("there are too many"));
            }
        }
    }
    Err(ErrorKind::Internal.into())
}

fn read_side(text: &str) -> Option<Side> {
    [Side::Left, Side::Right].into_iter().find(|s| s.name() == text)
}

fn bytes_of(value: &Value, key: &str) -> Option<Vec<u8>> {
    match value.get(format!("{key}_b64")) {
        Some(coded) => STANDARD.decode(coded.as_str()?).ok(),
        None => Some(value.get(key)?.as_str()?.as_bytes().to_vec()),
    }
}

/// A path below a root: names with slashes between, or nothing.
pub(super) fn path_of(value: &Value, key: &str) -> Option<Box<[u8]>> {
    let path = bytes_of(value, key)?;
    let good = path.is_empty() || path.split(|b| *b == b'/').all(|name| check_name(name).is_ok());
    good.then(|| path.into())
}

fn read_header(value: &Value) -> Option<Header> {
    if value.get("schema")?.as_str()? != SCHEMA {
        return None;
    }
    let direction = match value.get("direction")?.as_str()? {
        "both" => Direction::Both,
        side => Direction::To(read_side(side)?),
    };
    let backup_dir = match value.get("backup_dir") {
        Some(_) => Some(VPath::absolute(bytes_of(value, "backup_dir")?).ok()?),
        None => None,
    };
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_string());
    Some(Header { left: text("left")?, right: text("right")?, direction, backup_dir })
}

pub(super) fn read_facts(value: &Value) -> Option<Facts> {
    let kinds = [FileType::Directory, FileType::File, FileType::Other, FileType::Symlink];
    let name = value.get("type")?.as_str()?;
    let modified = match value.get("modified") {
        Some(text) => Some(SystemTime::from(text.as_str()?.parse::<jiff::Timestamp>().ok()?)),
        None => None,
    };
    let mode = match value.get("mode") {
        Some(text) => Some(u32::from_str_radix(text.as_str()?, 8).ok()?),
        None => None,
    };
    let kind = kinds.into_iter().find(|k| k.name() == name)?;
    Some(Facts { kind, size: value.get("size")?.as_u64()?, modified, mode })
}

fn read_difference(value: &Value) -> Option<Difference> {
    let side = read_side(value.get("side")?.as_str()?)?;
    let action = match value.get("action")?.as_str()? {
        "new" => Action::New(side),
        "update" => Action::Update(side),
        "delete" => Action::Delete(side),
        _ => return None,
    };
    let facts = |key: &str| match value.get(key) {
        Some(facts) => read_facts(facts).map(Some),
        None => Some(None),
    };
    let right_path = match value.get("right_path") {
        Some(_) => Some(path_of(value, "right_path")?),
        None => None,
    };
    let d = Difference {
        path: path_of(value, "path")?,
        right_path,
        action,
        left: facts("left")?,
        right: facts("right")?,
        tree: value.get("tree").and_then(Value::as_bool).unwrap_or(false),
        conflict: match value.get("conflict").map(Value::as_str) {
            None => None,
            Some(Some("ask")) => Some(Conflict::Ask),
            Some(Some("both")) => Some(Conflict::Both),
            Some(_) => return None,
        },
        moved: match value.get("moved") {
            None => None,
            // A removal has none of its own.
            Some(old) if old.get("moved").is_none() => Some(Box::new(read_difference(old)?)),
            Some(_) => return None,
        },
    };
    if let Some(old) = &d.moved {
        let file = |f: &Facts| f.kind == FileType::File;
        let of_files = d.facts(side.other()).is_some_and(file) && old.facts(side).is_some_and(file);
        if action != Action::New(side) || old.action != Action::Delete(side) || !of_files {
            return None;
        }
    }
    // What an action needs must be known, and what it makes must not be there.
    let (source, target) = (d.facts(side.other()), d.facts(side));
    let makes_sense = match action {
        Action::New(_) => source.is_some() && target.is_none(),
        Action::Update(_) => source.is_some_and(|f| !f.is_dir()) && target.is_some_and(|f| !f.is_dir()),
        Action::Delete(_) => target.is_some() && source.is_none() && !d.path.is_empty(),
    };
    makes_sense.then_some(d)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header {
            left: "/a".into(),
            right: "sftp://u@h/b".into(),
            direction: Direction::To(Side::Right),
            backup_dir: Some(VPath::absolute(b"/keep\xff").unwrap()),
        }
    }

    fn file(size: u64) -> Facts {
        let modified = Some(SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789));
        Facts { kind: FileType::File, size, modified, mode: Some(0o644) }
    }

    fn some() -> Differences {
        let item = |path: &[u8], action, left: Option<Facts>, right: Option<Facts>| Difference {
            path: path.into(),
            right_path: None,
            action,
            left,
            right,
            tree: false,
            conflict: None,
            moved: None,
        };
        let dir = Facts { kind: FileType::Directory, size: 0, modified: None, mode: None };
        let mut items = vec![
            item(b"d", Action::New(Side::Right), Some(dir), None),
            item(b"d/\xffx\n", Action::New(Side::Right), Some(file(u64::MAX)), None),
            item(b"e", Action::Delete(Side::Right), None, Some(file(0))),
            item(b"F", Action::Update(Side::Right), Some(file(1)), Some(file(2))),
        ];
        items[3].right_path = Some(b"f".as_slice().into());
        let mut moved = item(b"new", Action::New(Side::Right), Some(file(3)), None);
        moved.moved = Some(Box::new(item(b"old", Action::Delete(Side::Right), None, Some(file(3)))));
        items.push(moved);
        Differences { items, ..Differences::default() }
    }

    fn text() -> String {
        let mut out = Vec::new();
        write(&mut out, &header(), &some()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plan_comes_back_to_the_nanosecond() {
        let plan = read(text().as_bytes()).unwrap();
        assert_eq!(plan.header, header());
        assert_eq!(plan.differences.items, some().items);
        assert!(plan.complete);
        let cut = text().replace("\"complete\":true", "\"complete\":false");
        assert!(!read(cut.as_bytes()).unwrap().complete);
    }

    #[test]
    fn half_a_plan_and_no_plan_are_refused_with_the_line() {
        let whole = text();
        for cut in 0..whole.len() - 1 {
            assert!(read(&whole.as_bytes()[..cut]).is_err(), "{cut}");
        }
        let lines: Vec<&str> = whole.lines().collect();
        let with = |n: usize, line: &str| {
            let mut lines = lines.clone();
            lines[n] = line;
            read(lines.join("\n").as_bytes()).unwrap_err().to_string()
        };
        assert!(with(0, "{}").contains("line 1 of the plan: it is not the head"));
        assert!(with(6, r#"{"items":3}"#).contains("line 7 of the plan: 3 lines are announced, 5 are there"));
        let bad = [
            r#"{"action":"new","side":"right","path":"../x","left":{"type":"file","size":1}}"#,
            r#"{"action":"new","side":"right","path":"/x","left":{"type":"file","size":1}}"#,
            r#"{"action":"new","side":"right","path":"a//x","left":{"type":"file","size":1}}"#,
            r#"{"action":"new","side":"right","path":"x","path_b64":"Li4=","left":{"type":"file","size":1}}"#,
            r#"{"action":"new","side":"right","path":"x","right_path":"..","left":{"type":"file","size":1}}"#,
            r#"{"action":"delete","side":"right","path":"","right":{"type":"directory","size":0}}"#,
            r#"{"action":"new","side":"right","path":"x","right":{"type":"file","size":1}}"#,
            r#"{"action":"update","side":"right","path":"x","left":{"type":"file","size":1}}"#,
            r#"{"action":"new","side":"right","path":"x","left":{"type":"file","size":1},"moved":{}}"#,
            r#"{"action":"new","side":"right","path":"x","left":{"type":"file","size":1},"moved":{"action":"delete","side":"left","path":"y","left":{"type":"file","size":1}}}"#,
            r#"{"action":"new","side":"right","path":"x","left":{"type":"file","size":1},"moved":{"action":"delete","side":"right","path":"../y","right":{"type":"file","size":1}}}"#,
            r#"{"action":"burn","side":"right","path":"x","left":{"type":"file","size":1}}"#,
        ];
        for line in bad {
            assert!(with(2, line).contains("line 3 of the plan: it is no difference"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(lines in proptest::collection::vec("[{}\\[\\]\":a-z0-9,/.]{0,40}", 0..5)) {
            let _ = read(lines.join("\n").as_bytes());
        }
    }
}
