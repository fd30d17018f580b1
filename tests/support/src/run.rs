//! Running a command to its end.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// Runs a command to its end, without input, and returns what it writes to standard output; one that
/// fails, or takes longer than `limit`, is told with the end of what it said.
pub(crate) async fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    run_with_input(command, Stdio::null(), limit).await
}

/// Runs a command that reads `input`; see [`run`].
pub(crate) async fn run_with_input(
    command: &mut Command,
    input: Stdio,
    limit: Duration,
) -> Result<String, String> {
    let program = command.as_std().get_program().display().to_string();
    command.stdin(input).kill_on_drop(true);
    let output = match timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("{program}: {error}")),
        Err(_) => return Err(format!("{program} took longer than {limit:?}")),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(said.into_owned());
    }
    let said = said + String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let end = lines[lines.len().saturating_sub(10)..].join("\n    ");
    Err(format!("{program}: {}\n    {end}", output.status))
}
