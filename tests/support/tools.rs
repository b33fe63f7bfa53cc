//! Programs that a test needs and a machine may lack.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::OnceCell,
    task::spawn_blocking,
    time::timeout,
};

/// Where `.ci/run` reads what was skipped.
const SKIPPED_LOG: &str = "GROWTH_CHAT_SKIPPED_LOG";
/// A package registry may be slow.
const INSTALL_PATIENCE: Duration = Duration::from_mins(3);
/// A script of a client; a browser's is made of many steps.
const SCRIPT_PATIENCE: Duration = Duration::from_mins(2);

/// Says that a test can't run here. It counts as skipped, not as passed.
pub(crate) fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
    if let Some(path) = env::var_os(SKIPPED_LOG) {
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        // One write: tests skip at the same time.
        log.write_all(format!("{test}: {reason}\n").as_bytes())
            .unwrap();
    }
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The scripts in `tests/clients`, with the packages they need.
#[derive(Debug)]
pub(crate) struct Clients {
    folder: PathBuf,
}

impl Clients {
    /// Installs the packages, once in a run; why not, if node or npm is missing.
    pub(crate) async fn installed() -> Result<Self, String> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        for program in ["node", "npm"] {
            if find(program).is_none() {
                return Err(format!("{program} is not installed"));
            }
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        INSTALLED.get_or_init(|| install(&folder)).await;
        Ok(Self { folder })
    }

    /// Starts a script.
    pub(crate) fn start(&self, script: &str, variables: &[(&str, &str)]) -> Script {
        let mut child = node(&self.folder, script)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Script {
            name: script.to_owned(),
            output: output.lines(),
            child,
        }
    }
}

/// A script that runs. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Script {
    name: String,
    output: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Script {
    /// Waits until it prints this line.
    pub(crate) async fn printed(&mut self, line: &str) {
        let name = self.name.clone();
        let printed = async {
            while let Some(found) = self.output.next_line().await.unwrap() {
                if found == line {
                    return;
                }
            }
            panic!("{name} ended without {line}: {}", self.complaint().await);
        };
        let waited = timeout(SCRIPT_PATIENCE, printed).await;
        waited.unwrap_or_else(|_| panic!("{name} does not print {line}"));
    }

    /// Waits for its end, which must be a success, and gives the last line that it printed.
    pub(crate) async fn succeeded(mut self) -> Value {
        let name = self.name.clone();
        let end = async {
            let mut last = String::new();
            while let Some(line) = self.output.next_line().await.unwrap() {
                last = line;
            }
            (last, self.complaint().await, self.child.wait().await)
        };
        let ended = timeout(SCRIPT_PATIENCE, end).await;
        let (last, complaint, status) = ended.unwrap_or_else(|_| panic!("{name} does not end"));
        assert!(status.unwrap().success(), "{name}: {complaint}");
        let result: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(result["ok"], true, "{name}: {last}");
        result
    }

    /// What it says about its failure. Its output has ended.
    async fn complaint(&mut self) -> String {
        let mut complaint = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            stderr.read_to_string(&mut complaint).await.unwrap();
        }
        complaint
    }
}

fn node(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .args(["run.mjs", script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// `npm ci`, unless these very packages are there, and the node that the newest of them needs.
async fn install(folder: &Path) {
    // Two runs may share the checkout.
    let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients.lock");
    let lock = File::create(lock).unwrap();
    let lock = spawn_blocking(move || lock.lock().map(|()| lock));
    let _lock = lock.await.unwrap().unwrap();
    let wanted = fs::read(folder.join("package-lock.json")).unwrap();
    let stamp = folder.join("node_modules/installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return;
    }
    let mut npm = Command::new("npm");
    npm.arg("ci").current_dir(folder).stdin(Stdio::null());
    to_the_end(npm).await;
    let mut prepare = node(folder, "prepare");
    prepare.env("AI_MAJOR", "7");
    to_the_end(prepare).await;
    fs::write(stamp, wanted).unwrap();
}

async fn to_the_end(mut command: Command) {
    let output = timeout(INSTALL_PATIENCE, command.output()).await;
    let output = output.expect("the packages are not here yet").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
