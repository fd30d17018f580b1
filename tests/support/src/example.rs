//! The root package's examples, built and run as users run them.

use std::{
    collections::HashSet,
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::sync::Mutex;

use crate::{
    Process,
    target::{Target, workspace},
};

/// An example of the root package, built.
#[derive(Debug, Clone)]
pub struct Example {
    executable: PathBuf,
}

impl Example {
    /// Builds an example, in the profile of the tests, unless it is built already.
    ///
    /// # Panics
    ///
    /// If it does not build, with the compiler's words.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the build; the next call takes it up again.
    pub async fn build(name: &str) -> Self {
        Self::build_with(name, &[]).await
    }

    /// The same, of one that needs these features.
    ///
    /// # Panics
    ///
    /// As [`build`](Self::build).
    ///
    /// # Cancel safety
    ///
    /// As [`build`](Self::build).
    pub async fn build_with(name: &str, features: &[&str]) -> Self {
        // `cargo test` builds examples, `cargo test --test` does not; to ask cargo takes a moment,
        // so it is asked once.
        static BUILT: Mutex<Option<HashSet<String>>> = Mutex::const_new(None);

        let target = Target::of_this_test();
        let mut built = BUILT.lock().await;
        let built = built.get_or_insert_default();
        if !built.contains(name) {
            build(name, features, &target).await;
            built.insert(name.to_owned());
        }
        Self {
            executable: target.example(name),
        }
    }

    /// Returns where the example's executable lies.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// Runs the example with the given arguments.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or outside a tokio runtime.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Process {
        let mut command = Command::new(&self.executable);
        command.args(arguments);
        Process::spawn(command)
    }
}

async fn build(name: &str, features: &[&str], target: &Target) {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = tokio::process::Command::new(cargo);
    // In the workspace's folder, as `cargo test` itself: the same packages, thus the same features
    // of what they share, and nothing to build twice.
    command.current_dir(workspace()).kill_on_drop(true);
    // What cargo tells the test of its package is nothing to the build: build scripts that look at
    // it would have half of the dependencies built again, now and at the next command.
    for (name, _) in env::vars_os() {
        let told = name.to_str().unwrap_or_default();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command.args([
        "build",
        "--quiet",
        "--example",
        name,
        "--profile",
        &target.profile,
    ]);
    command.arg("--target-dir").arg(&target.root);
    for feature in features {
        command.args(["--features", feature]);
    }
    if let Some(triple) = &target.triple {
        command.args(["--target", triple]);
    }
    let output = command.output().await.expect("cargo can be started");
    assert!(
        output.status.success(),
        "the example {name} does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
