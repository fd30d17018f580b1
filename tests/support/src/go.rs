//! Programs in Go.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::{
    run::run,
    target::{Target, workspace},
};

/// A cold build, with its downloads, on a small machine.
const BUILD: Duration = Duration::from_secs(600);

/// Builds the Go program in a folder of the workspace, and returns where it lies.
///
/// Its modules come from a module proxy, or from where Go has kept them.
///
/// # Errors
///
/// There is no Go here.
///
/// # Panics
///
/// If there is, and the program does not build.
pub async fn build_go(folder: &str) -> Result<PathBuf, &'static str> {
    build_go_with(folder, &[]).await
}

/// The same, with these build tags.
///
/// # Errors
///
/// As [`build_go`].
///
/// # Panics
///
/// As [`build_go`].
pub async fn build_go_with(folder: &str, tags: &[&str]) -> Result<PathBuf, &'static str> {
    let mut go = Command::new("go");
    if go
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .await
        .is_err()
    {
        return Err("no `go` on PATH");
    }
    // Beside what tests of other profiles build, which is the same.
    let program = Target::of_this_test()
        .root
        .join("go")
        .join(folder.replace('/', "-"));
    let mut go = Command::new("go");
    go.current_dir(workspace().join(folder));
    // Not what a `go.work` above, or somebody's settings, would make of it.
    go.env("GOWORK", "off").env("GOFLAGS", "-mod=readonly");
    go.args(["build", "-buildvcs=false", "-tags", &tags.join(","), "-o"])
        .arg(&program)
        .arg(".");
    if let Err(said) = run(&mut go, BUILD).await {
        panic!(
            "{folder} does not build (it needs a module proxy, and the Go of its go.mod):\n{said}"
        );
    }
    Ok(program)
}
