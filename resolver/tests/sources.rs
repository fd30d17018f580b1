//! What a channel promises that finds its servers in a file, or by one source or else another.

mod support;

use std::time::Duration;

use support::{
    zone::{Answer, Zone},
    *,
};
use switchboard_resolver::{Fixed, Source, SourceState, Update, WatchedFile};
use tokio::time::Instant;

const ONE: &str = "10.0.0.1:80";
const TWO: &str = "10.0.0.2:80";

/// A file in a folder of its own.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scene = Self { folder };
        scene.write(text);
        scene
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("servers.json")
    }

    fn write(&self, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(), bytes).expect("a file of ours");
    }

    fn remove(&self) {
        let path = self.path();
        match path.is_dir() {
            true => std::fs::remove_dir(path).expect("a file of ours"),
            false => std::fs::remove_file(path).expect("a file of ours"),
        }
    }

    fn source(&self) -> WatchedFile {
        WatchedFile::new(self.path())
    }
}

#[tokio::test(start_paused = true)]
async fn c72_what_a_file_lists_is_called_and_its_changes_are_seen_within_a_second() {
    let network = Network::serving(&[ONE, TWO]);
    let scene = Scene::with(&format!("[\"{ONE}\"]"));
    let channel = builder(&network, scene.source()).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    let start = Instant::now();
    scene.write(format!(
        r#"["{ONE}", {{"addresses": ["{TWO}"], "metadata": {{"zone": "a"}}}}]"#
    ));
    until_ready(&channel, &[ONE, TWO]).await;
    assert!(start.elapsed() <= Duration::from_secs(1));
    let state = channel.state();
    assert_eq!(state.endpoints[1].metadata["zone"], "a");

    // Another file takes its place, as editors and scripts have it.
    let new = scene.folder.path().join("new");
    std::fs::write(&new, format!("[\"{TWO}\"]")).unwrap();
    std::fs::rename(new, scene.path()).unwrap();
    until_ready(&channel, &[TWO]).await;

    scene.write("[]");
    until_ready(&channel, &[]).await;
    assert_eq!(channel.state().source, SourceState::Fresh);
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn c72_a_config_map_that_is_swapped_is_seen() {
    use std::os::unix::fs::symlink;

    let network = Network::serving(&[ONE, TWO]);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // As kubelet writes them: the file is a link through a link to a folder.
    let publish = |version: &str, address: &str| {
        std::fs::create_dir(at(version)).unwrap();
        let file = at(version).join("servers.json");
        std::fs::write(file, format!("[\"{address}\"]")).unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("..1", ONE);
    symlink("..data/servers.json", at("servers.json")).unwrap();
    let source = WatchedFile::new(at("servers.json"));
    let channel = builder(&network, source).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    publish("..2", TWO);
    std::fs::remove_dir_all(at("..1")).unwrap();
    until_ready(&channel, &[TWO]).await;
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn c72_a_file_that_cannot_be_read_as_a_list_says_so_and_leaves_the_last_good_one_in_use() {
    let network = Network::serving(&[ONE]);
    let good = format!("[\"{ONE}\", \"{ONE}\"]");
    let scene = Scene::with(&good);
    let source = scene.source().max_bytes(1_000);
    let channel = builder(&network, source).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    type Harm<'a> = &'a dyn Fn();
    let harms: [(&str, Harm<'_>); 8] = [
        ("the file cannot be read: No such file", &|| scene.remove()),
        ("the file is empty (expected: a list", &|| scene.write("")),
        ("the file is not JSON: EOF while parsing", &|| {
            scene.write(&good[..good.len() - 1]);
        }),
        ("the file is not UTF-8: invalid utf-8", &|| {
            scene.write(b"[\"\xff\"]");
        }),
        ("endpoint 1: invalid address", &|| scene.write("[\"x\"]")),
        (
            "the file is too large (expected: 1000 bytes at most)",
            &|| {
                scene.write(" ".repeat(1_001));
            },
        ),
        ("not a file (expected: a regular file", &|| {
            scene.remove();
            std::fs::create_dir(scene.path()).unwrap();
        }),
        // Which nobody writes to, so that who opens it waits for ever.
        ("not a file (expected: a regular file", &|| {
            scene.remove();
            let mut mkfifo = std::process::Command::new("mkfifo");
            assert!(mkfifo.arg(scene.path()).status().unwrap().success());
        }),
    ];
    for (expected, harm) in harms {
        harm();
        let trouble = trouble(&channel).await;
        assert!(
            trouble.starts_with(&format!("stale: {expected}")),
            "{trouble}"
        );
        assert_eq!(shares(&channel, 3).await, [(ONE.to_owned(), 3)].into());
        if scene.path().exists() {
            scene.remove();
        }
        scene.write(&good);
        until_fresh(&channel).await;
    }
    assert_eq!(network.dials(ONE).len(), 1, "the connection was kept");
}

#[tokio::test(start_paused = true)]
async fn c73_the_second_source_is_used_at_once_while_the_first_has_failed() {
    let network = Network::serving(&[ONE, TWO]);
    let scene = Scene::with("[]");
    scene.remove();
    let zone = Zone::with(&[ONE]);
    let source = scene.source().or_else(zone.dns());
    let channel = builder(&network, source).connect_lazy().unwrap();
    let start = Instant::now();
    until_ready(&channel, &[ONE]).await;
    assert_took(start, Duration::ZERO);

    // What is told is how the one in use is, and which it is.
    zone.answer(Answer::Refused);
    assert_eq!(
        trouble(&channel).await,
        "stale: the second source: cannot look up greeter.example:80: no such host"
    );
    scene.write(format!("[\"{TWO}\"]"));
    until_ready(&channel, &[TWO]).await;
    assert_eq!(channel.state().source, SourceState::Fresh);

    // Once it has endpoints, they stay.
    zone.set(&[ONE]);
    scene.remove();
    let trouble = trouble(&channel).await;
    let expected = "stale: the first source: the file cannot be read: ";
    assert!(trouble.starts_with(expected), "{trouble}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(served_by(&channel).await, TWO);

    // Unless it says that there are none.
    scene.write("[]");
    until_ready(&channel, &[ONE]).await;
    assert_eq!(channel.state().source, SourceState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn c73_a_first_source_that_says_nothing_is_waited_for_as_long_as_one_is_patient() {
    let network = Network::serving(&[ONE, TWO]);
    let (said, first) = source();
    let second = Fixed::new([TWO]).unwrap();
    let source = first.or_else(second).patience(Duration::from_secs(3));
    let channel = builder(&network, source).connect_lazy().unwrap();
    let start = Instant::now();
    assert_eq!(served_by(&channel).await, TWO);
    assert_took(start, Duration::from_secs(3));
    said.snapshot(&[ONE]);
    until_ready(&channel, &[ONE]).await;
}

#[tokio::test(start_paused = true)]
async fn c73_if_both_fail_calls_fail_with_both_causes() {
    let (said, first) = source();
    let source = first.or_else(Zone::default().dns());
    let channel = builder(&Network::new(), source).connect_lazy().unwrap();
    said.failed("etcd is away");
    assert_eq!(
        trouble(&channel).await,
        "failed: the first source: etcd is away; the second source: cannot look up \
         greeter.example:80: no such host"
    );
    drop(said);
    let status = call(&channel).await.unwrap_err();
    assert!(status.message().contains("etcd is away"), "{status}");
}

// Its clock goes on: a paused one would wait for a pause.
#[tokio::test]
async fn c73_a_source_that_never_pauses_leaves_the_other_its_turn() {
    let network = Network::serving(&[ONE]);
    let restless = futures::stream::repeat_with(|| Update::Failed {
        cause: cause("never mind"),
    });
    let source = restless.or_else(Fixed::new([ONE]).unwrap());
    let channel = builder(&network, source).connect_lazy().unwrap();
    within(Duration::from_secs(10), until_ready(&channel, &[ONE])).await;
    within(SOON, channel.close()).await;
}
