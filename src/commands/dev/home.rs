//! The folder in which `dev` keeps its data between runs, and the lock that makes it the only one.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// `.growth-chat/` of a workspace, locked.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    /// The system unlocks it however this process ends.
    _lock: File,
}

impl Home {
    /// Opens or creates it; an error when another `dev` has it.
    pub(super) fn open(workspace: &Path) -> Result<Self> {
        let folder = workspace.join(".growth-chat");
        let cant_write = || format!("{} can't be written: make it writable", folder.display());
        fs::create_dir_all(&folder).with_context(cant_write)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .with_context(cant_write)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => {
                bail!("another `cargo dev` is running in this workspace: stop it first")
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(cant_write),
        }
    }

    /// Where Postgres keeps its data.
    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// Forgets all data.
    pub(super) fn reset(&self) -> Result<()> {
        let postgres = self.postgres();
        if postgres.exists() {
            fs::remove_dir_all(&postgres)
                .with_context(|| format!("{} can't be removed", postgres.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_dev_in_the_same_workspace_is_told_so() {
        let workspace = tempfile::tempdir().unwrap();
        let first = Home::open(workspace.path()).unwrap();
        let said = Home::open(workspace.path()).unwrap_err().to_string();
        assert!(said.contains("another `cargo dev` is running"), "{said}");
        drop(first);
        Home::open(workspace.path()).unwrap();
    }

    #[test]
    fn a_reset_forgets_the_data_and_keeps_the_lock() {
        let workspace = tempfile::tempdir().unwrap();
        let home = Home::open(workspace.path()).unwrap();
        home.reset().unwrap();
        fs::create_dir_all(home.postgres().join("data")).unwrap();
        home.reset().unwrap();
        assert!(!home.postgres().exists());
        assert!(Home::open(workspace.path()).is_err());
    }

    #[test]
    fn a_folder_that_cant_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = Home::open(file.path()).unwrap_err().to_string();
        assert!(said.contains("can't be written"), "{said}");
    }
}
