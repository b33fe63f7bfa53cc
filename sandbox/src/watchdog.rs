//! Ends what we started, even when we are killed.
//!
//! A destructor does not run under SIGKILL. So a shell waits at the end of a pipe whose other end
//! is ours: however we end, the system closes the pipe, and the shell ends the processes it was
//! told to watch and removes the folder it was given.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

pub use nix::sys::signal::Signal;
use parking_lot::Mutex;

/// `$1`, `$2`: the signals to send first and last; `$3`: how many tenths of a second apart;
/// `$4`: a folder to remove, or nothing. Reads `watch PID` and `forget PID`. A process that has ended
/// and that nobody has waited for (`Z`) still takes signals; in a container that may last for ever.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
pids=' '
while read -r verb pid; do
  case $verb in
    watch) pids="$pids$pid " ;;
    forget) case $pids in *" $pid "*) pids="${pids%%" $pid "*} ${pids#*" $pid "}" ;; esac ;;
  esac
done
for pid in $pids; do kill -s "$1" "$pid"; done
waited=0
for pid in $pids; do
  while kill -0 "$pid"; do
    case $(cat "/proc/$pid/stat" || true) in *') Z '*) break ;; esac
    if [ "$waited" -ge "$3" ]; then kill -s "$2" "$pid"; break; fi
    sleep 0.1; waited=$((waited + 1))
  done
done
if [ -n "$4" ]; then rm -rf -- "$4" || { sleep 0.5; rm -rf -- "$4"; }; fi
"#;

/// How a [`Watchdog`] ends what it watches.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// What to send first.
    pub first: Signal,
    /// What to send to those that are still there after `patience`.
    pub last: Signal,
    /// How long to wait for all of them together.
    pub patience: Duration,
}

/// Watches processes, and ends them when it is dropped or when this process ends in any way.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
    orders: Option<Mutex<ChildStdin>>,
}

impl Watchdog {
    /// Starts the shell. `folder` is removed at the end, after the processes are gone.
    pub fn start(manner: Manner, folder: Option<&Path>) -> io::Result<Self> {
        Self::spawn(manner, folder, Stdio::null())
    }

    /// The same with a file that the shell keeps open: a lock on it lasts until the processes are
    /// gone, even if we are killed.
    pub fn start_holding(manner: Manner, lock: File) -> io::Result<Self> {
        Self::spawn(manner, None, Stdio::from(lock))
    }

    fn spawn(manner: Manner, folder: Option<&Path>, stdout: Stdio) -> io::Result<Self> {
        let name = |signal: Signal| signal.as_str().trim_start_matches("SIG").to_owned();
        let tenths = manner.patience.as_millis() / 100;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(name(manner.first))
            .arg(name(manner.last))
            .arg(tenths.to_string())
            .arg(folder.unwrap_or(Path::new("")))
            // Not in our folder: it must be possible to remove it.
            .current_dir("/")
            .stdin(Stdio::piped())
            // Not ours: else whoever reads our output would wait for the shell, too.
            .stdout(stdout)
            .stderr(Stdio::null())
            // Ctrl-C in a terminal goes to the whole group of processes, and is for us alone.
            .process_group(0)
            .spawn()?;
        let orders = shell.stdin.take().map(Mutex::new);
        Ok(Self { shell, orders })
    }

    /// Watches a process from now on.
    pub fn watch(&self, pid: u32) -> io::Result<()> {
        self.order("watch", pid)
    }

    /// The process has ended: its number may soon be another's.
    pub fn forget(&self, pid: u32) -> io::Result<()> {
        self.order("forget", pid)
    }

    fn order(&self, verb: &str, pid: u32) -> io::Result<()> {
        match &self.orders {
            Some(orders) => orders
                .lock()
                .write_all(format!("{verb} {pid}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Manner = Manner {
        first: Signal::SIGTERM,
        last: Signal::SIGKILL,
        patience: Duration::from_millis(200),
    };

    fn sleeper(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn what_is_watched_ends_with_the_watchdog_and_its_folder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper("exec sleep 600");
        let watchdog = Watchdog::start(KIND, Some(folder.path())).unwrap();
        watchdog.watch(child.id()).unwrap();
        drop(watchdog);
        assert!(!child.wait().unwrap().success());
        assert!(!folder.path().exists());
    }

    #[test]
    fn a_process_that_ignores_the_first_signal_gets_the_last() {
        use std::io::Read;
        use std::os::unix::process::ExitStatusExt;
        let mut child = sleeper("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let mut ready = [0; 5];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        let watchdog = Watchdog::start(KIND, None).unwrap();
        watchdog.watch(child.id()).unwrap();
        drop(watchdog);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_lock_that_it_holds_lasts_until_the_watched_are_gone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().write(true).open(file.path()).unwrap();
        let lock = open();
        lock.lock().unwrap();
        let mut child = sleeper("exec sleep 600");
        let watchdog = Watchdog::start_holding(KIND, lock).unwrap();
        watchdog.watch(child.id()).unwrap();
        assert!(open().try_lock().is_err());
        drop(watchdog);
        open().try_lock().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_was_forgotten_lives_on() {
        let mut forgotten = sleeper("exec sleep 600");
        let mut watched = sleeper("exec sleep 600");
        let watchdog = Watchdog::start(KIND, None).unwrap();
        watchdog.watch(forgotten.id()).unwrap();
        watchdog.watch(watched.id()).unwrap();
        watchdog.forget(forgotten.id()).unwrap();
        drop(watchdog);
        assert!(!watched.wait().unwrap().success());
        assert!(forgotten.try_wait().unwrap().is_none());
        forgotten.kill().unwrap();
        forgotten.wait().unwrap();
    }
}
