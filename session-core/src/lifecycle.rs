//! `Lifecycle`: a connection's life as values, asked before they happen.
//!
//! A driver obtains its next state only from the verdict of [`crate::session::Session::decide`] (or, for
//! the earliest event, of [`crate::intercept::Chain::decide`] without a session). Names of the script
//! events that hang on each variant are given with it.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::auth::{Credential, Method, Question};
use crate::error::Error;
use crate::session::Ending;

/// What a client asks to open inside an SSH connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// The SFTP subsystem (`BeforeOpenSFTP`).
    Sftp,
    /// A shell (`BeforeOpenShell`).
    Shell,
    /// A command (`BeforeOpenCmd`).
    Command,
    /// A tunnel from the client (`BeforeOpenClientFwd`).
    ClientForward,
    /// A tunnel to the client (`BeforeOpenServerFwd`).
    ServerForward,
}

/// A step in a connection's life.
#[derive(Debug)]
pub enum Lifecycle<'a> {
    /// A TCP connection arrived; there is no session yet (`OnNewConnection`).
    Connect {
        /// From where.
        peer: SocketAddr,
        /// To where.
        local: SocketAddr,
    },
    /// The identification is about to be sent; it may be rewritten (`BeforeSendSoftwareID`).
    SoftwareId {
        /// What will be sent.
        id: &'a mut String,
    },
    /// A user asks to log in (`OnAuthRequest`; then `OnAuthRequestAllowed` or `OnAuthRequestDenied`).
    AuthRequest {
        /// The name asked for.
        user: &'a str,
    },
    /// The questions of an interactive attempt are being made (`OnAuthInteractiveSetQuestions`).
    AuthQuestions {
        /// The name asked for.
        user: &'a str,
        /// What will be asked.
        questions: &'a mut Vec<Question>,
    },
    /// A proof is offered (`OnAuthPassword`, `OnAuthPKI`, `OnAuthInteractive`).
    AuthStep {
        /// The name asked for.
        user: &'a str,
        /// The proof.
        credential: &'a Credential,
    },
    /// The answer to `AuthRequest` is known (`OnAuthRequestAllowed`, `OnAuthRequestDenied`).
    AuthRequestResult {
        /// The name asked for.
        user: &'a str,
        /// Whether the user may try.
        allowed: bool,
    },
    /// An attempt or the whole login has an answer (`OnAuthSuccess`, `OnAuthFail`).
    AuthResult {
        /// The name asked for.
        user: &'a str,
        /// The method of the last step.
        method: Method,
        /// Whether the login is complete.
        success: bool,
    },
    /// A channel is asked for.
    OpenChannel(ChannelKind),
    /// A wire verb that is no operation (`BeforeCommand`).
    Command {
        /// The verb.
        verb: &'a str,
        /// Its argument, secrets masked.
        argument: &'a str,
    },
    /// An address came onto the block list; there is no session (`OnBlocklistAdd`).
    BlockAdded(&'a Notice),
    /// An address that is blocked came back; there is no session (`OnBlocklistHit`).
    BlockHit(&'a Notice),
    /// A client was given a strike; told without its session (`OnProtectorStrike`).
    Strike(&'a Notice),
    /// The connection is over (`OnConnectionClose`).
    Close(&'a Ending),
}

/// What a server's protector tells of.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The address; of a network that was blocked by hand, its first.
    pub address: IpAddr,
    /// Everything else, for those who are told.
    pub facts: Value,
}

impl Lifecycle<'_> {
    /// The same step, lent on.
    pub fn reborrow(&mut self) -> Lifecycle<'_> {
        match self {
            Lifecycle::Connect { peer, local } => Lifecycle::Connect { peer: *peer, local: *local },
            Lifecycle::SoftwareId { id } => Lifecycle::SoftwareId { id },
            Lifecycle::AuthRequest { user } => Lifecycle::AuthRequest { user },
            Lifecycle::AuthQuestions { user, questions } => Lifecycle::AuthQuestions { user, questions },
            Lifecycle::AuthStep { user, credential } => Lifecycle::AuthStep { user, credential },
            Lifecycle::AuthRequestResult { user, allowed } => {
                Lifecycle::AuthRequestResult { user, allowed: *allowed }
            }
            Lifecycle::AuthResult { user, method, success } => {
                Lifecycle::AuthResult { user, method: *method, success: *success }
            }
            Lifecycle::OpenChannel(kind) => Lifecycle::OpenChannel(*kind),
            Lifecycle::Command { verb, argument } => Lifecycle::Command { verb, argument },
            Lifecycle::BlockAdded(notice) => Lifecycle::BlockAdded(notice),
            Lifecycle::BlockHit(notice) => Lifecycle::BlockHit(notice),
            Lifecycle::Strike(notice) => Lifecycle::Strike(notice),
            Lifecycle::Close(ending) => Lifecycle::Close(ending),
        }
    }

    /// Whether a verdict other than `Pass` has an effect.
    pub fn can_be_refused(&self) -> bool {
        !matches!(
            self,
            Lifecycle::SoftwareId { .. }
                | Lifecycle::AuthQuestions { .. }
                | Lifecycle::AuthRequestResult { .. }
                | Lifecycle::AuthResult { .. }
                | Lifecycle::BlockAdded(_)
                | Lifecycle::BlockHit(_)
                | Lifecycle::Strike(_)
                | Lifecycle::Close(_)
        )
    }
}

/// The answer to a step.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// No objection.
    Pass,
    /// Refused; the error's detail goes to the client where the protocol has words.
    Refuse(Error),
    /// Only for `AuthStep`: the attempt counts as proven (`AuthenticateUserFromScript`).
    Authenticated,
}
