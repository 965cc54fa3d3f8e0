//! The flags and commands, defined once.

use std::num::NonZeroU32;
use std::path::PathBuf;
#[cfg(any(feature = "s3", feature = "webdav"))]
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use session_core::batch::{Timetable, Verify, parse_bytes};

use super::change_args;
use super::exit;
#[cfg(feature = "s3")]
use super::s3_args::{self, S3Args};
use super::shell;
use super::sites_args;
use super::sync_args;
#[cfg(any(feature = "s3", feature = "webdav"))]
use super::uploads_args;
use crate::log::LogLevel;

/// Moves files between any two places: local paths, sftp://user@host:port/path, ftp://, ftpes:// (FTP that
/// turns to TLS), ftps:// (FTP over TLS), davs:// (WebDAV), s3://bucket/path or s3://host/bucket/path, and
/// site://NAME/path for what 'ferry sites' stores.
#[derive(Parser)]
#[command(name = "ferry", version, after_help = exit::TABLE, propagate_version = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags of every command.
#[derive(Args, Clone)]
pub(super) struct Global {
    /// Print JSON, one object a line (see docs/json.md)
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print only errors
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Ask nothing: what would be asked is refused
    #[arg(long, global = true)]
    pub(super) batch: bool,
    /// Log in with this private key (may be given several times)
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(super) identity: Vec<PathBuf>,
    /// Trust only this host key: SHA256:…, MD5:…, or WinSCP's 'ssh-ed25519 256 …'
    #[arg(long, global = true, value_name = "FINGERPRINT")]
    pub(super) host_key: Vec<String>,
    /// Trust only this certificate: its SHA-256 or SHA-1 in pairs of hexadecimal digits
    #[arg(long, global = true, value_name = "FINGERPRINT")]
    pub(super) certificate: Vec<String>,
    /// Look host keys up here instead of ~/.ssh/known_hosts
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) known_hosts: Option<PathBuf>,
    /// Put the key of a host that is not known on record without asking; a changed key is still refused
    #[arg(long, global = true)]
    pub(super) accept_new: bool,
    /// The password (better: the environment variable, or the question)
    #[arg(long, global = true, env = "FERRY_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub(super) password: Option<String>,
    /// Try for this many seconds to get a lost connection back; begins anew whenever bytes have moved
    #[arg(long, global = true, default_value_t = 120, value_name = "SECONDS")]
    pub(super) reconnect: u64,
    /// Give up connecting after this many seconds; 20 where ssh_config says nothing else
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(super) connect_timeout: Option<u64>,
    /// Ask no more than this of all servers together in a second: listings, looks, opened files, changes, as 20 or
    /// 20/s; off. What is in files does not count, see --limit
    #[arg(long, global = true, default_value = "off", value_name = "N/s", value_parser = requests)]
    pub(super) limit_requests: Requests,
    /// Write to the end of this file what is said to servers and what they answer; never a secret
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// How much of it: -1 what becomes of connections, 0 requests and answers too, 1 those that carry content, and the
    /// headers of HTTP
    #[arg(long, global = true, default_value = "0", allow_hyphen_values = true, value_name = "-1|0|1")]
    pub(super) log_level: LogLevel,
    #[command(flatten)]
    pub(super) way: Way,
    #[cfg(feature = "hooks")]
    #[command(flatten)]
    pub(super) hooks: super::hooks::HookFlags,
    #[cfg(feature = "s3")]
    #[command(flatten)]
    pub(super) s3: S3Args,
}

/// How a host is reached.
#[derive(Args, Clone, Default)]
pub(super) struct Way {
    /// Reach every host by this proxy: socks5://[user:password@]host[:port] (SOCKS 4 and 4a too), http://…
    /// (CONNECT), command:LINE (SFTP only), or none. Names are resolved by the proxy. Without it, ALL_PROXY and
    /// NO_PROXY are heeded as curl does: all_proxy before ALL_PROXY; no_proxy lists names (with all below them),
    /// addresses, networks, each perhaps with a port, or *
    #[arg(long, global = true, env = "FERRY_PROXY", hide_env_values = true, value_name = "URL")]
    pub(super) proxy: Option<String>,
    /// Reach SFTP servers over these: [user@]host[:port], set apart by commas, the first to be reached first
    #[arg(short = 'J', long, global = true, value_name = "HOSTS")]
    pub(super) jump: Option<String>,
    /// Read this ssh_config only, or none, instead of ~/.ssh/config and /etc/ssh/ssh_config
    #[arg(long, global = true, value_name = "FILE|none")]
    pub(super) ssh_config: Option<std::path::PathBuf>,
    /// Use IPv4 only
    #[arg(short = '4', long, global = true, conflicts_with = "ipv6")]
    pub(super) ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long, global = true)]
    pub(super) ipv6: bool,
    /// Connect from this address of this machine
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(super) bind: Option<std::net::IpAddr>,
    /// FTP: let the server open data connections (active mode)
    #[arg(long, global = true)]
    pub(super) active: bool,
    /// TLS: show this certificate of one's own (PKCS#12, or PEM with its key in the same file or in the one that
    /// ends in .key). What opens the key is asked for, or stands in FERRY_PASSPHRASE
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) client_certificate: Option<PathBuf>,
}

/// What to do.
#[derive(Subcommand)]
pub(super) enum Command {
    /// List directories
    Ls(Ls),
    /// Show a directory as a tree
    Tree(Tree),
    /// Show what is known of an entry
    Stat(Paths),
    /// Write files to the standard output
    Cat(Paths),
    /// Fetch files from a remote
    Get(Transfer),
    /// Send files to a remote
    Put(Transfer),
    /// Copy between any two places
    Cp(Transfer),
    /// Go on with a transfer that was interrupted
    Resume(Resume),
    /// List transfers (running, interrupted, and for a week the finished ones), or pause, slow and end them
    Jobs(Jobs),
    /// Make directories
    Mkdir(change_args::Mkdir),
    /// Rename or move within one place
    Mv(change_args::Mv),
    /// Remove files, and directories with -r
    Rm(change_args::Rm),
    /// Remove directories that are empty
    Rmdir(change_args::Rmdir),
    /// Make a link
    Ln(change_args::Ln),
    /// Change permission bits
    Chmod(change_args::Chmod),
    /// Change owner and group
    Chown(change_args::Chown),
    /// Show free space
    Df(Paths),
    /// Show digests of files
    Hash(Hash),
    /// Make two places alike
    Sync(Box<sync_args::Sync>),
    /// Write down what would make two places alike, for 'ferry apply'
    Plan(Box<sync_args::Plan>),
    /// Do exactly what a plan says; what has changed meanwhile is left alone and reported
    Apply(sync_args::Apply),
    /// Show how two places differ: '<' only in A, '>' only in B, '!' in both
    Diff(sync_args::Diff),
    /// Find entries by name, size and time
    Find(Box<sync_args::Find>),
    /// Sum up what directories hold
    Du(sync_args::Du),
    /// Set modification times; a file that is missing is made, empty
    Touch(sync_args::Touch),
    /// Make two places alike and keep them so: what changes in A is synchronised shortly after
    Watch(Box<sync_args::Watch>),
    /// Run a command of the server: over SFTP by its shell, over FTP as a raw line
    Exec(Exec),
    /// Run a WinSCP script
    Script(Script),
    /// Run these commands one after the other, over sessions that stay open: on a terminal with history and
    /// completion, from a pipe until one fails
    Shell(shell::Shell),
    /// Store how servers are opened, by name: site://NAME/path is then a place
    Sites(sites_args::Sites),
    /// Change what S3 says of objects that are there to what --s3-content-type, --s3-cache-control, --s3-meta,
    /// --s3-class, --s3-sse, --s3-kms-key, --s3-acl and --s3-tag say. The store copies the content onto itself where
    /// it must: where versions are kept, that is a new one
    #[cfg(feature = "s3")]
    Alter(s3_args::Alter),
    /// Make URLs by which others read objects of S3, or write them, for a time
    #[cfg(feature = "s3")]
    Presign(s3_args::Presign),
    /// Show or change the tags of objects of S3
    #[cfg(feature = "s3")]
    Tag(s3_args::Tag),
    /// List uploads to S3, and in chunks to a Nextcloud, that were begun and never finished, which take room; throw old
    /// ones away
    #[cfg(any(feature = "s3", feature = "webdav"))]
    Uploads(uploads_args::Uploads),
    /// List the versions of an object of S3, or go back to one
    #[cfg(feature = "s3")]
    Versions(s3_args::Versions),
    /// Lock files and directories of WebDAV against changes by others. Whatever ferry changes there later shows the
    /// lock, until its time is over or 'ferry unlock'
    #[cfg(feature = "webdav")]
    Lock(super::locks::LockPlaces),
    /// Give locks back
    #[cfg(feature = "webdav")]
    Unlock(super::locks::Unlock),
    /// Show the host key or certificate of servers, without trusting it
    Fingerprint(Fingerprint),
    /// Show how a server would be reached, trusted and entered, by what URL, options, site, ssh_config and environment
    /// say together. Nothing is connected to, and no secret shown
    Explain(Explain),
    /// Check handlers in JavaScript before they are given to --hooks, or describe them to an editor
    #[cfg(feature = "hooks")]
    Hooks(super::hooks::Hooks),
    /// Make a key, or convert one (OpenSSH's and PuTTY's formats)
    #[cfg(feature = "sftp")]
    Keygen(Keygen),
    /// Allow a public key to log in to an account, over SFTP
    #[cfg(feature = "sftp")]
    CopyId(CopyId),
    /// Print what the place that is being typed may go on with, for the completions of shells
    #[command(name = super::completions::ASK, hide = true)]
    CompletePlace {
        /// The words of the line up to the cursor, the last one begun
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// Print completions for a shell, a page for 'man', or this reference
    Docs {
        /// What
        #[command(subcommand)]
        what: DocsCommand,
    },
}

/// Generated from the definition.
#[derive(Subcommand)]
pub(super) enum DocsCommand {
    /// The page of ferry, or of one of its commands, for 'man'
    Man {
        /// The command
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
    /// Completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// All commands with their help, as Markdown
    Reference,
    /// The kinds of lines of --json with their fields, as Markdown
    Lines,
}

/// Places.
#[derive(Args)]
pub(super) struct Paths {
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `ls`.
#[derive(Args)]
pub(super) struct Ls {
    /// Mode, links, owner, size, time
    #[arg(short, long)]
    pub(super) long: bool,
    /// Also names that begin with a dot
    #[arg(short, long)]
    pub(super) all: bool,
    /// Go into directories
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,
    /// Do not sort: print while the listing arrives
    #[arg(short = 'U', long)]
    pub(super) unsorted: bool,
    /// Local paths or URLs
    #[arg(value_name = "PLACE", default_value = ".")]
    pub(super) places: Vec<String>,
}

/// `tree`.
#[derive(Args)]
pub(super) struct Tree {
    /// At most this deep
    #[arg(short = 'L', long, value_name = "LEVELS")]
    pub(super) depth: Option<usize>,
    /// Also names that begin with a dot
    #[arg(short, long)]
    pub(super) all: bool,
    /// A local path or a URL
    #[arg(value_name = "PLACE", default_value = ".")]
    pub(super) place: String,
}

/// What to do with targets that exist.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum OverwriteArg {
    /// Replace
    Always,
    /// Ask; without a terminal: leave
    Ask,
    /// Replace what is older
    Newer,
    /// Leave
    Never,
    /// Send what a smaller one lacks, under its own name; replace others
    Resume,
    /// Add to its end; keeps no journal
    Append,
}

/// How hard to look at what was moved.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum VerifyArg {
    /// Compare digests where a side computes its own, else sizes
    Auto,
    /// Compare digests in any case, reading back if need be; a file that cannot be proved has failed
    Strict,
    /// Compare sizes
    Size,
    /// Believe the answer to the end of the upload, which tells the size
    None,
}

impl From<VerifyArg> for Verify {
    fn from(arg: VerifyArg) -> Self {
        match arg {
            VerifyArg::Auto => Verify::Auto,
            VerifyArg::Strict => Verify::Strict,
            VerifyArg::Size => Verify::Size,
            VerifyArg::None => Verify::None,
        }
    }
}

/// What is proved of each file that is copied, and where that is kept.
#[derive(Args, Clone)]
pub(super) struct Proving {
    /// How hard to look at what was moved
    #[arg(long, value_enum, default_value = "size", value_name = "HOW")]
    pub(super) verify: VerifyArg,
    /// Compute this digest of each file, for its receipt
    #[arg(long, value_parser = algorithm, value_name = "ALGORITHM")]
    pub(super) digest: Option<session_core::fs::Algorithm>,
    /// Add a receipt for each file that is in place to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) receipts: Option<PathBuf>,
}

/// What becomes of names.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum NameCaseArg {
    /// Nothing
    Keep,
    /// Upper case
    Upper,
    /// Lower case
    Lower,
    /// The first letter in upper case
    FirstUpper,
    /// Lower case for short names that are all upper case
    LowerShort,
}

/// `get`, `put`, `cp`.
#[derive(Args)]
pub(super) struct Transfer {
    /// Copy directories with all they hold
    #[arg(short, long)]
    pub(super) recursive: bool,
    /// What to do with targets that exist
    #[arg(long, value_enum, default_value = "always", value_name = "WHEN")]
    pub(super) overwrite: OverwriteArg,
    /// Files of some size at once; eight times as many small ones
    #[arg(short = 'P', long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) parallel: u16,
    /// Move large files in so many segments at once, where that can be; over SFTP over as many connections
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(super) segments: u16,
    /// Bytes that a segment has at least
    #[arg(long, default_value = "32M", value_name = "SIZE", value_parser = bytes)]
    pub(super) segment_size: u64,
    /// Start interrupted files anew
    #[arg(long)]
    pub(super) no_resume: bool,
    /// Ask before what an earlier transfer left of a file is continued; with --batch it is begun anew
    #[arg(long, conflicts_with = "no_resume")]
    pub(super) ask_resume: bool,
    /// Do not keep modification times
    #[arg(long)]
    pub(super) no_times: bool,
    /// Do not keep permission bits
    #[arg(long)]
    pub(super) no_modes: bool,
    /// Write under the final name from the start
    #[arg(long)]
    pub(super) no_temporary: bool,
    /// Files of at least this size get a temporary name while they are written, and can be continued later
    #[arg(long, default_value = "100K", value_name = "SIZE", value_parser = bytes)]
    pub(super) temporary_from: u64,
    /// Do not keep modification times of directories
    #[arg(long)]
    pub(super) no_directory_times: bool,
    /// Set these permission bits, octal, instead of the source's
    #[arg(long, value_parser = octal, value_name = "MODE")]
    pub(super) permissions: Option<u32>,
    /// A target that sets no times or permission bits is no failure
    #[arg(long)]
    pub(super) ignore_attribute_errors: bool,
    /// Go into directories to which symbolic links lead; without it they are left, and links to files are copied as what
    /// they lead to. A link that leads back to a directory around it is left and named
    #[arg(long)]
    pub(super) follow_links: bool,
    /// Leave names that begin with a dot
    #[arg(long)]
    pub(super) exclude_hidden: bool,
    /// Leave directories out in which nothing takes part
    #[arg(long)]
    pub(super) exclude_empty_directories: bool,
    /// What takes part, as '*.txt; docs/ | *.bak; tmp/' or '>1M<2D' (see docs/masks.md)
    #[arg(long, value_name = "MASK", value_parser = mask)]
    pub(super) mask: Option<String>,
    /// A file in the manner of .gitignore; what it ignores takes no part
    #[arg(long, value_name = "FILE")]
    pub(super) filter_from: Option<PathBuf>,
    /// Files that match, as '*.txt; *.csv', are text: over FTP each side gets its own ends of line
    #[arg(long, value_name = "MASK", value_parser = mask)]
    pub(super) ascii_mask: Option<String>,
    /// What becomes of names
    #[arg(long, value_enum, default_value = "keep", value_name = "CASE")]
    pub(super) name_case: NameCaseArg,
    /// Move at most this much a second: 500K, 2M (powers of 1024), off; or by the time of the week:
    /// '08:00,512K 18:00,off', 'Mon-08:00,1M Fri-18:00,off'
    #[arg(long, default_value = "off", value_name = "RATE|TIMETABLE", value_parser = limit)]
    pub(super) limit: Limit,
    #[command(flatten)]
    pub(super) proving: Proving,
    /// Keep no journal: a transfer that is killed cannot be continued with 'ferry resume'
    #[arg(long)]
    pub(super) no_journal: bool,
    /// Stop at the first failure
    #[arg(long)]
    pub(super) fail_fast: bool,
    /// Go on after a failure: what is done anyway, unless --fail-fast stands before it
    #[arg(long = "keep-going", overrides_with = "fail_fast")]
    pub(super) _keep_going: bool,
    /// Show what would be copied, and change nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Connections to a remote that are used for one transfer
    #[arg(long, default_value_t = 0, value_name = "N", hide = true)]
    pub(super) channels: usize,
    /// Sources, then the target; `get` copies to the current directory where there is no target. `put - TARGET`
    /// sends the standard input, `get SOURCE -` writes to the standard output
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `resume`.
#[derive(Args)]
pub(super) struct Resume {
    /// Its name; the one that was interrupted where there is only one
    #[arg(value_name = "JOB")]
    pub(super) job: Option<String>,
}

/// `jobs`.
#[derive(Args)]
pub(super) struct Jobs {
    /// What to do instead of listing
    #[command(subcommand)]
    pub(super) what: Option<JobsCommand>,
}

/// What `jobs` can do.
#[derive(Subcommand)]
pub(super) enum JobsCommand {
    /// Forget jobs; what they moved stays, what they began and their target keeps is thrown away
    Forget {
        /// Also where the target cannot be reached: what it keeps stays there
        #[arg(long)]
        force: bool,
        /// Their names
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<String>,
    },
    /// End running jobs; 'ferry resume' goes on with them
    Kill {
        /// Their names
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<String>,
    },
    /// Limit the speed of running jobs from now on
    Limit {
        /// Bytes per second: 500K, 2M (powers of 1024), off
        #[arg(value_name = "RATE", value_parser = rate)]
        rate: u64,
        /// Their names
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<String>,
    },
    /// Let running jobs move nothing until 'ferry jobs resume'
    Pause {
        /// Their names
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<String>,
    },
    /// Let paused jobs move again
    Resume {
        /// Their names
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<String>,
    },
}

/// `hash`.
#[derive(Args)]
pub(super) struct Hash {
    /// blake3, crc32, md5, sha1, sha256, sha384, sha512
    #[arg(short, long, default_value = "sha256", value_parser = algorithm)]
    pub(super) algorithm: session_core::fs::Algorithm,
    /// Local paths or URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `script`.
#[derive(Args)]
pub(super) struct Script {
    /// A command to run, after those of the file (may be given several times)
    #[arg(short, long, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
    /// What %1% stands for; given again, %2% and so on
    #[arg(short, long, value_name = "TEXT")]
    pub(super) parameter: Vec<String>,
    /// The directory that a drive of the script stands for (may be given several times)
    #[arg(long, value_name = "D:=DIR")]
    pub(super) drive: Vec<String>,
    /// Log what is done, by WinSCP's XML schema
    #[arg(long, value_name = "FILE")]
    pub(super) xmllog: Option<PathBuf>,
    /// Give each command a group of its own in that log
    #[arg(long, requires = "xmllog")]
    pub(super) xmlgroups: bool,
    /// How much one 'synchronize -delete' may remove: entries, a share such as 10%, or 'unlimited'; else a
    /// tenth or a hundred entries, whichever is more
    #[arg(long, value_name = "N", value_parser = max_delete)]
    pub(super) max_delete: Option<crate::sync::MaxDelete>,
    /// The script; '-' for the standard input
    #[arg(required_unless_present = "command", value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

/// `exec`.
#[derive(Args)]
pub(super) struct Exec {
    /// A URL; its path is where the command runs
    #[arg(value_name = "PLACE")]
    pub(super) place: String,
    /// The command; its words are joined by blanks and read by the shell of the server, as with ssh
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

/// `explain`.
#[derive(Args)]
pub(super) struct Explain {
    /// URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// `fingerprint`.
#[derive(Args)]
pub(super) struct Fingerprint {
    /// Every kind of host key that the server has, not only the one that it prefers
    #[arg(short, long)]
    pub(super) all: bool,
    /// URLs
    #[arg(required = true, value_name = "PLACE")]
    pub(super) places: Vec<String>,
}

/// Kinds of keys.
#[cfg(feature = "sftp")]
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum KeyType {
    /// Ed25519: small, quick, strong
    Ed25519,
    /// ECDSA over a NIST curve
    Ecdsa,
    /// RSA, for old servers
    Rsa,
}

/// Formats of private keys.
#[cfg(feature = "sftp")]
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum KeyFormat {
    /// OpenSSH's
    Openssh,
    /// PuTTY's, version 3
    Ppk,
    /// PuTTY's, version 2, for programs that know no other
    Ppk2,
}

/// `keygen`.
#[cfg(feature = "sftp")]
#[derive(Args)]
pub(super) struct Keygen {
    /// The kind of key
    #[arg(
        short = 't',
        long = "type",
        value_enum,
        default_value = "ed25519",
        value_name = "TYPE",
        conflicts_with = "from"
    )]
    pub(super) kind: KeyType,
    /// Its size: 256 (default), 384, 521 for ECDSA; 2048 to 8192 for RSA, 3072 by default
    #[arg(short, long, value_name = "BITS", conflicts_with = "from")]
    pub(super) bits: Option<u16>,
    /// Its comment; where none is given, user and machine, or that of the key that is converted
    #[arg(short = 'C', long, value_name = "TEXT")]
    pub(super) comment: Option<String>,
    /// The format of the private key
    #[arg(long, value_enum, default_value = "openssh", value_name = "FORMAT")]
    pub(super) format: KeyFormat,
    /// Convert this private key, of any format, instead of making one
    #[arg(long, value_name = "FILE")]
    pub(super) from: Option<PathBuf>,
    /// The phrase that opens the key that is converted, in a file; else FERRY_OLD_PASSPHRASE, else the question
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(super) old_passphrase_file: Option<PathBuf>,
    /// The phrase for the key that is written, in a file; else FERRY_PASSPHRASE, else the question
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// Write the key without a phrase
    #[arg(long)]
    pub(super) no_passphrase: bool,
    /// The private key to write; the public one goes to FILE.pub. Neither may exist
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

/// `copy-id`.
#[cfg(feature = "sftp")]
#[derive(Args)]
pub(super) struct CopyId {
    /// The account: sftp://user@host/. A path is that of the list of keys, where it is not .ssh/authorized_keys
    #[arg(value_name = "PLACE")]
    pub(super) place: String,
    /// The file with the public key
    #[arg(value_name = "KEY.pub")]
    pub(super) key: PathBuf,
}

fn max_delete(text: &str) -> Result<crate::sync::MaxDelete, String> {
    crate::sync::MaxDelete::parse(text).map_err(|e| e.to_string())
}

pub(super) fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("permission bits are octal, at most 7777".into()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| "a size is a whole number with K, M or G behind it, or nothing".into())
}

/// How many operations a second, if there is a bound.
#[derive(Clone, Copy, Default)]
pub(super) struct Requests(pub(super) Option<NonZeroU32>);

fn requests(text: &str) -> Result<Requests, String> {
    match text {
        "off" => Ok(Requests(None)),
        text => match text.strip_suffix("/s").unwrap_or(text).parse() {
            Ok(n) => Ok(Requests(Some(n))),
            Err(_) => Err("a bound of requests is a whole number, as 20 or 20/s, or off".into()),
        },
    }
}

/// How fast: a rate, or rates by the time of the week.
#[derive(Clone, Default)]
pub(super) struct Limit {
    pub(super) rate: u64,
    pub(super) timetable: Option<Timetable>,
}

/// `500K`, `off`, or a timetable.
pub(super) fn limit(text: &str) -> Result<Limit, String> {
    if text.contains(':') {
        let timetable = Some(Timetable::parse(text).map_err(|e| format!("{e:#}"))?);
        return Ok(Limit { rate: 0, timetable });
    }
    Ok(Limit { rate: rate(text)?, timetable: None })
}

fn rate(text: &str) -> Result<u64, String> {
    crate::live::parse_rate(text).map_err(|e| format!("{e:#}"))
}

/// A mask that is one, as it was written.
fn mask(text: &str) -> Result<String, String> {
    crate::mask::FileMask::parse(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

fn algorithm(text: &str) -> Result<session_core::fs::Algorithm, String> {
    session_core::fs::Algorithm::parse(text).ok_or_else(|| {
        let all: Vec<_> = session_core::fs::Algorithm::ALL.iter().map(|a| a.name()).collect();
        format!("known are: {}", all.join(", "))
    })
}

/// A time with its unit.
#[cfg(any(feature = "s3", feature = "webdav"))]
pub(super) fn time_span(text: &str) -> Result<Duration, String> {
    seconds(text).map(Duration::from_secs).ok_or_else(|| "it is a time: 90s, 15m, 12h, 7d".to_owned())
}

/// The same in seconds; of nothing else `None`.
#[cfg(any(feature = "s3", feature = "webdav"))]
pub(super) fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.get(number.len()..).unwrap_or_default()),
        None => (text, "s"),
    };
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 1,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds)
}
