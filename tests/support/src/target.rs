//! Where cargo put this test, and so where it puts the rest.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folders of the build that this test process is part of.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    /// The target folder itself.
    pub(crate) root: PathBuf,
    /// The triple, if cargo was told one.
    pub(crate) triple: Option<String>,
    /// The profile, by the name that `--profile` takes.
    pub(crate) profile: String,
}

impl Target {
    /// Finds the folders from the running executable, which lies in
    /// `<root>/[<triple>/]<profile>/deps`. A doctest's lies elsewhere: it gets the usual ones.
    pub(crate) fn of_this_test() -> Self {
        let executable = env::current_exe().expect("a process knows its executable");
        Self::of(&executable).unwrap_or_else(|| Self {
            root: workspace().join("target"),
            triple: None,
            profile: "dev".to_owned(),
        })
    }

    /// Returns where the executable of an example lies.
    pub(crate) fn example(&self, name: &str) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(&self.triple);
        path.push(match &*self.profile {
            "dev" => "debug",
            profile => profile,
        });
        path.join("examples")
            .join(name)
            .with_extension(env::consts::EXE_EXTENSION)
    }

    fn of(executable: &Path) -> Option<Self> {
        let deps = executable.parent().filter(|deps| deps.ends_with("deps"))?;
        let profile = deps.parent()?;
        let above = profile.parent()?;
        // The host's architecture: what is built for another one is not run here.
        let triple = name(above)
            .filter(|name| name.starts_with(&format!("{}-", env::consts::ARCH)))
            .map(str::to_owned);
        let root = if triple.is_some() {
            above.parent()?
        } else {
            above
        };
        let profile = match name(profile)? {
            "debug" => "dev",
            profile => profile,
        };
        Some(Self {
            root: root.to_owned(),
            triple,
            profile: profile.to_owned(),
        })
    }
}

/// Returns the workspace's folder.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().nth(2);
    workspace
        .expect("this crate lies in tests/support")
        .to_owned()
}

fn name(folder: &Path) -> Option<&str> {
    folder.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_triple_and_folder_show_in_the_path_of_a_test() {
        let arch = env::consts::ARCH;
        let triple = format!("{arch}-unknown-linux-gnu");
        for (path, triple, profile, example) in [
            ("/t/debug/deps/x-1", None, "dev", "/t/debug/examples/e"),
            (
                "/t/release/deps/x-1",
                None,
                "release",
                "/t/release/examples/e",
            ),
            (
                &format!("/t/{triple}/debug/deps/x-1"),
                Some(triple.clone()),
                "dev",
                &format!("/t/{triple}/debug/examples/e"),
            ),
        ] {
            let target = Target::of(Path::new(path)).unwrap();
            let expected = Target {
                root: "/t".into(),
                triple,
                profile: profile.to_owned(),
            };
            assert_eq!(target, expected);
            let example = Path::new(example).with_extension(env::consts::EXE_EXTENSION);
            assert_eq!(target.example("e"), example);
        }
    }

    #[test]
    fn a_doctest_gets_the_usual_folders() {
        assert_eq!(Target::of(Path::new("/rustdoctest1/rust_out")), None);
    }
}
