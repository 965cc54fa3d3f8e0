//! What hooks need of a session besides what others see: its commands, its cipher, its user's files.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Protocol, Session, Setup, lock};
use crate::fs::{File, Filesystem};
use crate::gate::SessionFs;
use crate::intercept::Chain;
use crate::layers::pinned::Pinned;
use crate::path::VPath;
use crate::policy::Throttle;

/// A user's files and the policies for them, for handlers.
#[derive(Clone)]
#[cfg_attr(not(feature = "script"), allow(dead_code, reason = "only handlers ask"))]
pub(super) struct HookFiles {
    files: Arc<dyn Filesystem>,
    policies: Arc<Chain>,
}

/// What a user may and has, for handlers that ask. Every answer is as of now. Must not wait.
pub trait Rights: Send + Sync {
    /// The names of what is allowed at a path. A link there is not followed.
    fn permissions(&self, path: &VPath) -> Vec<&'static str>;

    /// What its home holds and may hold; `None` where that is not counted.
    fn quota(&self) -> Option<Quota>;
}

/// What a place holds, uploads under way among it, and what it may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes.
    pub bytes: u64,
    /// Files and links.
    pub files: u64,
    /// Bytes at most; 0 for no limit.
    pub most_bytes: u64,
    /// Files and links at most; 0 for no limit.
    pub most_files: u64,
}

impl Session {
    /// Lets handlers work on the user's files: `policies` without the handlers themselves, so that what a
    /// handler does fires none. Ends with the login.
    pub fn lend_files(&self, files: Arc<dyn Filesystem>, policies: Arc<Chain>) {
        lock(&self.mutable).hook_files = Some(HookFiles { files, policies });
    }

    /// Tells handlers what the user may. Ends with the login.
    pub fn tell_rights(&self, rights: Arc<dyn Rights>) {
        lock(&self.mutable).rights = Some(rights);
    }

    /// What the user may; `None` while nobody is logged in, or nobody has told.
    #[cfg_attr(not(feature = "script"), allow(dead_code, reason = "only handlers ask"))]
    pub(crate) fn rights(&self) -> Option<Arc<dyn Rights>> {
        lock(&self.mutable).rights.clone()
    }

    /// The user's files for one handler, behind a gate and a session of their own: what a handler moves is
    /// not what the client moved, and an upload's handlers may work when the client has left. `pin` is an
    /// upload that it judges. `None` while nobody is logged in.
    #[cfg_attr(not(feature = "script"), allow(dead_code, reason = "only handlers ask"))]
    pub(crate) fn files_for_hooks(&self, pin: Option<(VPath, Arc<dyn File>)>) -> Option<SessionFs> {
        let identity = self.identity()?;
        let lent = lock(&self.mutable).hook_files.clone()?;
        let mut setup = Setup::new(Protocol::Local, self.site().to_string());
        (setup.peer, setup.local) = (self.peer(), self.local());
        setup.clock = Arc::clone(&self.clock);
        let own = Session::new(setup);
        let identity = own.log_in(identity.account().as_ref().clone(), vec!["hook"]).ok()?;
        let files: Arc<dyn Filesystem> = match pin {
            Some((path, content)) => Arc::new(Pinned::new(lent.files, path, content)),
            None => lent.files,
        };
        own.guard(&identity, files, lent.policies).ok()
    }

    /// At most so many bytes of content per second from now on, both directions together; 0 for no limit.
    /// Where no handler may set one, it has no effect.
    pub fn set_speed_limit(&self, bytes_per_second: u64) {
        let limit = (bytes_per_second > 0).then(|| Arc::new(Throttle::new(bytes_per_second)));
        lock(&self.mutable).speed_limit = limit;
    }

    #[cfg_attr(not(feature = "script"), allow(dead_code, reason = "only handlers ask"))]
    pub(crate) fn speed_limit(&self) -> Option<Arc<Throttle>> {
        lock(&self.mutable).speed_limit.clone()
    }

    /// Notes the name that was asked for, for a session that is made up.
    pub fn ask_for(&self, user: &str) {
        self.set_requested_user(user);
    }

    /// The command that runs now, as the client sent it, secrets masked; empty between commands.
    pub fn current_command(&self) -> String {
        lock(&self.mutable).current.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// The command before the last; empty if there is none.
    pub fn previous_command(&self) -> String {
        lock(&self.mutable).previous.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// When the last command began.
    pub fn command_start_time(&self) -> Option<SystemTime> {
        lock(&self.mutable).command_started
    }

    /// The version of TLS and the cipher; under SSH only the cipher. Empty where there is none.
    pub fn encryption(&self) -> (String, String) {
        let words = lock(&self.mutable).tls.clone().unwrap_or_default();
        match words.split_once(' ') {
            Some((version, cipher)) if version.starts_with("TLS") => (version.into(), cipher.into()),
            _ => (String::new(), words.to_string()),
        }
    }
}
