//! The folder in which a server keeps its data: making it, and who works on it.
//!
//! ```text
//! FOLDER/data           what initdb made
//!       /password       of the user `postgres`, readable by its owner only
//!       /postgres.log   of the last start
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{sys::signal::kill, unistd::Pid};

use super::{
    Installation, PostgresError, Progress,
    error::{io, tail},
};

/// Between two looks at a process that has no other way to tell of its end.
const LOOK: Duration = Duration::from_millis(5);

/// Makes the data folder when there is none, and tells the password of user `postgres`.
pub(super) fn initialise(
    installation: &Installation,
    folder: &Path,
    progress: &Progress,
) -> Result<String, PostgresError> {
    let data = folder.join("data");
    let password_file = folder.join("password");
    if let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) {
        let present = installation.major().to_string();
        if version.trim() != present {
            return Err(PostgresError::OtherVersion {
                path: data,
                made_by: version.trim().to_owned(),
                present,
            });
        }
        return fs::read_to_string(&password_file).map_err(io("reading the database's password"));
    }
    progress.say("preparing an empty database");
    let password = random_hex().map_err(io("reading /dev/urandom"))?;
    write_private(&password_file, &password).map_err(io("keeping the database's password"))?;
    // Under another name until it is whole: initdb may be killed.
    let unfinished = folder.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io("removing an unfinished database"))?;
    }
    fs::create_dir(&unfinished).map_err(io("creating the database's folder"))?;
    installation.run_as().give(&unfinished)?;
    let pwfile = File::open(&password_file).map_err(io("reading the database's password"))?;
    let output = installation
        .command("initdb")
        .arg("-D")
        .arg(&unfinished)
        .args(["-U", "postgres", "-E", "UTF8", "--locale=C"])
        // Loopback only, and the check of a hashed password costs each connection of a test.
        .args(["--auth=password", "--no-sync", "--no-instructions"])
        .arg("--pwfile=/dev/stdin")
        .stdin(pwfile)
        .output()
        .map_err(io("running initdb"))?;
    if !output.status.success() {
        return Err(PostgresError::Initdb {
            path: unfinished,
            said: tail(&String::from_utf8_lossy(&output.stderr), 3),
        });
    }
    fs::rename(&unfinished, &data).map_err(io("moving the new database into place"))?;
    Ok(password)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

/// 128 random bits.
pub(super) fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// A server whose owner was killed is being stopped by its watchdog: wait for that.
pub(super) fn wait_for_predecessor(folder: &Path, patience: Duration) -> Result<(), PostgresError> {
    let data = folder.join("data");
    let deadline = Instant::now() + patience;
    while let Some(pid) = postmaster_file(&data)
        .first()
        .and_then(|pid| pid.parse().ok())
    {
        if !is_postgres(pid) {
            // The machine was switched off, and the number is nobody's or another's by now.
            let _ = fs::remove_file(data.join("postmaster.pid"));
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(PostgresError::DataInUse { path: data, pid });
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Whether the process is alive and, where the system tells, a Postgres.
fn is_postgres(pid: u32) -> bool {
    kill(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), None).is_ok()
        && fs::read_to_string(format!("/proc/{pid}/comm"))
            .map_or(true, |name| name.trim() == "postgres")
}

/// The lines of `postmaster.pid`: process id, …, port (the fourth), …, status (the eighth).
pub(super) fn postmaster_file(data: &Path) -> Vec<String> {
    fs::read_to_string(data.join("postmaster.pid"))
        .map(|text| text.lines().map(str::to_owned).collect())
        .unwrap_or_default()
}
