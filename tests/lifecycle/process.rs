//! A process of a role with an environment of its own.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// A machine under load is slow; a test that waits longer waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a role to its end, in an environment of these variables only.
pub(super) async fn run(role: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_growth-chat"));
    command
        .args(role.split_whitespace())
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(PATIENCE, command.output())
        .await
        .expect("the process does not end")
        .unwrap()
}

/// What a process said to the person who started it.
pub(super) fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
