//! Waiting for a state, with a limit.

use std::{fmt::Display, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

/// Polls `attempt` until it returns `Ok`, and returns what it holds; `Err` says what is seen
/// instead, for the panic.
///
/// ```
/// # use std::time::Duration;
/// # use switchboard_test_support::eventually;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut polls = 0;
/// let seen = eventually(Duration::from_secs(5), "the third poll comes", async || {
///     polls += 1;
///     if polls == 3 { Ok(polls) } else { Err(format!("poll {polls}")) }
/// });
/// assert_eq!(seen.await, 3);
/// # }
/// ```
///
/// # Panics
///
/// When `limit` has passed, with `what` was awaited and what was last seen. An attempt that hangs
/// does not extend it.
pub async fn eventually<T, Seen: Display>(
    limit: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, Seen>,
) -> T {
    // Short against what a test takes, long against what a poll costs.
    const BETWEEN_POLLS: Duration = Duration::from_millis(10);

    let deadline = Instant::now() + limit;
    let mut seen = None;
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(other)) => seen = Some(other),
            Err(_) => {}
        }
        if Instant::now() + BETWEEN_POLLS > deadline {
            match seen {
                Some(seen) => panic!("not within {limit:?}: {what} (last seen: {seen})"),
                None => panic!("not within {limit:?}: {what} (nothing seen: the first poll hung)"),
            }
        }
        sleep(BETWEEN_POLLS).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 2s: the moon is full (last seen: a crescent)")]
    async fn what_never_holds_panics_with_the_last_thing_seen() {
        eventually(Duration::from_secs(2), "the moon is full", async || {
            Err::<(), _>("a crescent")
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the moon is full (nothing seen: the first poll hung)")]
    async fn a_poll_that_hangs_is_cut_off_at_the_limit() {
        let hang = async || std::future::pending::<Result<(), &str>>().await;
        eventually(Duration::from_secs(2), "the moon is full", hang).await;
    }
}
