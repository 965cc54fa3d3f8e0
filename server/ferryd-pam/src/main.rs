//! `ferryd-pam`: asks PAM whether a password is right, for `ferryd`.
//!
//! Modules of PAM are C, may block, fork or crash, and live in the process that asks. So this is a program of its own:
//! it reads one line of JSON, a [`Question`], writes one, an [`Answer`], and ends. Who asks bounds its time.
//!
//! A module that asks for a password is given the one of the question, once; the user's name as often as it likes.
//! One that asks for anything else, or for a second password, is told that nobody answers. The account is looked at
//! as well (expired, locked, not at this hour); sessions and credentials of PAM are not opened: nothing is run as the
//! user. Deliberately absent: changing of passwords that have expired.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, Read as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use nonstick::items::{Items as _, ItemsMut as _};
use nonstick::{
    AuthnFlags, ConversationAdapter, ErrorCode, PamShared as _, Result as PamResult, Transaction as _,
    TransactionBuilder,
};
use serde::{Deserialize, Serialize};

/// The longest question, bytes.
const MOST: u64 = 64 << 10;

/// What `ferryd` asks.
#[derive(Deserialize)]
struct Question {
    /// Which modules are asked: a file of `/etc/pam.d`.
    service: String,
    user: String,
    password: String,
    /// Where the user comes from, if that is known.
    address: Option<String>,
}

/// What it is told.
#[derive(Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
enum Answer {
    /// The password is right and the account may be used.
    Yes,
    No {
        why: String,
    },
    /// It cannot be told.
    Failed {
        why: String,
    },
}

/// Answers a module once with the password.
struct Once {
    user: String,
    password: String,
    is_used: AtomicBool,
}

impl ConversationAdapter for Once {
    fn prompt(&self, _: impl AsRef<OsStr>) -> PamResult<OsString> {
        Ok(OsString::from(&self.user))
    }

    fn masked_prompt(&self, _: impl AsRef<OsStr>) -> PamResult<OsString> {
        if self.is_used.swap(true, Ordering::Relaxed) {
            return Err(ErrorCode::ConversationError);
        }
        Ok(OsString::from(&self.password))
    }

    fn error_msg(&self, _: impl AsRef<OsStr>) {}

    fn info_msg(&self, _: impl AsRef<OsStr>) {}
}

/// Whether PAM says no, and not that it cannot say.
fn is_no(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::AccountExpired
            | ErrorCode::AuthenticationError
            | ErrorCode::MaxTries
            | ErrorCode::NewAuthTokRequired
            | ErrorCode::PermissionDenied
            | ErrorCode::UserUnknown
    )
}

fn ask(question: Question) -> PamResult<Answer> {
    let Question { service, user, password, address } = question;
    let conversation = Once { user: user.clone(), password, is_used: AtomicBool::new(false) };
    let mut pam = TransactionBuilder::new_with_service(&service)
        .username(&user)
        .build(conversation.into_conversation())?;
    if let Some(address) = address {
        pam.items_mut().set_remote_host(Some(OsStr::new(&address)))?;
    }
    pam.authenticate(AuthnFlags::DISALLOW_NULL_AUTHTOK)?;
    pam.account_management(AuthnFlags::empty())?;
    // A module may take somebody for somebody else, whose account here is another one.
    let named = pam.items().user()?;
    Ok(match named.is_some_and(|name| *name == *user) {
        true => Answer::Yes,
        false => Answer::No { why: "a module names another user".into() },
    })
}

fn answer(line: &str) -> Answer {
    let failed = |why: &str| Answer::Failed { why: why.into() };
    let Ok(question) = serde_json::from_str::<Question>(line) else {
        return failed("this is no question of a ferryd of the same version");
    };
    if [&question.service, &question.user, &question.password].iter().any(|text| text.contains('\0')) {
        return Answer::No { why: "PAM knows no zero in a text".into() };
    }
    match ask(question) {
        Ok(answer) => answer,
        Err(code) if is_no(code) => Answer::No { why: code.to_string() },
        Err(ErrorCode::ConversationError) => failed("a module asks for more than one password"),
        Err(code) => failed(&code.to_string()),
    }
}

fn main() -> ExitCode {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MOST).read_line(&mut line);
    let answer = match read {
        Ok(_) => answer(&line),
        Err(e) => Answer::Failed { why: e.to_string() },
    };
    let text = serde_json::to_string(&answer).unwrap_or_default();
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
