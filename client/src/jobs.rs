//! The jobs of this user: one journal each, in the state directory.
//!
//! `$XDG_STATE_HOME/ferry/jobs`, or `~/.local/state/ferry/jobs`; only its owner may look into it. Beside the journal
//! of a job that works off a list (`sync`, `apply`) stands the list, a plan, and with a state what both sides had in
//! common. A job is running while a process holds its journal, interrupted when none does and it did not end, and
//! finished jobs are kept for a week, at most a hundred of them. What a job is ([`Spec`]) can be written down and
//! read back without loss, and holds no secret.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use session_core::batch::{InvalidChars, NameCase, Overwrite, Resume, Timetable, TransferOptions, Verify};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::Algorithm;
use session_core::path::VPath;

use crate::batch::Job;
use crate::journal::{Journal, Tally, look, seconds};
use crate::url::Url;

/// Finished jobs are kept that long, in seconds, and at most that many.
const KEPT: (u64, usize) = (7 * 24 * 3600, 100);

/// Where a side of a job is.
#[derive(Clone, Debug, PartialEq)]
pub enum Side {
    /// This machine.
    Local,
    /// Behind this URL, whose path and password mean nothing.
    Remote(Box<Url>),
}

/// What a job is.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The command, for people.
    pub command: String,
    /// From there.
    pub source: Side,
    /// To there.
    pub target: Side,
    /// What goes where.
    pub jobs: Vec<Job>,
    /// How. A selection, also of what is text, is code and is not written down: who has one keeps what it is
    /// made of in `extra`.
    pub options: TransferOptions,
    /// Of the program's own: how to log in, and the like.
    pub extra: Value,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A process works on it.
    Running(u32),
    /// Its process is gone and it did not end.
    Interrupted,
    /// It ended, with this outcome: `done`, `failed` or `stopped`.
    Ended(String),
}

impl Standing {
    /// Nobody works on it, and it did not come to a good end.
    pub fn is_unfinished(&self) -> bool {
        match self {
            Standing::Interrupted => true,
            Standing::Ended(outcome) => outcome == "failed",
            Standing::Running(_) => false,
        }
    }
}

/// A job of the list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// How it stands.
    pub standing: Standing,
    /// What it is; `None` where that cannot be read.
    pub spec: Option<Spec>,
    /// How far it is.
    pub tally: Tally,
    /// When it was begun or taken up last, seconds since 1970.
    pub since: u64,
    /// How many unfinished uploads its target keeps for it.
    pub unfinished: usize,
}

/// The directory of jobs.
#[derive(Clone, Debug)]
pub struct Jobs {
    dir: PathBuf,
}

pub(crate) fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": session_core::digest::hex(bytes) }),
    }
}

fn bytes_of(v: &Value) -> Option<Vec<u8>> {
    if let Some(text) = v.as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let hex = v.get("hex")?.as_str()?;
    let pairs = (0..hex.len() / 2).map(|n| hex.get(2 * n..2 * n + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

pub(crate) fn path_of(v: &Value) -> Option<VPath> {
    VPath::absolute(bytes_of(v)?).ok()
}

impl Side {
    fn to_json(&self) -> Value {
        match self {
            Side::Local => Value::Null,
            Side::Remote(url) => json!({
                "scheme": url.scheme,
                "user": url.user,
                "fingerprint": url.fingerprint,
                "host": url.host,
                "port": url.port,
            }),
        }
    }

    fn from_json(v: &Value) -> Option<Self> {
        if v.is_null() {
            return Some(Side::Local);
        }
        let text = |name: &str| v.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Side::Remote(Box::new(Url {
            scheme: text("scheme")?,
            user: text("user"),
            password: None,
            fingerprint: text("fingerprint"),
            host: text("host")?,
            port: v.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()),
            path: b"/".to_vec(),
        })))
    }

    /// Whether both are the same side, whatever the path.
    pub fn is(&self, other: &Side) -> bool {
        self.to_json() == other.to_json()
    }

    /// For people: the URL of the root, or nothing.
    pub fn shown(&self) -> String {
        match self {
            Side::Local => String::new(),
            Side::Remote(url) => Url { path: Vec::new(), ..(**url).clone() }.to_string(),
        }
    }
}

fn verify_name(verify: Verify) -> &'static str {
    match verify {
        Verify::Auto => "auto",
        Verify::Strict => "strict",
        Verify::Size => "size",
        Verify::None => "none",
    }
}

fn options_json(o: &TransferOptions) -> Value {
    json!({
        "overwrite": o.overwrite.name(),
        "resume": match o.resume {
            Resume::Auto => json!(true),
            Resume::Ask => json!("ask"),
            Resume::Off => json!(false),
        },
        "preserve_times": o.preserve_times,
        "directory_times": o.directory_times,
        "preserve_modes": o.preserve_modes,
        "permissions": o.permissions,
        "add_x_to_directories": o.add_x_to_directories,
        "ignore_attribute_errors": o.ignore_attribute_errors,
        "temporary_names": o.temporary_names,
        "temporary_from": o.temporary_from,
        "recursive": o.recursive,
        "follow_links": o.follow_links,
        "exclude_hidden": o.exclude_hidden,
        "name_case": o.name_case.name(),
        "exclude_empty_directories": o.exclude_empty_directories,
        "invalid_chars": o.invalid_chars.as_ref().map(|i| json!([i.chars(), i.by()])),
        "preserve_read_only": o.preserve_read_only,
        "remove_bom": o.remove_bom,
        "remove_ctrl_z": o.remove_ctrl_z,
        "parallel": o.parallel,
        "segments": o.segments,
        "segment_size": o.segment_size,
        "limit": o.limit,
        "timetable": o.timetable.as_ref().map(Timetable::to_string),
        "fail_fast": o.fail_fast,
        "verify": verify_name(o.verify),
        "digest": o.digest.map(Algorithm::name),
        "reconnect": o.reconnect.as_secs(),
    })
}

fn invalid_chars_of(v: &Value) -> Option<InvalidChars> {
    let chars = InvalidChars::new(v.get(0)?.as_str()?);
    Some(match v.get(1).and_then(Value::as_str).and_then(|by| by.chars().next()) {
        Some(by) => chars.replaced_by(by),
        None => chars,
    })
}

fn options_of(v: &Value) -> Option<TransferOptions> {
    let flag = |name: &str| v.get(name)?.as_bool();
    let number = |name: &str| v.get(name)?.as_u64();
    let text = |name: &str| v.get(name)?.as_str();
    Some(TransferOptions {
        overwrite: Overwrite::ALL.into_iter().find(|o| Some(o.name()) == text("overwrite"))?,
        resume: match v.get("resume")? {
            Value::String(ask) if ask == "ask" => Resume::Ask,
            said if said.as_bool()? => Resume::Auto,
            _ => Resume::Off,
        },
        preserve_times: flag("preserve_times")?,
        directory_times: flag("directory_times")?,
        preserve_modes: flag("preserve_modes")?,
        permissions: number("permissions").and_then(|n| u32::try_from(n).ok()),
        add_x_to_directories: flag("add_x_to_directories")?,
        ignore_attribute_errors: flag("ignore_attribute_errors")?,
        temporary_names: flag("temporary_names")?,
        temporary_from: number("temporary_from")?,
        recursive: flag("recursive")?,
        follow_links: flag("follow_links").unwrap_or_default(),
        exclude_hidden: flag("exclude_hidden")?,
        name_case: NameCase::ALL.into_iter().find(|c| Some(c.name()) == text("name_case"))?,
        exclude_empty_directories: flag("exclude_empty_directories").unwrap_or_default(),
        invalid_chars: v.get("invalid_chars").and_then(invalid_chars_of),
        preserve_read_only: flag("preserve_read_only").unwrap_or_default(),
        remove_bom: flag("remove_bom").unwrap_or_default(),
        remove_ctrl_z: flag("remove_ctrl_z").unwrap_or_default(),
        selection: None,
        text: None,
        parallel: usize::try_from(number("parallel")?).ok()?,
        segments: number("segments").and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        segment_size: number("segment_size").unwrap_or(TransferOptions::default().segment_size),
        limit: number("limit")?,
        timetable: match text("timetable") {
            Some(table) => Some(Timetable::parse(table).ok()?),
            None => None,
        },
        fail_fast: flag("fail_fast")?,
        verify: [Verify::Auto, Verify::Strict, Verify::Size, Verify::None]
            .into_iter()
            .find(|n| Some(verify_name(*n)) == text("verify"))?,
        digest: text("digest").and_then(Algorithm::parse),
        details: TransferOptions::default().details,
        reconnect: Duration::from_secs(number("reconnect")?),
    })
}

impl Spec {
    /// As it is written down.
    pub fn to_json(&self) -> Value {
        let jobs: Vec<Value> = self
            .jobs
            .iter()
            .map(|j| json!([bytes_json(j.from.as_bytes()), bytes_json(j.to.as_bytes())]))
            .collect();
        json!({
            "command": self.command,
            "source": self.source.to_json(),
            "target": self.target.to_json(),
            "jobs": jobs,
            "options": options_json(&self.options),
            "extra": self.extra,
        })
    }

    /// Read back; `None` for what this version does not understand.
    pub fn from_json(v: &Value) -> Option<Self> {
        let job = |v: &Value| Some(Job { from: path_of(v.get(0)?)?, to: path_of(v.get(1)?)? });
        Some(Spec {
            command: v.get("command")?.as_str()?.to_owned(),
            source: Side::from_json(v.get("source")?)?,
            target: Side::from_json(v.get("target")?)?,
            jobs: v.get("jobs")?.as_array()?.iter().map(job).collect::<Option<_>>()?,
            options: options_of(v.get("options")?)?,
            extra: v.get("extra").cloned().unwrap_or_default(),
        })
    }
}

/// Where the state of this user's transfers is. Errors: `NotFound` where the environment names no home.
pub(crate) fn state_dir() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let state = state.ok_or_else(|| {
        Error::new(ErrorKind::NotFound)
            .with_detail("there is no place for the state of jobs")
            .with_hint("set XDG_STATE_HOME or HOME")
    })?;
    Ok(state.join("ferry"))
}

impl Jobs {
    /// The jobs in `dir`.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Jobs { dir: dir.into() }
    }

    /// This user's. Errors: `NotFound` where the environment names no home.
    pub fn of_user() -> Result<Self> {
        Ok(Jobs::at(state_dir()?.join("jobs")))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.job"))
    }

    /// Where the list of a job stands that has one: a plan ([`crate::sync::plan`]). It goes with the job.
    pub(crate) fn list_of(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.plan"))
    }

    /// Where what a job will save of two places stands, that has a list and a state. It goes with the job.
    pub(crate) fn base_of(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.base"))
    }

    /// Makes a job and its journal, and gives its name. Errors: those of the disk.
    pub fn create(&self, spec: &Spec) -> Result<(String, Arc<Journal>)> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(|e| self.no(e))?;
        let began = seconds();
        let mut number = 0u32;
        loop {
            // The process makes it unique on this machine, the number within the process.
            let id = format!(
                "{began:x}-{:x}{}",
                std::process::id(),
                if number == 0 { String::new() } else { format!("-{number}") }
            );
            match Journal::create(&self.path(&id), spec.to_json()) {
                Ok(journal) => return Ok((id, journal)),
                Err(e)
                    if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::Locked)
                        && number < 10_000 =>
                {
                    number += 1;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes an interrupted job up. Errors: `NotFound`, `Locked` while a process works on it, `Unsupported`
    /// for another version's.
    pub fn take_up(&self, id: &str) -> Result<(Spec, Arc<Journal>)> {
        self.check(id)?;
        let (journal, spec) = Journal::take_up(&self.path(id))?;
        let spec = Spec::from_json(&spec).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported).with_detail(format!("the job '{id}' is of another version"))
        })?;
        Ok((spec, journal))
    }

    /// All jobs, the latest first. What cannot be read is listed as such. Errors: those of the disk.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.no(e)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| self.no(e))?.file_name();
            if let Some(id) = name.to_str().and_then(|n| n.strip_suffix(".job")) {
                all.extend(self.one(id));
            }
        }
        all.sort_by(|a: &Listed, b| (b.since, &b.id).cmp(&(a.since, &a.id)));
        Ok(all)
    }

    fn one(&self, id: &str) -> Option<Listed> {
        let (state, running) = match look(&self.path(id)) {
            Ok(seen) => seen,
            // Forgotten meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => return None,
            Err(_) => (Default::default(), false),
        };
        let (pid, since) = state.begin.as_ref().map_or((0, 0), |(pid, _, at)| (*pid, *at));
        let standing = match &state.end {
            _ if running => Standing::Running(pid),
            Some((outcome, _)) => Standing::Ended(outcome.clone()),
            None => Standing::Interrupted,
        };
        Some(Listed {
            id: id.to_owned(),
            standing,
            spec: state.spec.as_ref().and_then(Spec::from_json),
            tally: state.tally,
            since,
            unfinished: state.uploads.len(),
        })
    }

    /// The job that was interrupted or failed, was begun just so, and whose target keeps unfinished uploads for
    /// it; the latest. Errors: those of the disk.
    pub fn like(&self, spec: &Spec) -> Result<Option<String>> {
        let spec = spec.to_json();
        let same = |j: &Listed| j.spec.as_ref().is_some_and(|s| s.to_json() == spec);
        let is_it = |j: &Listed| j.unfinished > 0 && j.standing.is_unfinished() && same(j);
        Ok(self.list()?.into_iter().find(is_it).map(|j| j.id))
    }

    /// The unfinished uploads that a job's target keeps for it: where they go, and their words
    /// ([`crate::batch::throw_away`]). Errors: `NotFound`, `Unsupported` for another version's.
    pub fn unfinished(&self, id: &str) -> Result<Vec<(VPath, Arc<str>)>> {
        self.check(id)?;
        Ok(look(&self.path(id))?.0.uploads.into_values().collect())
    }

    /// Forgets a job; what a target keeps for it stays there. Errors: `NotFound`, `Locked` while a process works
    /// on it.
    pub fn forget(&self, id: &str) -> Result<()> {
        self.check(id)?;
        if matches!(self.one(id), Some(Listed { standing: Standing::Running(_), .. })) {
            return Err(Error::new(ErrorKind::Locked).with_detail(format!("the job '{id}' is running")));
        }
        for beside in [self.list_of(id), self.base_of(id)] {
            match std::fs::remove_file(beside) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(self.no(e)),
                _ => {}
            }
        }
        std::fs::remove_file(self.path(id)).map_err(|e| self.no(e))
    }

    /// Forgets what ended long ago, or was followed by many, but for what has uploads that nobody else knows.
    /// Best effort.
    pub fn sweep(&self) {
        let Ok(all) = self.list() else { return };
        let ended = all.iter().filter(|j| matches!(j.standing, Standing::Ended(_)));
        let ended = ended.filter(|j| j.unfinished == 0);
        let now = seconds();
        for (n, job) in ended.enumerate() {
            if n >= KEPT.1 || now.saturating_sub(job.since) > KEPT.0 {
                let _ = self.forget(&job.id);
            }
        }
    }

    fn check(&self, id: &str) -> Result<()> {
        let known = !id.is_empty() && !id.contains(['/', '.']) && self.path(id).exists();
        if known {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound)
            .with_detail(format!("there is no job '{id}'"))
            .with_hint("'ferry jobs' lists them"))
    }

    fn no(&self, e: std::io::Error) -> Error {
        let words = format!("the jobs in '{}' cannot be used: {e}", Path::display(&self.dir));
        Error::from(e).with_detail(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Location;

    fn spec() -> Spec {
        let Ok(Location::Remote(url)) = Location::parse("sftp://ann;fingerprint=SHA256:abc:hunter2@h:2222/x")
        else {
            panic!("a URL");
        };
        let path = |raw: &[u8]| VPath::absolute(raw).unwrap();
        Spec {
            command: "put".into(),
            source: Side::Local,
            target: Side::Remote(Box::new(url)),
            jobs: vec![Job { from: path(b"/a\xff"), to: path(b"/b") }],
            options: TransferOptions {
                overwrite: Overwrite::Newer,
                permissions: Some(0o640),
                verify: Verify::Strict,
                digest: Some(Algorithm::Sha256),
                name_case: NameCase::Lower,
                invalid_chars: Some(InvalidChars::new(":").replaced_by('_')),
                exclude_empty_directories: true,
                follow_links: true,
                preserve_read_only: true,
                remove_bom: true,
                remove_ctrl_z: true,
                resume: Resume::Ask,
                limit: 77,
                segments: 5,
                segment_size: 9,
                timetable: Some(Timetable::parse("08:00,1M Fri-18:00,off").unwrap()),
                recursive: true,
                ..TransferOptions::default()
            },
            extra: json!({ "identity": ["k"] }),
        }
    }

    #[test]
    fn what_a_job_is_survives_being_written_down_but_for_secrets() {
        let spec = spec();
        let text = spec.to_json().to_string();
        assert!(!text.contains("hunter2"), "{text}");
        let back = Spec::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(format!("{:?}", back.options), format!("{:?}", spec.options));
        assert_eq!(back.jobs[0].from, spec.jobs[0].from);
        assert_eq!(back.to_json(), spec.to_json());
        let Side::Remote(url) = back.target else { panic!("remote") };
        assert_eq!((url.host.as_str(), url.port, url.password), ("h", Some(2222), None));
        assert_eq!(url.fingerprint.as_deref(), Some("SHA256:abc"));
        assert_eq!(spec.target.shown(), "sftp://ann@h:2222");
    }

    #[tokio::test]
    async fn jobs_are_listed_as_they_stand_and_forgotten() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let jobs = Jobs::at(dir.path().join("state/jobs"));
        assert!(jobs.list().unwrap().is_empty());
        let (one, journal) = jobs.create(&spec()).unwrap();
        let (two, other) = jobs.create(&spec()).unwrap();
        assert_ne!(one, two);
        assert_eq!(std::fs::metadata(&jobs.dir).unwrap().permissions().mode() & 0o777, 0o700);
        let standing = |id: &str| jobs.list().unwrap().into_iter().find(|j| j.id == id).map(|j| j.standing);
        assert_eq!(standing(&one), Some(Standing::Running(std::process::id())));
        assert_eq!(jobs.forget(&one).unwrap_err().kind(), ErrorKind::Locked);
        journal.end("done").await;
        assert_eq!(standing(&one), Some(Standing::Ended("done".into())));
        jobs.forget(&one).unwrap();
        assert_eq!(standing(&one), None);
        assert_eq!(jobs.take_up("../x").err().unwrap().kind(), ErrorKind::NotFound);

        // As if its process had been killed: what it wrote stays, the lock goes.
        let copy = std::fs::read(jobs.path(&two)).unwrap();
        other.end("done").await;
        std::fs::write(jobs.path(&two), copy).unwrap();
        assert_eq!(standing(&two), Some(Standing::Interrupted));
        let (again, journal) = jobs.take_up(&two).unwrap();
        assert_eq!(again.jobs.len(), 1);
        assert_eq!(jobs.take_up(&two).err().unwrap().kind(), ErrorKind::Locked);
        journal.end("failed").await;
        jobs.sweep();
        assert_eq!(standing(&two), Some(Standing::Ended("failed".into())));
    }
}
