//! Our own programs, as cargo makes them for tests.
//!
//! What tests need besides turns on features of libraries that half of all others depend on. Who builds programs and
//! tests compiles that half once if both are built in one go, and else twice.

use std::path::PathBuf;

use crate::fault::{Result, ensure};
use crate::process::Run;
use crate::repo;

/// How cargo is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// For these alone: quick where no tests are built.
    Alone,
    /// Together with all tests, which are there already or are wanted next.
    WithTests,
}

/// The programs.
pub(crate) struct Programs {
    pub(crate) ferry: PathBuf,
    pub(crate) ferryd: PathBuf,
}

impl Build {
    /// Both programs. Errors: they do not build.
    pub(crate) fn programs(self) -> Result<Programs> {
        self.run(&["build", "--locked", "-p", "client", "-p", "server"])?;
        let dir = repo::target_dir()?.join("debug");
        Ok(Programs { ferry: dir.join("ferry"), ferryd: dir.join("ferryd") })
    }

    /// An example of a package. Errors: it does not build.
    pub(crate) fn example(self, package: &str, name: &str) -> Result<PathBuf> {
        self.run(&["build", "--locked", "-p", package, "--example", name])?;
        Ok(repo::target_dir()?.join("debug/examples").join(name))
    }

    /// The program that asks PAM, which no other build makes. Errors: it does not build.
    pub(crate) fn pam() -> Result<PathBuf> {
        Build::Alone.run(&["build", "--locked", "-p", "ferryd-pam", "--features", "pam"])?;
        Ok(repo::target_dir()?.join("debug").join("ferryd-pam"))
    }

    fn run(self, alone: &[&str]) -> Result<()> {
        let args = match self {
            Build::Alone => alone,
            Build::WithTests => &["test", "--workspace", "--locked", "--no-run", "--quiet"],
        };
        let built = Run::new(repo::cargo()).args(args).dir(repo::root()).watch(|_| {})?;
        ensure!(built, "`cargo {}` failed", args.join(" "));
        Ok(())
    }
}
