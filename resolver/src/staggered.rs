//! Attempts of which one is enough, each begun as soon as the one before has failed or has had a
//! while: one that hangs costs no more than that (Happy Eyeballs, RFC 8305; gRPC's A61).

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

/// How long an attempt is alone, as in gRPC's A61.
const HEAD_START: Duration = Duration::from_millis(250);

/// Returns what the first attempt that succeeds comes to, and gives up the others.
///
/// # Errors
///
/// What each came to, in their order, if none does.
pub(crate) async fn first_of<T, E, Attempt>(
    attempts: impl IntoIterator<Item = Attempt>,
) -> Result<T, Vec<E>>
where
    Attempt: Future<Output = Result<T, E>>,
{
    let mut waiting = attempts.into_iter().enumerate().peekable();
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    let mut next_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some((index, outcome)) = running.next() => match outcome {
                Ok(it) => return Ok(it),
                Err(error) => {
                    failed.push((index, error));
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if waiting.peek().is_some() => {
                if let Some((index, attempt)) = waiting.next() {
                    running.push(async move { (index, attempt.await) });
                }
                next_at = Instant::now() + HEAD_START;
            }
            else => break,
        }
    }
    failed.sort_by_key(|(index, _)| *index);
    Err(failed.into_iter().map(|(_, error)| error).collect())
}

#[cfg(test)]
mod tests {
    use futures::future::{BoxFuture, FutureExt, pending, ready};

    use super::*;

    type Attempt = BoxFuture<'static, Result<u32, &'static str>>;

    async fn run(attempts: Vec<Attempt>) -> (Result<u32, Vec<&'static str>>, Duration) {
        let start = Instant::now();
        (first_of(attempts).await, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_has_a_head_start_and_no_more() {
        let attempts = vec![pending().boxed(), ready(Ok(2)).boxed()];
        assert_eq!(run(attempts).await, (Ok(2), HEAD_START));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_is_followed_at_once_and_all_failures_are_told_in_order() {
        let late = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err("late")
        };
        let attempts = vec![late.boxed(), ready(Err("at once")).boxed()];
        let failures = Err(vec!["late", "at once"]);
        assert_eq!(run(attempts).await, (failures, Duration::from_secs(1)));
        let attempts = vec![ready(Err("no")).boxed(), ready(Ok(2)).boxed()];
        assert_eq!(run(attempts).await, (Ok(2), Duration::ZERO));
        assert_eq!(run(Vec::new()).await.0, Err(Vec::new()));
    }
}
