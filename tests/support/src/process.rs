//! A program under test, as a process of its own.

use std::{
    io::Write,
    process::{ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    child::{Child, tail},
    eventually,
};

/// A running program: its output line by line, signals to it, and how it ends. It is killed when
/// this is dropped.
///
/// Its output is read as it comes, so that it never waits for a test to read; what it writes to
/// standard error is kept, and shown when something fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// If it has an input.
    input: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
    // Ends with the process's output, or with this value.
    _reader: JoinSet<()>,
    folder: TempDir,
}

/// How a [`Process`] ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exit {
    /// What it returned, or the signal that ended it.
    pub status: ExitStatus,
    /// The lines of its output that nobody had read before.
    pub lines: Vec<String>,
    /// The end of what it wrote to standard error.
    pub stderr: String,
}

impl Process {
    /// Starts a program, without input.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or outside a tokio runtime.
    pub fn spawn(command: Command) -> Self {
        Self::start(command, Stdio::null())
    }

    /// Starts a program that reads what [`write_line`](Self::write_line) writes.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or outside a tokio runtime.
    pub fn spawn_with_input(command: Command) -> Self {
        Self::start(command, Stdio::piped())
    }

    fn start(mut command: Command, input: Stdio) -> Self {
        let name = command.get_program().display().to_string();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stderr = std::fs::File::create(folder.path().join("stderr")).expect("a file");
        command.stdin(input).stdout(Stdio::piped()).stderr(stderr);
        let mut child = Child::start(&mut command)
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));

        let stdout = child.take_stdout().expect("standard output is piped");
        let stdout = tokio::process::ChildStdout::from_std(stdout).expect("a pipe is readable");
        let (sender, lines) = mpsc::unbounded_channel();
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let mut output = BufReader::new(stdout);
            let mut line = Vec::new();
            while output
                .read_until(b'\n', &mut line)
                .await
                .is_ok_and(|length| length > 0)
            {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Self {
            name,
            input: child.take_stdin(),
            child,
            lines,
            _reader: reader,
            folder,
        }
    }

    /// Writes a line to the program's input.
    ///
    /// # Panics
    ///
    /// If it has none, or does not read it any more.
    pub fn write_line(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it was started with input");
        if let Err(error) = writeln!(input, "{line}") {
            panic!("{} reads no line: {error}; {}", self.name, self.evidence());
        }
    }

    /// Returns the next line of the program's output; `None` when it has closed it.
    ///
    /// # Cancel safety
    ///
    /// No line is lost: what was not returned is there for the next call.
    pub async fn next_line(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Reads lines up to the first that fits, and returns that one.
    ///
    /// # Panics
    ///
    /// When `limit` has passed, or the output has ended, without one; with the lines there were.
    ///
    /// # Cancel safety
    ///
    /// The lines read so far are lost.
    pub async fn wait_for_line(&mut self, limit: Duration, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + limit;
        let mut read = Vec::new();
        loop {
            let missed = match timeout_at(deadline, self.next_line()).await {
                Ok(Some(line)) if fits(&line) => return line,
                Ok(Some(line)) => {
                    read.push(line);
                    continue;
                }
                Ok(None) => "its output ended",
                Err(_) => "the limit passed",
            };
            panic!(
                "{}: {missed} before the awaited line (limit: {limit:?}); {}\nlines read:\n{}",
                self.name,
                self.evidence(),
                read.join("\n"),
            );
        }
    }

    /// Returns its id, by which the system knows it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. Where that is `STOP`, the program stands still when this returns.
    ///
    /// # Panics
    ///
    /// If the program has ended.
    pub fn signal(&mut self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Kills the program, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Waits for the program to end by itself or by a signal sent before.
    ///
    /// # Panics
    ///
    /// When `limit` has passed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the program.
    pub async fn wait(mut self, limit: Duration) -> Exit {
        let deadline = Instant::now() + limit;
        let what = format!("{} ends", self.name);
        let status = eventually(limit, &what, async || {
            self.child
                .ended()
                .ok_or_else(|| format!("it runs; {}", self.evidence()))
        })
        .await;
        // The output ends with the program, unless a child of its own holds it open.
        let mut lines = Vec::new();
        while let Ok(Some(line)) = timeout_at(deadline, self.next_line()).await {
            lines.push(line);
        }
        Exit {
            status,
            lines,
            stderr: self.stderr(),
        }
    }

    fn stderr(&self) -> String {
        tail(&self.folder.path().join("stderr"))
    }

    fn evidence(&self) -> String {
        format!("standard error ends:\n{}", self.stderr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command)
    }

    #[tokio::test]
    async fn lines_are_read_as_they_come_and_the_rest_at_the_end() {
        let mut process =
            shell("echo one; echo two; echo three; echo aside >&2; echo four; exit 7");
        assert_eq!(process.next_line().await.as_deref(), Some("one"));
        let line = process
            .wait_for_line(LIMIT, |line| line.starts_with("th"))
            .await;
        assert_eq!(line, "three");
        let exit = process.wait(LIMIT).await;
        assert_eq!((exit.status.code(), &*exit.stderr), (Some(7), "aside"));
        assert_eq!(exit.lines, ["four"]);
    }

    #[tokio::test]
    async fn a_program_reads_the_lines_that_are_written() {
        let mut command = Command::new("sh");
        command.args(["-c", "while read -r line; do echo \"read $line\"; done"]);
        let mut process = Process::spawn_with_input(command);
        for line in ["one", "two"] {
            process.write_line(line);
            assert_eq!(process.next_line().await.unwrap(), format!("read {line}"));
        }
    }

    #[tokio::test]
    async fn output_that_nobody_reads_stalls_no_process() {
        let process =
            shell("i=0; while [ $i -lt 30000 ]; do echo a line of text; i=$((i+1)); done");
        assert_eq!(process.wait(LIMIT).await.lines.len(), 30_000);
    }

    #[tokio::test]
    #[should_panic(expected = "standard error ends:\nno luck\nlines read:\none\ntwo")]
    async fn a_line_that_never_comes_panics_with_what_came() {
        let mut process = shell("echo no luck >&2; echo one; echo two");
        process.wait_for_line(LIMIT, |line| line == "three").await;
    }

    #[tokio::test]
    #[should_panic(expected = "it runs; standard error ends:\nbusy")]
    async fn a_process_that_does_not_end_panics() {
        let mut process = shell("echo busy >&2; echo; exec sleep 600");
        process.next_line().await;
        process.wait(Duration::from_millis(50)).await;
    }

    #[tokio::test]
    async fn a_killed_process_shows_the_signal() {
        use std::os::unix::process::ExitStatusExt;

        let mut process = shell("exec sleep 600");
        process.kill();
        assert_eq!(process.wait(LIMIT).await.status.signal(), Some(9));
    }
}
