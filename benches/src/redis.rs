//! The same stream through Redis instead of Postgres: what it is compared with.
//!
//! ```text
//! model ──▶ writer ── XADD …, PUBLISH ──▶ Redis ──▶ reader ── XREAD ──▶ clients
//! ```
//! The relay does what `worker` and `api` do with a turn's frames, and nothing else of theirs: no turns,
//! no queue, no fence, no transcript. As in ours, one writer sends what piled up while the last batch
//! was under way, and one reader asks for all the streams that it was told of.

pub(crate) mod relay;

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sandbox::{
    postgres::Places,
    process::{Process, Program},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::system::System;

/// The server and what it is linked with, as Debian packages them.
const PACKAGES: [&str; 5] = [
    "redis-server",
    "redis-tools",
    "libatomic1",
    "libjemalloc2",
    "liblzf1",
];
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A private server. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Redis {
    url: String,
    pub(crate) process: Process,
    _folder: TempDir,
}

impl Redis {
    /// Starts the installed server, or Debian's. An error says why there is none.
    pub(crate) async fn start(system: &System) -> anyhow::Result<Self> {
        let installation = Installation::find()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let folder = TempDir::new()?;
        let port_text = port.to_string();
        // The append-only file, which is off as shipped, is what makes a stream survive the server;
        // its fsync stays as shipped, once a second. Snapshots would only disturb.
        let options = [
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
            "--dir",
        ];
        let mut arguments: Vec<_> = options.iter().map(Into::into).collect();
        arguments.push(folder.path().into());
        let process = system.start_program(&Program {
            name: "redis".to_owned(),
            executable: installation.server,
            arguments,
            environment: installation
                .libraries
                .map(|libraries| ("LD_LIBRARY_PATH".to_owned(), libraries))
                .into_iter()
                .collect(),
            without: Vec::new(),
        })?;
        let redis = Self {
            url: format!("redis://127.0.0.1:{port}/"),
            process,
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = redis.client()?.get_multiplexed_async_connection().await {
            ensure!(
                Instant::now() < deadline,
                "redis-server does not answer ({error}): {}",
                redis.process.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
        Ok(redis)
    }

    fn client(&self) -> anyhow::Result<redis::Client> {
        Ok(redis::Client::open(self.url.as_str())?)
    }
}

struct Installation {
    server: PathBuf,
    /// Where the libraries are that the system lacks.
    libraries: Option<String>,
}

impl Installation {
    fn find() -> anyhow::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a benchmark looks for what it runs"
        )]
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = env::split_paths(&path).map(|folder| folder.join("redis-server"));
        if let Some(server) = installed.into_iter().find(|server| server.is_file()) {
            return Ok(Self {
                server,
                libraries: None,
            });
        }
        let cache = Places::from_environment()
            .cache
            .context("there is no cache folder: set GROWTH_CHAT_CACHE")?;
        Self::download(&cache.join("redis-debian"))
    }

    /// Debian's packages, unpacked and not installed.
    fn download(folder: &Path) -> anyhow::Result<Self> {
        let root = folder.join("root");
        let server = root.join("usr/bin/redis-server");
        if !server.exists() {
            fs::create_dir_all(&root)?;
            output(
                Command::new("apt-get")
                    .current_dir(folder)
                    .arg("download")
                    .args(PACKAGES),
            )?;
            for entry in fs::read_dir(folder)? {
                let package = entry?.path();
                if package.extension().is_some_and(|end| end == "deb") {
                    output(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
                }
            }
        }
        let folders = fs::read_dir(root.join("usr/lib"))?;
        let mut libraries = Vec::new();
        for entry in folders {
            let path = entry?.path();
            libraries.push(path.to_str().context("an odd folder name")?.to_owned());
        }
        Ok(Self {
            server,
            libraries: Some(libraries.join(":")),
        })
    }
}

fn output(command: &mut Command) -> anyhow::Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("{} did not run", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}
