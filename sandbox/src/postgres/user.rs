//! Postgres refuses to run as root, and containers usually run everything as root.

use std::{
    os::unix::fs::chown,
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::Uid;

use super::error::{PostgresError, io};

/// The ordinary user of last resort: `nobody` on Linux and macOS needs no entry anywhere.
const NOBODY: u32 = 65534;

/// How to run a program of Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunAs {
    /// We are an ordinary user.
    Ourselves,
    /// In a user namespace in which root is somebody else; files stay root's.
    OtherNamespace,
    /// As [`NOBODY`], who may still read and write where root may.
    Nobody,
}

impl RunAs {
    /// Tries what works here.
    pub(super) fn detect() -> Result<Self, PostgresError> {
        if !Uid::effective().is_root() {
            return Ok(Self::Ourselves);
        }
        [Self::OtherNamespace, Self::Nobody]
            .into_iter()
            .find(|way| {
                way.command(Path::new("true"))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            })
            .ok_or(PostgresError::NoOrdinaryUser)
    }

    /// A command that becomes `program`: same process id, no shell in between.
    pub(super) fn command(self, program: &Path) -> Command {
        match self {
            Self::Ourselves => Command::new(program),
            Self::OtherNamespace => {
                let mut command = Command::new("unshare");
                command
                    .args(["--user", "--map-user=1000", "--map-group=1000", "--"])
                    .arg(program);
                command
            }
            Self::Nobody => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={NOBODY}"))
                    .arg(format!("--regid={NOBODY}"))
                    .arg("--clear-groups")
                    // The cache and the data may lie in folders that only root can enter.
                    .args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"])
                    .arg("--")
                    .arg(program);
                command
            }
        }
    }

    /// Postgres wants its data folder to be its user's own.
    pub(super) fn give(self, folder: &Path) -> Result<(), PostgresError> {
        match self {
            Self::Nobody => {
                chown(folder, Some(NOBODY), Some(NOBODY)).map_err(io("giving the data folder away"))
            }
            Self::Ourselves | Self::OtherNamespace => Ok(()),
        }
    }
}
