//! `fly.toml`, `Procfile` and `Dockerfile` name sub-commands, ports and times of the binary, and no
//! compiler reads them: a renamed sub-command would be noticed by the first deployment that fails.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use api::ApiConfig;
use serde::Deserialize;
use store::settings::Settings;

/// What a process group of `fly.toml` runs, and who may reach it.
#[derive(Debug, Deserialize)]
struct Fly {
    kill_signal: String,
    kill_timeout: String,
    deploy: Deploy,
    env: BTreeMap<String, String>,
    processes: toml::Table,
    http_service: HttpService,
    metrics: Metrics,
    restart: Vec<Restart>,
}

#[derive(Debug, Deserialize)]
struct Deploy {
    release_command: String,
}

#[derive(Debug, Deserialize)]
struct HttpService {
    processes: Vec<String>,
    internal_port: u16,
    auto_stop_machines: String,
    auto_start_machines: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
    path: String,
}

#[derive(Debug, Deserialize)]
struct Metrics {
    port: u16,
    path: String,
    processes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Restart {
    policy: String,
    processes: Vec<String>,
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fly() -> Fly {
    toml::from_str(&file("fly.toml")).expect("fly.toml has the form that this test knows")
}

/// The processes of the split topology, which stand in `fly.toml` as comments.
fn split_topology() -> toml::Table {
    let lines: Vec<String> = file("fly.toml")
        .lines()
        .skip_while(|line| *line != "[processes]")
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.contains(" = \""))
        .map(str::to_owned)
        .collect();
    toml::from_str(&lines.join("\n")).expect("the comments in [processes] are TOML")
}

/// The value of the last `instruction` of the Dockerfile, which is the one that counts.
fn docker(instruction: &str) -> String {
    file("Dockerfile")
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("the Dockerfile has no {instruction}"))
        .to_owned()
}

fn docker_words(instruction: &str) -> Vec<String> {
    serde_json::from_str(&docker(instruction)).expect("the exec form: a JSON array of strings")
}

/// The commands of the Procfile, without the binary's name.
fn procfile() -> Vec<(String, String)> {
    file("Procfile")
        .lines()
        .map(|line| {
            let (name, command) = line.split_once(": ").expect("`name: command`");
            let arguments = command
                .strip_prefix("growth-chat ")
                .expect("every process is a sub-command of the one binary");
            (name.to_owned(), arguments.to_owned())
        })
        .collect()
}

/// Whether the binary has this sub-command and takes these flags.
fn is_understood(arguments: &str) -> bool {
    Command::new(env!("CARGO_BIN_EXE_growth-chat"))
        .args(arguments.split_whitespace())
        .arg("--help")
        .env_clear()
        .output()
        .expect("the binary starts")
        .status
        .success()
}

/// `5m`, `30s` or a plain number of seconds, as Fly writes a time.
fn fly_time(text: &str) -> Duration {
    let (number, unit) = match (text.strip_suffix('m'), text.strip_suffix('s')) {
        (Some(minutes), _) => (minutes, 60),
        (_, Some(seconds)) => (seconds, 1),
        _ => (text, 1),
    };
    Duration::from_secs(number.parse::<u64>().expect("whole seconds or minutes") * unit)
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.parse().expect("whole seconds"))
}

#[test]
fn every_command_that_a_platform_starts_exists() {
    let fly = fly();
    let mut commands = vec![("fly.toml: release".to_owned(), fly.deploy.release_command)];
    for (group, command) in fly.processes.into_iter().chain(split_topology()) {
        let command = command.as_str().expect("a command line").to_owned();
        commands.push((format!("fly.toml: {group}"), command));
    }
    for (name, command) in procfile() {
        commands.push((format!("Procfile: {name}"), command));
    }
    commands.push(("Dockerfile: CMD".to_owned(), docker_words("CMD").join(" ")));

    assert_eq!(commands.len(), 1 + 3 + 3 + 1, "{commands:?}");
    for (place, command) in commands {
        assert!(is_understood(&command), "{place} starts `{command}`");
    }
    assert!(
        !is_understood("serve-everything"),
        "an unknown sub-command must not pass"
    );
}

#[test]
fn the_image_starts_the_one_binary() {
    assert_eq!(docker_words("ENTRYPOINT"), ["growth-chat"]);
    assert_ne!(docker("USER"), "root");
}

/// The API's configuration with these variables and the ones that have no default.
fn api_config(variables: BTreeMap<String, String>) -> ApiConfig {
    let required = [
        ("WIDGET_TOKENS", "key"),
        ("ALLOWED_ORIGIN", "https://www.example.com"),
        ("EDGE_SECRET", "what-the-edge-shows"),
    ];
    let required = required.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut settings = Settings::new(variables.into_iter().chain(required));
    let config = ApiConfig::read(&mut settings);
    settings.finish(config).unwrap()
}

#[test]
fn the_platforms_agree_with_the_binary_about_the_ports() {
    let default = api_config(BTreeMap::new());
    let fly = fly();
    let on_fly = api_config(fly.env);
    assert_eq!(fly.http_service.internal_port, on_fly.port);
    assert_eq!(fly.metrics.port, on_fly.metrics_port);
    // The image sets neither.
    let exposed = format!("{} {}", default.port, default.metrics_port);
    assert_eq!(docker("EXPOSE"), exposed);
}

#[test]
fn the_sample_prometheus_asks_where_the_metrics_are_served() {
    let port = format!(":{}", api_config(BTreeMap::new()).metrics_port);
    let sample = file("ops/prometheus/prometheus.yml");
    let jobs: Vec<&str> = sample
        .split("- job_name: ")
        .skip(1)
        .filter(|job| job.starts_with("growth-chat-"))
        .collect();
    assert_eq!(jobs.len(), 2, "the API's and the worker's");
    for job in jobs {
        let targets = job.lines().find(|line| line.contains("- targets: "));
        let targets = targets.expect("addresses").matches('"').count() / 2;
        assert_eq!(job.matches(&port).count(), targets, "{job}");
        // By default Prometheus asks for /metrics.
        assert!(!job.lines().any(|line| line.starts_with("    metrics_path")));
    }
}

#[test]
fn health_and_metrics_are_asked_at_the_documented_paths() {
    let fly = fly();
    let paths: Vec<&str> = fly
        .http_service
        .checks
        .iter()
        .map(|check| check.path.as_str())
        .collect();
    // Not /ready: it asks the database, and a probe every 30 s would keep that awake.
    assert_eq!(paths, ["/health"]);
    let contract: serde_json::Value = serde_json::from_str(&api::openapi()).unwrap();
    assert!(contract["paths"]["/health"]["get"].is_object());
    assert_eq!(fly.metrics.path, "/metrics");
}

#[test]
fn a_machine_is_killed_only_after_it_had_time_to_drain() {
    let fly = fly();
    assert!(fly_time(&fly.kill_timeout) > seconds(&fly.env["SHUTDOWN_DRAIN_SECONDS"]));
    // The default of Fly is SIGINT; both are handled alike, but the image and the platform should
    // not differ.
    assert_eq!(fly.kill_signal, "SIGTERM");
    assert_eq!(docker("STOPSIGNAL"), "SIGTERM");
}

#[test]
fn nobody_but_the_process_decides_that_it_ends_well() {
    let fly = fly();
    assert_eq!(fly.http_service.auto_stop_machines, "off");
    assert!(fly.http_service.auto_start_machines);
    // Its decision: not before it has had nothing to do for some minutes.
    assert!(seconds(&fly.env["IDLE_SHUTDOWN_SECONDS"]) >= Duration::from_mins(5));
    let policies: Vec<&str> = fly
        .restart
        .iter()
        .map(|restart| restart.policy.as_str())
        .collect();
    assert_eq!(policies, ["on-failure"]);
}

#[test]
fn every_process_group_that_is_named_has_a_command() {
    let fly = fly();
    let named = fly
        .http_service
        .processes
        .iter()
        .chain(&fly.metrics.processes)
        .chain(fly.restart.iter().flat_map(|restart| &restart.processes));
    for group in named {
        assert!(
            fly.processes.contains_key(group),
            "no process group {group}"
        );
    }
}
