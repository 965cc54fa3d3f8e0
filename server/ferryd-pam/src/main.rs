//! `ferryd-pam`: asks PAM whether a password is right, for `ferryd`.
//!
//! Modules of PAM are C, may block, fork or crash, and live in the process that asks. So this is a program of its own:
//! it reads one line of JSON, a [`Question`], writes one, an [`Answer`], and ends. Who asks bounds its time, and how
//! often it may ask.
//!
//! The first module that asks for a password is given the one of the question. What else is asked goes to the client,
//! one question at a time (`asks`, answered by a line with a [`Text`]), where whoever asks says that it `talks`; else
//! the user's name answers what may be read, and nobody the rest. The account is looked at as well (expired, locked,
//! not at this hour); where its password has expired, modules change it, if the client can be asked for the new one.
//! Sessions and credentials of PAM are not opened: nothing is run as the user.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, Read as _, Write as _};
use std::process::ExitCode;

use nonstick::items::{Items as _, ItemsMut as _};
use nonstick::{
    AuthnFlags, AuthtokFlags, ConversationAdapter, ErrorCode, PamShared as _, Result as PamResult,
    Transaction as _, TransactionBuilder,
};
use serde::{Deserialize, Serialize};

/// The longest line that is read, bytes.
const MOST: u64 = 64 << 10;

/// What is kept of what modules say before they ask, bytes.
const WORDS: usize = 2048;

/// What `ferryd` asks.
#[derive(Deserialize)]
struct Question {
    /// Which modules are asked: a file of `/etc/pam.d`.
    service: String,
    user: String,
    password: String,
    /// Where the user comes from, if that is known.
    address: Option<String>,
    /// Whether it answers what modules ask.
    #[serde(default)]
    talks: bool,
}

/// What was answered.
#[derive(Deserialize)]
struct Text {
    text: String,
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
    /// A module wants to know something.
    Asks {
        words: String,
        prompt: String,
        echo: bool,
    },
}

impl Answer {
    fn failed(why: &str) -> Self {
        Answer::Failed { why: why.into() }
    }

    fn no(why: &str) -> Self {
        Answer::No { why: why.into() }
    }

    /// Errors: nobody reads it.
    fn tell(&self) -> std::io::Result<()> {
        let text = serde_json::to_string(self).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }
}

/// The next line of whoever asks, at most `MOST` bytes of it.
fn heard() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().take(MOST).read_line(&mut line)?;
    Ok(line)
}

/// Answers modules: once with the password, then as the client does.
struct Client {
    user: String,
    /// Until a module was told it.
    password: Cell<Option<String>>,
    talks: bool,
    /// What modules said since the last question.
    words: RefCell<String>,
}

impl Client {
    fn ask(&self, prompt: &OsStr, echo: bool) -> PamResult<OsString> {
        let failed = |_| ErrorCode::ConversationError;
        let (words, prompt) = (self.words.take(), prompt.to_string_lossy().into_owned());
        Answer::Asks { words, prompt, echo }.tell().map_err(failed)?;
        let line = heard().map_err(failed)?;
        match serde_json::from_str(&line) {
            Ok(Text { text }) if !text.contains('\0') => Ok(text.into()),
            _ => Err(ErrorCode::ConversationError),
        }
    }

    fn note(&self, words: &OsStr) {
        let mut all = self.words.borrow_mut();
        let words = words.to_string_lossy();
        if all.len() + words.len() < WORDS {
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(&words);
        }
    }
}

impl ConversationAdapter for Client {
    fn prompt(&self, request: impl AsRef<OsStr>) -> PamResult<OsString> {
        if self.talks { self.ask(request.as_ref(), true) } else { Ok(OsString::from(&self.user)) }
    }

    fn masked_prompt(&self, request: impl AsRef<OsStr>) -> PamResult<OsString> {
        match self.password.take() {
            Some(password) => Ok(password.into()),
            None if self.talks => self.ask(request.as_ref(), false),
            None => Err(ErrorCode::ConversationError),
        }
    }

    fn error_msg(&self, message: impl AsRef<OsStr>) {
        self.note(message.as_ref());
    }

    fn info_msg(&self, message: impl AsRef<OsStr>) {
        self.note(message.as_ref());
    }
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
    let Question { service, user, password, address, talks } = question;
    let (password, words) = (Cell::new(Some(password)), RefCell::default());
    let conversation = Client { user: user.clone(), password, talks, words };
    let mut pam = TransactionBuilder::new_with_service(&service)
        .username(&user)
        .build(conversation.into_conversation())?;
    if let Some(address) = address {
        pam.items_mut().set_remote_host(Some(OsStr::new(&address)))?;
    }
    pam.authenticate(AuthnFlags::DISALLOW_NULL_AUTHTOK)?;
    match pam.account_management(AuthnFlags::empty()) {
        Err(ErrorCode::NewAuthTokRequired) if talks => {
            if let Err(code) = pam.change_authtok(AuthtokFlags::CHANGE_EXPIRED_AUTHTOK) {
                return Ok(Answer::no(&format!("the password has expired and was not changed: {code}")));
            }
        }
        other => other?,
    }
    // A module may take somebody for somebody else, whose account here is another one.
    let named = pam.items().user()?;
    Ok(match named.is_some_and(|name| *name == *user) {
        true => Answer::Yes,
        false => Answer::no("a module names another user"),
    })
}

fn answer(line: &str) -> Answer {
    let Ok(question) = serde_json::from_str::<Question>(line) else {
        return Answer::failed("this is no question of a ferryd of the same version");
    };
    if [&question.service, &question.user, &question.password].iter().any(|text| text.contains('\0')) {
        return Answer::no("PAM knows no zero in a text");
    }
    match ask(question) {
        Ok(answer) => answer,
        Err(code) if is_no(code) => Answer::no(&code.to_string()),
        Err(ErrorCode::ConversationError) => Answer::failed(
            "a module asks more than a password, and nobody answers (keyboard-interactive does)",
        ),
        Err(code) => Answer::failed(&code.to_string()),
    }
}

fn main() -> ExitCode {
    let answer = match heard() {
        Ok(line) => answer(&line),
        Err(e) => Answer::failed(&e.to_string()),
    };
    match answer.tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
