//! The flags of the commands that change entries.

use clap::Args;

/// `mkdir`.
#[derive(Args)]
pub(super) struct Mkdir {
    /// Also the directories above; one that is there is fine
    #[arg(short, long)]
    pub(super) parents: bool,
    /// Permission bits, octal
    #[arg(short, long, value_parser = super::args::octal, value_name = "MODE")]
    pub(super) mode: Option<u32>,
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `mv`.
#[derive(Args)]
pub(super) struct Mv {
    /// Fail where the target exists
    #[arg(short, long)]
    pub(super) no_clobber: bool,
    /// Show what would be renamed, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Sources, then the target
    #[arg(required = true, num_args = 2.., value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `rm`.
#[derive(Args)]
pub(super) struct Rm {
    /// Directories with all they hold; links are removed, not followed
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// What is missing is fine
    #[arg(short, long)]
    pub(super) force: bool,
    /// Show what would be removed, and change nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `ln`.
#[derive(Args)]
pub(super) struct Ln {
    /// A symbolic link
    #[arg(short, long)]
    pub(super) symbolic: bool,
    /// What the link points to: for -s the text as it is, else a place
    #[arg(value_name = "TARGET")]
    pub(super) target: String,
    /// Where the link is made
    #[arg(value_name = "PLACE")]
    pub(super) link: String,
}

/// `chmod`.
#[derive(Args)]
pub(super) struct Chmod {
    /// Directories with all they hold
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,
    /// Permission bits, octal
    #[arg(value_parser = super::args::octal, value_name = "MODE")]
    pub(super) mode: u32,
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `chown`.
#[derive(Args)]
pub(super) struct Chown {
    /// Directories with all they hold, links in them left out
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,
    /// Numbers: USER, USER:GROUP or :GROUP; names are of this machine and mean nothing elsewhere
    #[arg(value_parser = owner, value_name = "OWNER")]
    pub(super) owner: Owner,
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `rmdir`.
#[derive(Args)]
pub(super) struct Rmdir {
    /// Show what would be removed, and change nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// Who is to own something; what is not said stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

fn owner(text: &str) -> Result<Owner, String> {
    let number = |text: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("'{text}' is no number of an owner")),
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    match (number(uid)?, number(gid)?) {
        (None, None) => Err("an owner is USER, USER:GROUP or :GROUP, by number".into()),
        (uid, gid) => Ok(Owner { uid, gid }),
    }
}
