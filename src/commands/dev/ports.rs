//! Which ports `dev` serves on. The site's is fixed, because people type it; the others make way.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

use super::{DevArgs, say};

/// How many ports after a busy one are tried.
const NEXT_PORTS: u16 = 50;

/// Free ports on loopback.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) api: u16,
    pub(super) metrics: u16,
    pub(super) database: u16,
    pub(super) world: u16,
}

impl Ports {
    /// What was asked for, or an error that names the option.
    pub(super) fn choose(args: &DevArgs) -> Result<Self> {
        let mut taken = Vec::new();
        let api = exactly(args.port, "--port")?;
        taken.push(api);
        let mut secondary = |asked: Option<u16>, default: u16, option: &str, what: &str| {
            let port = match asked {
                Some(port) if taken.contains(&port) => {
                    bail!("port {port} is asked for twice: give {option} another one")
                }
                Some(port) => exactly(port, option)?,
                None => next_free(default, &taken, option, what)?,
            };
            taken.push(port);
            Ok(port)
        };
        Ok(Self {
            metrics: secondary(args.metrics_port, 9091, "--metrics-port", "metrics")?,
            database: secondary(args.database_port, 5433, "--database-port", "PostgreSQL")?,
            world: secondary(args.world_port, 8090, "--world-port", "the outside world")?,
            api,
        })
    }
}

fn exactly(port: u16, option: &str) -> Result<u16> {
    if !is_free(port) {
        bail!("port {port} is in use: stop what uses it, or choose another one with {option}");
    }
    Ok(port)
}

fn next_free(default: u16, taken: &[u16], option: &str, what: &str) -> Result<u16> {
    let usable = |port: &u16| !taken.contains(port) && is_free(*port);
    let candidates = default..=default.saturating_add(NEXT_PORTS);
    let Some(port) = candidates.into_iter().find(usable) else {
        bail!("no port from {default} on is free for {what}: choose one with {option}");
    };
    if port != default {
        say(&format!("port {default} is in use: {what} on {port}"));
    }
    Ok(port)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_that_was_asked_for_is_named_with_its_option() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let said = exactly(port, "--metrics-port").unwrap_err().to_string();
        assert!(
            said.contains(&port.to_string()) && said.contains("--metrics-port"),
            "{said}"
        );
    }

    #[test]
    fn a_busy_default_makes_way_for_the_next_free_port() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        // The range may end at the last port.
        if let Ok(chosen) = next_free(port, &[], "--world-port", "the page") {
            assert!(chosen > port);
        }
    }
}
