//! What tests wait for, where the clock is paused: it jumps to the next timer when nobody has
//! anything left to do.

use std::{future::Future, time::Duration};

use tokio::{task::JoinSet, time::timeout};

/// Long enough to see that something hangs.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Whether it has not ended an hour from now.
pub(crate) async fn hangs(future: impl Future) -> bool {
    timeout(HOUR, future).await.is_err()
}

/// Waits for what must happen within a day. Where nobody waits for anything else, the clock jumps to
/// that limit.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(24 * HOUR, future).await.expect("within a day")
}

/// Starts in a task of its own, which nothing wakes but what it waits for.
pub(crate) fn started<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    let mut task = JoinSet::new();
    task.spawn(future);
    async move {
        let ended = in_time(task.join_next()).await.expect("it was started");
        ended.expect("it did not panic")
    }
}
