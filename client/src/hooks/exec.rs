//! `Exec`: programs of the allow-list, without a shell.
//!
//! A script names an entry of the list and gives arguments; nothing of them is interpreted. The program
//! has an empty environment, its own process group, `/` as its directory, and no descriptor but three
//! pipes. Time and output are bounded; whatever ends the call kills the whole group. A [`Dialogue`] is the same with
//! a program that answers line by line; its time is its caller's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use serde_json::{Value, json};
use session_core::error::{Error, ErrorKind, Result};
use session_core::fs::File;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, Take,
};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::field;

/// How long output may still come when the program itself has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

const CHUNK: usize = 256 << 10;

/// The allow-list and its bounds.
#[derive(Debug)]
pub struct Programs {
    programs: BTreeMap<String, PathBuf>,
    time: Duration,
    output: usize,
}

/// Kills a process group when dropped.
pub(super) struct Group(rustix::process::Pid);

impl Group {
    /// That of a child which leads one of its own.
    pub(super) fn of(child: &Child) -> Result<Self> {
        let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Group(pid.ok_or(ErrorKind::Internal)?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The group may have ended by itself.
        let _ = rustix::process::kill_process_group(self.0, rustix::process::Signal::KILL);
    }
}

/// Starts a program apart from everything that is ours. Errors: those of starting it.
fn start(command: &mut Command, name: &str) -> Result<(Child, Group)> {
    let child = command
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Error::from(e).with_detail(format!("'{name}' cannot be started")))?;
    let group = Group::of(&child)?;
    Ok((child, group))
}

/// A program that is spoken with line by line. Dropped, it and all that it started are killed.
pub struct Dialogue {
    // Killed before the child is given up, whose number is its own until then.
    _group: Group,
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<Take<ChildStdout>>,
}

impl Dialogue {
    /// Starts it; it may say `most` bytes in all. Errors: those of starting it.
    pub fn begin(program: &Path, most: u64) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let (mut child, group) = start(Command::new(program).stderr(Stdio::null()), &name)?;
        let stdin = child.stdin.take().ok_or(ErrorKind::Internal)?;
        let stdout = child.stdout.take().ok_or(ErrorKind::Internal)?;
        Ok(Dialogue { _group: group, _child: child, stdin, stdout: BufReader::new(stdout.take(most)) })
    }

    /// Says a line. Errors: those of writing; it may have ended.
    pub async fn say(&mut self, line: &str) -> Result<()> {
        Ok(self.stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// The next line that it says, without its end; `None` when it has ended, or has said all that it may. Errors:
    /// those of reading.
    pub async fn hear(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        if self.stdout.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        line.pop_if(|last| *last == b'\n');
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

/// At most `most` bytes; the rest is read and forgotten. Whether there was a rest.
async fn collect(mut from: impl AsyncRead + Unpin, most: usize, into: &mut (Vec<u8>, bool)) {
    let mut buffer = vec![0; 8192];
    while let Ok(n) = from.read(&mut buffer).await {
        let Some(read) = buffer.get(..n).filter(|r| !r.is_empty()) else { return };
        let room = most - into.0.len();
        into.1 |= read.len() > room;
        into.0.extend_from_slice(read.get(..room).unwrap_or(read));
    }
}

/// Writes a file to a program, until it reads no more. Errors: those of reading the file.
async fn pour(file: &dyn File, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    let mut offset = 0;
    loop {
        let chunk = file.read_into(offset, CHUNK, BytesMut::new()).await?;
        if chunk.is_empty() || to.write_all(&chunk).await.is_err() {
            return Ok(());
        }
        offset += chunk.len() as u64;
    }
}

impl Programs {
    /// These programs by name; each may take so much time and say so many bytes.
    pub fn new(programs: BTreeMap<String, PathBuf>, time: Duration, output: usize) -> Self {
        Programs { programs, time, output }
    }

    /// What `Exec` does: `{ program, arguments, input, time }`, or `input` from a file. Errors: `Refused` for what
    /// is not in the list; those of starting it and of reading the file. Dropped, it leaves nothing running.
    pub async fn run(&self, arguments: &Value, input: Option<Arc<dyn File>>) -> Result<Value> {
        let wrong = || Error::new(ErrorKind::InvalidArgument).with_detail("the arguments are not right");
        let name = field(arguments, "program").as_str().ok_or_else(wrong)?;
        let program = self.programs.get(name).ok_or_else(|| {
            Error::refused(format!(
                "'{}' is not in the list of programs",
                session_core::path::display_bytes(name.as_bytes())
            ))
        })?;
        let list = field(arguments, "arguments").as_array().ok_or_else(wrong)?;
        let list: Vec<&str> = list.iter().map(|a| a.as_str().ok_or_else(wrong)).collect::<Result<_>>()?;
        if list.iter().any(|a| a.contains('\0')) {
            return Err(Error::new(ErrorKind::InvalidArgument).with_detail("an argument contains a NUL"));
        }
        let given = match field(arguments, "input").as_str() {
            Some(text) => STANDARD.decode(text).map_err(|_| wrong())?,
            None => Vec::new(),
        };
        let wanted =
            field(arguments, "time").as_f64().map(|s| Duration::from_secs_f64(s.clamp(0.0, 86_400.0)));
        let time = wanted.map_or(self.time, |w| w.min(self.time));

        let mut command = Command::new(program);
        // Its group is dropped with this future too: when the handler's time is over, or its session is cut.
        let (mut child, group) = start(command.args(list).stderr(Stdio::piped()), name)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = ((Vec::new(), false), (Vec::new(), false));
        let status = {
            let feed = async {
                let Some(mut stdin) = stdin else { return Ok(()) };
                // A program need not read its input.
                if stdin.write_all(&given).await.is_err() {
                    return Ok(());
                }
                match input {
                    Some(file) => pour(&*file, &mut stdin).await,
                    None => Ok(()),
                }
            };
            let talk = async {
                let (fed, (), ()) = tokio::join!(
                    feed,
                    async {
                        if let Some(stdout) = stdout {
                            collect(stdout, self.output, &mut out).await;
                        }
                    },
                    async {
                        if let Some(stderr) = stderr {
                            collect(stderr, self.output, &mut err).await;
                        }
                    },
                );
                fed
            };
            let mut talk = Box::pin(talk);
            let deadline = tokio::time::sleep(time);
            tokio::pin!(deadline);
            let mut silent = false;
            loop {
                tokio::select! {
                    status = child.wait() => {
                        let status = status?;
                        if !silent {
                            // What it started may hold its output open: that ends with it.
                            if let Ok(fed) = tokio::time::timeout(LAST_WORDS, talk).await {
                                fed?;
                            }
                        }
                        break Some(status);
                    }
                    // A program that has not read the whole of a file may not judge it.
                    fed = &mut talk, if !silent => {
                        fed?;
                        silent = true;
                    }
                    () = &mut deadline => break None,
                }
            }
        };
        drop(group);
        if status.is_none() {
            let _ = child.wait().await;
        }
        Ok(json!({
            "ExitCode": status.and_then(|s| s.code()),
            "Stdout": String::from_utf8_lossy(&out.0),
            "Stderr": String::from_utf8_lossy(&err.0),
            "TimedOut": status.is_none(),
            "Truncated": out.1 || err.1,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(list: &[(&str, &str)]) -> Programs {
        let programs = list.iter().map(|(n, p)| ((*n).into(), (*p).into())).collect();
        Programs { programs, time: Duration::from_secs(20), output: 1000 }
    }

    async fn run(list: &Programs, program: &str, arguments: &[&str], more: Value) -> Result<Value> {
        let mut all = json!({ "program": program, "arguments": arguments });
        all.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        list.run(&all, None).await
    }

    #[tokio::test]
    async fn arguments_are_not_interpreted_and_there_is_no_environment() {
        let list = programs(&[("echo", "/bin/echo"), ("env", "/usr/bin/env"), ("sh", "/bin/sh")]);
        let hostile = ["; rm -rf /", "$(id)", "--option", "a\nb", "`x`"];
        let told = run(&list, "echo", &hostile, json!({})).await.unwrap();
        assert_eq!(told["Stdout"], format!("{}\n", hostile.join(" ")));
        assert_eq!(run(&list, "env", &[], json!({})).await.unwrap()["Stdout"], "");
        let told = run(&list, "sh", &["-c", "pwd; cat; exit 3"], json!({ "input": "aGk=" })).await.unwrap();
        assert_eq!((told["Stdout"].as_str(), told["ExitCode"].as_i64()), (Some("/\nhi"), Some(3)));
        for refused in ["/bin/echo", "cat", ""] {
            let e = run(&list, refused, &[], json!({})).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Refused, "{refused}");
        }
        assert!(run(&list, "echo", &["a\0b"], json!({})).await.is_err());
    }

    #[tokio::test]
    async fn output_and_time_are_bounded_and_the_group_dies() {
        let list = programs(&[("sh", "/bin/sh")]);
        let told = run(&list, "sh", &["-c", "head -c 5000 /dev/zero | tr '\\0' x"], json!({})).await.unwrap();
        assert_eq!(told["Stdout"].as_str().unwrap().len(), 1000);
        assert_eq!(told["Truncated"], true);
        // The grandchild would hold the pipe for a minute, and says its number first.
        let script = "sleep 60 & echo $!; wait";
        let told = run(&list, "sh", &["-c", script], json!({ "time": 0.3 })).await.unwrap();
        assert_eq!((&told["TimedOut"], &told["ExitCode"]), (&json!(true), &Value::Null));
        gone(told["Stdout"].as_str().unwrap()).await;
        let told = run(&list, "sh", &["-c", "sleep 60 & echo $!"], json!({})).await.unwrap();
        assert_eq!(told["ExitCode"], 0);
        gone(told["Stdout"].as_str().unwrap()).await;
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_leaves_nothing_running() {
        let list = programs(&[("sh", "/bin/sh")]);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 60", file.display());
        let arguments = ["-c", script.as_str()];
        let work = run(&list, "sh", &arguments, json!({}));
        tokio::select! {
            _ = work => panic!("it ended"),
            () = async { while !file.exists() { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        }
        gone(&std::fs::read_to_string(&file).unwrap()).await;
    }

    /// Waits until no process has this number, or it is a corpse that nobody has buried.
    async fn gone(pid: &str) {
        let stat = format!("/proc/{}/stat", pid.trim());
        for _ in 0..1000 {
            match std::fs::read_to_string(&stat) {
                Ok(text) if !text.contains(") Z ") => tokio::time::sleep(Duration::from_millis(10)).await,
                _ => return,
            }
        }
        panic!("{pid} still runs");
    }
}
