//! The flags of `sites`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `sites`.
#[derive(Args)]
pub(super) struct Sites {
    /// What to do
    #[command(subcommand)]
    pub(super) what: SitesCommand,
}

/// What `sites` can do.
#[derive(Subcommand)]
pub(super) enum SitesCommand {
    /// Store a site, with the flags that say how it is reached: --identity, --host-key, --proxy, --jump and others
    Add(Add),
    /// List the sites
    List,
    /// Show how a site is opened, without its secrets
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Forget sites
    Rm {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Take over the sites of another program; what cannot be taken over is said by name
    Import(Import),
    /// Change the passphrase of the stored secrets
    Passphrase,
}

/// `sites add`.
#[derive(Args)]
pub(super) struct Add {
    /// Its name; slashes set folders apart
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// How it is opened: sftp://user@host:port/path; settings of WinSCP stand in it as ';x-Name=value'. The path is
    /// where the site begins
    #[arg(value_name = "URL")]
    pub(super) url: String,
    /// Store the password, and a phrase in FERRY_PASSPHRASE for the key, sealed by a passphrase; where they are
    /// not stored, they are asked for at each login
    #[arg(long)]
    pub(super) save_password: bool,
    /// A setting by WinSCP's name (may be given several times)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) raw: Vec<String>,
    /// In place of a site of this name
    #[arg(long)]
    pub(super) replace: bool,
}

/// Whose sites.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Program {
    /// FileZilla's sitemanager.xml
    Filezilla,
    /// rclone.conf
    Rclone,
    /// The hosts of ~/.ssh/config
    #[cfg(feature = "sftp")]
    Ssh,
    /// WinSCP.ini
    Winscp,
}

/// `sites import`.
#[derive(Args)]
pub(super) struct Import {
    /// Whose
    #[arg(value_enum, value_name = "PROGRAM")]
    pub(super) program: Program,
    /// The file; where none is named, the one that the program uses here
    #[arg(value_name = "FILE", required_if_eq("program", "winscp"))]
    pub(super) file: Option<PathBuf>,
    /// Below this folder of sites
    #[arg(long, value_name = "FOLDER")]
    pub(super) into: Option<String>,
    /// Leave secrets: they are asked for at each login
    #[arg(long)]
    pub(super) no_passwords: bool,
    /// In place of sites of the same names; else those are left
    #[arg(long)]
    pub(super) replace: bool,
    /// The directory that a drive of Windows stands for, in paths of keys (may be given several times)
    #[arg(long, value_name = "D:=DIR")]
    pub(super) drive: Vec<String>,
    /// Only say what would be taken over
    #[arg(long)]
    pub(super) dry_run: bool,
}
