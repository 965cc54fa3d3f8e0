//! WinSCP's script language: a pure parser, and an interpreter over [`crate::session::Session`].
//!
//! Scripts run unchanged where the engine below does what they ask; what it cannot do is refused by the name
//! of the command or switch, never ignored. Local paths may have backslashes and drives ([`Drives`]). The
//! XML log follows WinSCP's schema ([`XmlLog`]).
//!
//! See WinSCP's documentation of scripting; what differs is in the manual's page of scripts.

pub mod command;
mod local;
mod run;
pub mod text;
mod transfer;
mod xml;

pub use self::local::Drives;
pub use self::run::{Console, Runner, Settings};
pub use self::xml::{Files, NAMESPACE, XmlLog};
