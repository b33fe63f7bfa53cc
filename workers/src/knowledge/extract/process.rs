//! A reader as a process of its own, seen from outside.

use std::{path::Path, process::Stdio};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{ExtractError, Extracted, Input, MAX_TEXT_BYTES, TIME_LIMIT};

/// What a reader may answer: JSON makes at most six bytes of one, and the links are there as well.
const ANSWER_LIMIT: usize = 8 * MAX_TEXT_BYTES;

/// Has a new process of `program` read a document. The process ends with this call, however it ends.
pub(super) async fn extract(
    program: &Path,
    input: &Input,
    bytes: &[u8],
) -> Result<Extracted, ExtractError> {
    let mut command = Command::new(program);
    command.args(["extract", input.foreign.as_str()]);
    if let Some(charset) = &input.charset {
        command.arg(format!("--charset={charset}"));
    }
    if let Some(base) = &input.base {
        command.arg(format!("--base={base}"));
    }
    let mut child = command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What a crash says may quote the document.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|_| ExtractError::NoProcess)?;
    match timeout(TIME_LIMIT, converse(&mut child, bytes)).await {
        Ok(result) => result,
        Err(_) => Err(ExtractError::TooSlow),
    }
}

async fn converse(child: &mut Child, bytes: &[u8]) -> Result<Extracted, ExtractError> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ExtractError::NoProcess);
    };
    let write = async {
        // A process that ends early does not read everything; its answer tells why.
        let _ = stdin.write_all(bytes).await;
        drop(stdin);
    };
    let read = async {
        let mut answer = Vec::new();
        let limit = u64::try_from(ANSWER_LIMIT).unwrap_or(u64::MAX);
        let read = stdout.take(limit).read_to_end(&mut answer).await;
        read.map(|_| answer)
    };
    let ((), answer) = tokio::join!(write, read);
    let answer = answer.map_err(|_| ExtractError::Crashed)?;
    if answer.len() >= ANSWER_LIMIT {
        return Err(ExtractError::TooMuchText);
    }
    let status = child.wait().await.map_err(|_| ExtractError::Crashed)?;
    if !status.success() {
        return Err(ExtractError::Crashed);
    }
    let line = answer
        .trim_ascii_end()
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    serde_json::from_slice(line).unwrap_or(Err(ExtractError::Crashed))
}
