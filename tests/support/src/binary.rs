//! Where etcd's programs come from: what is here, or else what a package registry has.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, sync::OnceCell};

use crate::{package, run::run, target::Target, version::Version};

/// One of etcd's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Etcd,
    Etcdctl,
}

impl Program {
    /// Returns the name of its executable.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
        }
    }

    /// Names the variable with the one to use. Not `SWITCHBOARD_ETCD`, which tells switchboard
    /// itself where etcd listens.
    fn setting(self) -> &'static str {
        match self {
            Self::Etcd => "SWITCHBOARD_TEST_ETCD",
            Self::Etcdctl => "SWITCHBOARD_TEST_ETCDCTL",
        }
    }

    /// Returns what makes it tell its version.
    fn version_argument(self) -> &'static str {
        match self {
            Self::Etcd => "--version",
            Self::Etcdctl => "version",
        }
    }

    /// Returns a command that runs it, with nothing but its flags for settings.
    fn command(self, path: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(path);
        // Both take settings from the environment too.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("ETCD_") || name.starts_with("ETCDCTL_") {
                command.env_remove(&*name);
            }
        }
        if self == Self::Etcd && cfg!(target_arch = "aarch64") {
            // Before 3.5, etcd refuses to run there unless told so.
            command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        command
    }
}

/// One of etcd's programs, which runs here.
#[derive(Debug)]
pub(crate) struct Binary {
    program: Program,
    path: PathBuf,
    version: Version,
}

impl Binary {
    /// Finds a program, once for the process: the one that its variable names
    /// (`$SWITCHBOARD_TEST_ETCD`), else the one on `PATH`, else the copy under the target folder,
    /// which is got first if it is not there. If there is none, the error says what to install or
    /// set.
    ///
    /// # Panics
    ///
    /// If the variable names something that does not run.
    pub(crate) async fn find(program: Program) -> Result<&'static Self, &'static str> {
        static ETCD: OnceCell<Result<Binary, String>> = OnceCell::const_new();
        static ETCDCTL: OnceCell<Result<Binary, String>> = OnceCell::const_new();

        let found = match program {
            Program::Etcd => &ETCD,
            Program::Etcdctl => &ETCDCTL,
        };
        let found = found.get_or_init(|| find(program)).await;
        found.as_ref().map_err(String::as_str)
    }

    /// Returns the path of the executable, or its name on `PATH`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a command that runs it, with nothing but its flags for settings.
    pub(crate) fn command(&self) -> std::process::Command {
        self.program.command(&self.path)
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Tries whether a program runs, by asking for its version.
    pub(crate) async fn at(program: Program, path: PathBuf) -> Result<Self, String> {
        let mut command = Command::from(program.command(&path));
        let argument = program.version_argument();
        let output = run(command.arg(argument), Duration::from_secs(30)).await?;
        let version = parse_version(&output)
            .ok_or_else(|| format!("{} {argument} says {output:?}", path.display()))?;
        Ok(Self {
            program,
            path,
            version,
        })
    }
}

async fn find(program: Program) -> Result<Binary, String> {
    let setting = program.setting();
    if let Some(path) = env::var_os(setting) {
        return match Binary::at(program, path.into()).await {
            Ok(binary) => Ok(binary),
            Err(error) => panic!("${setting} names no {} that runs: {error}", program.name()),
        };
    }
    if let Ok(binary) = Binary::at(program, program.name().into()).await {
        return Ok(binary);
    }
    let shelf = Target::of_this_test().root.join("etcd");
    if let Ok(binary) = Binary::at(program, shelf.join(program.name())).await {
        return Ok(binary);
    }
    package::get(program, &shelf).await.map_err(|failures| {
        let name = program.name();
        format!(
            "these tests need {name}: install it, so that `{name}` is on PATH, or set {setting} to its path. None could be had:\n{failures}"
        )
    })
}

/// Reads `etcd Version: 3.4.23`, or `etcdctl version: 3.4.23`, out of what a program says.
fn parse_version(output: &str) -> Option<Version> {
    let text = output.lines().find_map(|line| {
        line.strip_prefix("etcd Version: ")
            .or_else(|| line.strip_prefix("etcdctl version: "))
    })?;
    Version::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::version;

    #[test]
    fn a_version_is_read_out_of_what_a_program_says() {
        let etcd = "etcd Version: 3.4.23\nGit SHA: Not provided\nGo Version: go1.19.8\n";
        assert_eq!(parse_version(etcd), Some(version(3, 4, 23)));
        let etcdctl = "etcdctl version: 3.5.16\nAPI version: 3.5\n";
        assert_eq!(parse_version(etcdctl), Some(version(3, 5, 16)));
        assert_eq!(parse_version("command not found"), None);
    }
}
