//! The folder in which `dev` keeps its data between runs, and the lock that makes it the only one.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long the processes of a `dev` that was killed may take to end.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries to get its lock.
const LOOK: Duration = Duration::from_millis(50);

/// The data folder, locked.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    /// The system unlocks it however this process ends.
    _lock: File,
    /// Locked until our children have ended, too: their watchdog holds it with us.
    children: File,
}

impl Home {
    /// Opens or creates it; an error when another `dev` has it. Waits for the processes of one that
    /// was killed.
    pub(super) async fn open(folder: PathBuf) -> Result<Self> {
        let cant_write = || format!("{} can't be written: make it writable", folder.display());
        fs::create_dir_all(&folder).with_context(cant_write)?;
        let lock = lock_file(&folder, "lock").with_context(cant_write)?;
        if !try_lock(&lock).with_context(cant_write)? {
            bail!(
                "another `cargo dev` is running with the data in {}: stop it first",
                folder.display()
            );
        }
        let children = lock_file(&folder, "children.lock").with_context(cant_write)?;
        let deadline = Instant::now() + PREDECESSOR_PATIENCE;
        while !try_lock(&children).with_context(cant_write)? {
            if Instant::now() > deadline {
                bail!(
                    "processes of an earlier `cargo dev` do not end: see what they are, and end them"
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(Self {
            folder,
            _lock: lock,
            children,
        })
    }

    /// The lock that the children's watchdog is to hold.
    pub(super) fn childrens_lock(&self) -> Result<File> {
        self.children
            .try_clone()
            .context("sharing the lock of the data folder failed")
    }

    /// Where Postgres keeps its data.
    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// Where the bucket's objects are kept.
    pub(super) fn bucket(&self) -> PathBuf {
        self.folder.join("bucket")
    }

    /// Keeps the variables of the processes in a file, for commands that a person runs beside them:
    /// `env $(cat …) growth-chat …`. Only its owner may read it: the database's password is in it.
    pub(super) fn keep_environment(&self, variables: &[(String, String)]) -> Result<PathBuf> {
        let path = self.folder.join("env");
        let lines = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"));
        let write = || {
            let mut options = File::options();
            options.create(true).truncate(true).write(true).mode(0o600);
            options
                .open(&path)?
                .write_all(lines.collect::<String>().as_bytes())
        };
        write().with_context(|| format!("{} can't be written", path.display()))?;
        Ok(path)
    }

    /// Forgets all data.
    pub(super) fn reset(&self) -> Result<()> {
        for folder in [self.postgres(), self.bucket()] {
            if folder.exists() {
                fs::remove_dir_all(&folder)
                    .with_context(|| format!("{} can't be removed", folder.display()))?;
            }
        }
        Ok(())
    }
}

fn lock_file(folder: &Path, name: &str) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(name))
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_dev_with_the_same_data_is_told_so() {
        let data = tempfile::tempdir().unwrap();
        let first = Home::open(data.path().into()).await.unwrap();
        let said = Home::open(data.path().into())
            .await
            .unwrap_err()
            .to_string();
        assert!(said.contains("another `cargo dev` is running"), "{said}");
        drop(first);
        Home::open(data.path().into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_reset_forgets_the_data_and_keeps_the_lock() {
        let data = tempfile::tempdir().unwrap();
        let home = Home::open(data.path().into()).await.unwrap();
        home.reset().unwrap();
        fs::create_dir_all(home.postgres().join("data")).unwrap();
        home.reset().unwrap();
        assert!(!home.postgres().exists());
        assert!(Home::open(data.path().into()).await.is_err());
    }

    #[tokio::test]
    async fn a_folder_that_cant_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = Home::open(file.path().into())
            .await
            .unwrap_err()
            .to_string();
        assert!(said.contains("can't be written"), "{said}");
    }

    #[tokio::test]
    async fn a_new_dev_waits_until_the_children_of_a_killed_one_have_ended() {
        let data = tempfile::tempdir().unwrap();
        let killed = Home::open(data.path().into()).await.unwrap();
        let held_by_its_watchdog = killed.childrens_lock().unwrap();
        drop(killed);
        let ending = async {
            tokio::time::sleep(LOOK).await;
            drop(held_by_its_watchdog);
        };
        let (opened, ()) = tokio::join!(Home::open(data.path().into()), ending);
        opened.unwrap();
    }
}
