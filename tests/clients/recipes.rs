//! Our recipes and Go's, at work on the same keys.

use std::{path::Path, process::Command, time::Duration};

use libtest_mimic::{Completion, Trial};
use switchboard::{
    Registry,
    coordination::{Barrier, BarrierError, PriorityQueue, Queue},
};
use switchboard_test_support::{Process, trial};
use tokio::time::{sleep, timeout};

use crate::{
    go::program,
    server::{Kind, Server},
};

/// How long anything may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns the tests, for one kind of server.
pub(crate) fn trials(kind: Kind) -> impl Iterator<Item = Trial> {
    let queues = trial(
        format!("{kind}::recipes::go_and_we_share_queues"),
        move || tried(kind, async |peer| queues(&peer).await),
    );
    let barriers = trial(
        format!("{kind}::recipes::go_and_we_share_barriers"),
        move || tried(kind, async |peer| barriers(&peer).await),
    );
    [queues, barriers].into_iter()
}

/// A peer in Go, and we, on one server.
struct Shared {
    program: &'static Path,
    registry: Registry,
    server: Server,
}

async fn tried(kind: Kind, test: impl AsyncFnOnce(Shared)) -> Completion {
    match program().await {
        Ok(program) => {
            let server = Server::start(kind).await;
            let registry = Registry::connect(server.endpoint()).await;
            let shared = Shared {
                program,
                registry: registry.expect("a server"),
                server,
            };
            test(shared).await;
            Completion::Completed
        }
        Err(reason) => Completion::ignored_with(*reason),
    }
}

impl Shared {
    fn begin(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(self.program);
        command.arg(self.server.endpoint()).args(arguments);
        Process::spawn(command)
    }

    /// Has Go do something; returns what it says.
    async fn go(&self, arguments: &[&str]) -> Vec<String> {
        let exit = self.begin(arguments).wait(LIMIT).await;
        assert!(exit.status.success(), "{arguments:?}: {exit:?}");
        exit.lines
    }
}

async fn queues(shared: &Shared) {
    let mut queue = Queue::fifo(&shared.registry, "shop/jobs").expect("a name");
    for number in 0..3 {
        queue.push(format!("we {number}")).await.expect("pushed");
    }
    shared.go(&["enqueue", "shop/jobs", "3"]).await;
    let first = shared.go(&["dequeue", "shop/jobs", "2"]).await;
    assert_eq!(first, ["we 0", "we 1"]);
    for value in ["we 2", "go 0", "go 1", "go 2"] {
        let item = timeout(LIMIT, queue.pop()).await.expect("in time");
        assert_eq!(item.expect("popped").value, value.as_bytes());
    }
    // Who waits gets what the other one pushes.
    let (popped, _) = tokio::join!(
        timeout(LIMIT, queue.pop()),
        shared.go(&["enqueue", "shop/jobs", "1"])
    );
    assert_eq!(popped.expect("in time").expect("popped").value, b"go 0");
    let pushing = async {
        sleep(Duration::from_millis(500)).await;
        queue.push("we").await.expect("pushed");
    };
    let (said, ()) = tokio::join!(shared.go(&["dequeue", "shop/jobs", "1"]), pushing);
    assert_eq!(said, ["we"]);

    let mut queue = PriorityQueue::new(&shared.registry, "shop/errands").expect("a name");
    shared.go(&["enqueue", "shop/errands", "2", "7"]).await;
    for priority in [7, 3] {
        let pushed = queue.push(priority, format!("we {priority}")).await;
        pushed.expect("pushed");
    }
    shared.go(&["enqueue", "shop/errands", "1", "7"]).await;
    queue.push(7, "we last").await.expect("pushed");
    let said = shared
        .go(&["dequeue", "shop/errands", "3", "by-priority"])
        .await;
    assert_eq!(said, ["we 3", "go 0", "go 1"]);
    for value in ["we 7", "go 0", "we last"] {
        let item = timeout(LIMIT, queue.pop()).await.expect("in time");
        assert_eq!(item.expect("popped").value, value.as_bytes());
    }
    assert!(queue.try_pop().await.expect("read").is_none());
}

async fn barriers(shared: &Shared) {
    let name = "shop/opening";
    let barrier = Barrier::new(&shared.registry, name).expect("a name");
    barrier.hold().await.expect("held");
    let failed = shared.begin(&["hold", name, "-"]).wait(LIMIT).await;
    assert!(failed.stderr.contains("key already exists"), "{failed:?}");
    let mut waits = shared.begin(&["wait", name, "-"]);
    waits.wait_for_line(LIMIT, |line| line == "waits").await;
    sleep(Duration::from_millis(300)).await;
    barrier.release().await.expect("released");
    let exit = waits.wait(LIMIT).await;
    assert!(exit.status.success(), "{exit:?}");

    shared.go(&["hold", name, "-"]).await;
    let refused = barrier.hold().await;
    assert!(matches!(refused, Err(BarrierError::Held(_))), "{refused:?}");
    let release = ["release", name, "-"];
    let (waited, _) = tokio::join!(timeout(LIMIT, barrier.wait()), shared.go(&release));
    waited.expect("in time").expect("released");
    barrier.hold().await.expect("held");
    shared.go(&["release", name, "-"]).await;
    barrier.wait().await.expect("released");
}
