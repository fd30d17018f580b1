//! What a newcomer sees first: the example that shows all, and the pair with an etcd of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, net::TcpListener, process::Command, time::Duration};

use rustix::process::{Pid, kill_process};
use switchboard_test_support::{Example, Process, Signal, eventually};

/// How long the show may take, from its start.
const PROMISED: Duration = Duration::from_secs(20);

const SOON: Duration = Duration::from_secs(10);

/// The show, with all its processes.
struct Show {
    process: Process,
    mark: Mark,
}

/// What its processes have in their environment, and nobody else's. None of them outlives this.
struct Mark(String);

impl Show {
    /// Starts it with a mark in its environment, which its processes inherit.
    async fn start() -> Self {
        let example = Example::build("greeter").await;
        let folder = tempfile::tempdir().unwrap();
        // A name that no other test has.
        let mark = Mark(format!("FIRST_RUN={}", folder.path().display()));
        let mut command = command(&example);
        command.env("FIRST_RUN", folder.path());
        let process = Process::spawn(command);
        Self { process, mark }
    }

    async fn wait_for(&mut self, text: &str) {
        self.process
            .wait_for_line(SOON, |line| line.contains(text))
            .await;
    }
}

impl Mark {
    /// Returns the processes with it, the oldest first.
    fn processes(&self) -> Vec<Pid> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let entry = entry.unwrap();
            let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
                continue;
            };
            // Those of others cannot be read, those that have ended have none.
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            if variables.any(|it| it == self.0.as_bytes()) {
                found.extend(Pid::from_raw(pid));
            }
        }
        found.sort_by_key(|pid| pid.as_raw_nonzero());
        found
    }

    /// Waits until no process with it is left over.
    async fn is_gone(&self) {
        let nobody = async || match &*self.processes() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        };
        eventually(SOON, "no process is left over", nobody).await;
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        for pid in self.processes() {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// What runs an example whose errors are shown whole: a backtrace would fill what is kept of them.
fn command(example: &Example) -> Command {
    let mut command = Command::new(example.executable());
    command.env("RUST_BACKTRACE", "0");
    command
}

#[tokio::test]
async fn it_shows_that_no_call_fails_and_ends_in_time() {
    let show = Show::start().await;
    let exit = show.process.wait(PROMISED).await;
    assert!(exit.status.success() && exit.stderr.is_empty(), "{exit:?}");
    let mut lines = exit.lines.iter();
    for expected in [
        "finds them all",
        "server 1 is told to stop",
        "server 1 gets no more calls",
        "server 1 has ended",
        "server 1 is called again",
        "server 2 is killed",
        "server 2 gets no more calls",
        "etcd has dropped server 2",
        "server 2 is called again",
    ] {
        assert!(
            lines.any(|line| line.contains(expected)),
            "{expected}: {exit:?}"
        );
    }
    for incident in ["server 1 restarted", "server 2 killed"] {
        let cost = lines.find(|line| line.contains(incident)).unwrap();
        assert!(cost.contains("s after its start"), "{exit:?}");
    }
    // One in flight on the killed server may have failed; it is named then.
    let (calls, rest) = lines.next_back().unwrap().split_once(" calls, ").unwrap();
    assert!(calls.parse::<u64>().unwrap() > 1_000, "{exit:?}");
    let in_flight =
        rest.starts_with("0 failed, but for ") && rest.contains(" in flight on server 2");
    assert!(rest == "0 failed." || in_flight, "{exit:?}");
    show.mark.is_gone().await;
}

#[tokio::test]
async fn interrupted_it_ends_well_and_leaves_nothing() {
    let mut show = Show::start().await;
    show.wait_for("server 1 is told to stop").await;
    assert_eq!(show.mark.processes().len(), 4);
    show.process.signal(Signal::INT);
    let exit = show.process.wait(SOON).await;
    assert!(exit.status.success(), "{exit:?}");
    assert!(
        exit.lines.iter().any(|line| line.contains("stopped early")),
        "{exit:?}"
    );
    assert!(
        exit.lines.last().unwrap().ends_with("0 failed."),
        "{exit:?}"
    );
    show.mark.is_gone().await;
}

#[tokio::test]
async fn killed_it_leaves_nothing() {
    let mut show = Show::start().await;
    show.wait_for("finds them all").await;
    assert_eq!(show.mark.processes().len(), 4);
    show.process.kill();
    show.mark.is_gone().await;
}

#[tokio::test]
async fn calls_that_should_not_have_failed_show_in_its_exit() {
    let mut show = Show::start().await;
    show.wait_for("finds them all").await;
    // The youngest is the third server, which nothing is meant to befall.
    let third = *show.mark.processes().last().unwrap();
    kill_process(third, Signal::STOP).unwrap();
    show.wait_for("server 1 is told to stop").await;
    show.process.signal(Signal::INT);
    let exit = show.process.wait(SOON).await;
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    let verdict = exit.lines.last().unwrap();
    assert!(verdict.contains("failed that should not have"), "{exit:?}");
    show.mark.is_gone().await;
}

#[tokio::test]
async fn a_server_that_ends_by_itself_ends_the_show() {
    let mut show = Show::start().await;
    show.wait_for("finds them all").await;
    let third = *show.mark.processes().last().unwrap();
    kill_process(third, Signal::KILL).unwrap();
    let exit = show.process.wait(SOON).await;
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.stderr.contains("server 3 ended by itself"), "{exit:?}");
    show.mark.is_gone().await;
}

#[tokio::test]
async fn a_server_that_brings_etcd_along_is_called_like_any_other() {
    let server = Example::build("greeter_server").await;
    let client = Example::build("greeter_client").await;
    let mut first = server.spawn(["--embedded", "--etcd", "127.0.0.1:0"]);
    let line = first
        .wait_for_line(SOON, |line| line.starts_with("etcd, in memory, at "))
        .await;
    let etcd = line.rsplit(' ').next().unwrap();
    let mut second = server.spawn(["--etcd", etcd]);
    for server in [&mut first, &mut second] {
        server
            .wait_for_line(SOON, |line| line.starts_with("published"))
            .await;
    }
    let client = client.spawn(["--etcd", etcd, "--rate", "100", "--duration", "2", "--json"]);
    let exit = client.wait(SOON).await;
    assert!(exit.status.success() && exit.lines.len() == 1, "{exit:?}");
    let summary: serde_json::Value = serde_json::from_str(&exit.lines[0]).unwrap();
    assert_eq!(
        summary["servers"].as_object().unwrap().len(),
        2,
        "{summary}"
    );
    assert_eq!(summary["failed"], 0, "{summary}");

    first.signal(Signal::INT);
    let exit = first.wait(SOON).await;
    assert!(exit.status.success(), "{exit:?}");
}

#[tokio::test]
async fn a_port_that_is_taken_says_what_to_do() {
    let etcd = TcpListener::bind("127.0.0.1:0").unwrap();
    let etcd = etcd.local_addr().unwrap().to_string();
    let server = Example::build("greeter_server").await;
    let mut command = command(&server);
    command.args(["--embedded", "--etcd", &etcd]);
    let exit = Process::spawn(command).wait(SOON).await;
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    let what_to_do = format!(
        "{etcd} is taken, perhaps by an etcd: leave --embedded away to use that one, stop it, \
         or take another port with --etcd 127.0.0.1:0"
    );
    assert!(exit.stderr.contains(&what_to_do), "{exit:?}");
}
