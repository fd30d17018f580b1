//! A child process that never outlives its owner.

use std::{
    fs, io,
    path::Path,
    process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

/// A child process, killed and reaped when this is dropped.
///
/// The kernel drops nothing when the test process itself is killed, so a watchdog guards each
/// child: a shell that reads from a pipe which only the test process can write to, and kills the
/// child when the pipe closes.
#[derive(Debug)]
pub(crate) struct Child {
    child: std::process::Child,
    watchdog: std::process::Child,
}

impl Child {
    /// Starts `command`, without input.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        Self::start(command.stdin(Stdio::null()))
    }

    /// Starts `command` with the input that it was given.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", r#"read -r _; kill -KILL "$1""#, "watchdog"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { child, watchdog }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Returns what reads the child's output; `None` if it was not piped, or taken already.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Returns what writes the child's input; `None` if it was not piped, or taken already.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns how the child ended; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal. Where that is `STOP`, the child stands still when this returns; the kernel
    /// stops a process of many threads one by one, and the last may answer a call after the
    /// signal was sent.
    ///
    /// # Panics
    ///
    /// If the child has ended: its id may be another process's by now.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if let Some(status) = self.ended() {
            panic!("{signal:?} cannot be sent: the process has ended with {status}");
        }
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
        if signal == Signal::STOP {
            while !self.is_stopped() && self.ended().is_none() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn is_stopped(&self) -> bool {
        // Looks, and leaves the state to be seen again.
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(&self.child)), look);
        matches!(status, Ok(Some(status)) if status.stopped())
    }

    /// Kills the child, frozen or not, and returns how it ended, which may have been earlier and
    /// otherwise.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        end(&mut self.child)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // In this order, so that there is no moment at which nobody would kill the child.
        end(&mut self.child);
        end(&mut self.watchdog);
    }
}

fn end(child: &mut std::process::Child) -> ExitStatus {
    // What has ended cannot be killed, and need not be.
    let _ = child.kill();
    child.wait().expect("a child can be waited for")
}

/// Returns the last lines of a file, for people to read.
pub(crate) fn tail(file: &Path) -> String {
    const LINES: usize = 30;
    let text = match fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("({}: {error})", file.display()),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;

    use super::*;
    use crate::eventually;

    #[test]
    fn a_dropped_child_is_gone() {
        let child = Child::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = Pid::from_child(&child.child);
        drop(child);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }

    #[tokio::test]
    async fn a_child_does_not_outlive_a_parent_that_was_killed() {
        // The watchdog's pipe is closed here as the kernel closes it when a process is killed.
        let mut command = Command::new("sleep");
        let mut child = Child::spawn(command.arg("600")).unwrap();
        drop(child.watchdog.stdin.take());
        eventually(Duration::from_secs(10), "the child is killed", async || {
            child.ended().ok_or("it runs")
        })
        .await;
    }

    #[test]
    fn a_child_stands_still_until_it_may_go_on() {
        let mut child = Child::spawn(Command::new("sleep").arg("600")).unwrap();
        for _ in 0..100 {
            child.signal(Signal::STOP);
            child.signal(Signal::STOP);
            assert!(child.is_stopped());
            child.signal(Signal::CONT);
            assert!(!child.is_stopped());
        }
    }

    #[test]
    fn a_signal_reaches_the_child() {
        let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
        let mut command = Command::new("sh");
        let mut child = Child::spawn(command.args(["-c", script]).stdout(Stdio::piped())).unwrap();
        let mut lines = io::BufReader::new(child.take_stdout().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        child.signal(Signal::TERM);
        assert_eq!(lines.next().unwrap().unwrap(), "caught");
        assert_eq!(child.child.wait().unwrap().code(), Some(3));
    }
}
