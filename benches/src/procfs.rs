//! What the kernel says of a process: its memory and its processor time. Linux only.

use std::{fs, time::Duration};

use anyhow::Context;

/// The kernel counts processor time in hundredths of a second, whatever the machine.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory, in megabytes.
pub(crate) fn resident_megabytes(pid: u32) -> anyhow::Result<f64> {
    megabytes(pid, "VmRSS:")
}

/// The most resident memory that a process ever had, in megabytes. An error once it has ended.
pub(crate) fn peak_megabytes(pid: u32) -> anyhow::Result<f64> {
    megabytes(pid, "VmHWM:")
}

fn megabytes(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .context("no such figure")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1_024.0)
}

/// The processor time that a process and its children have used since they began: a Postgres has a child
/// for each connection.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let mut ticks = Stat::read(pid)?.ticks;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since it was listed.
        if let Ok(stat) = Stat::read(other)
            && stat.parent == pid
        {
            ticks += stat.ticks;
        }
    }
    Ok(TICK * ticks)
}

struct Stat {
    parent: u32,
    /// In user and kernel mode.
    ticks: u32,
}

impl Stat {
    fn read(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name stands in parentheses and may have spaces in it.
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |index: usize| -> anyhow::Result<u32> {
            let text = fields.get(index).context("stat is too short")?;
            Ok(text.parse()?)
        };
        Ok(Self {
            parent: field(1)?,
            ticks: field(11)? + field(12)?,
        })
    }
}
