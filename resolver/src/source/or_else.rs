//! One source, or else another.

mod choice;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use self::choice::{Choice, Which};
use crate::{Source, Update, balancer::BoxSource};

/// One source for as long as it has endpoints, or else another; made by [`Source::or_else`].
///
/// Both are followed all the time, so that each is up to date when it is needed.
///
/// - The first is used as soon as it has endpoints and for as long as it has some, however stale: that a
///   registry is away is no reason to leave the servers it named. What counts is what it says, not whether
///   its endpoints can be reached.
/// - The second is used while the first says that there are no endpoints, or has failed before it
///   named any; at once, so that a file which is not there costs no time.
/// - A first that says nothing at all is waited for, with patience (5 s), and so is a second that is
///   needed. In that time calls wait, or go where they went before.
/// - If neither has endpoints, the first's empty set counts, then the second's; if neither has a set, it
///   is told what both fail with.
///
/// What is told of the state of the one in use names it: `the second source: ...`. A WARN is logged when
/// the second one begins to be used, with the reason, and an INFO when the first one is again. It
/// ends when both have ended.
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{Channel, Dns, Fixed, Source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let known = Fixed::new(["10.0.0.1:50051", "10.0.0.2:50051"])?;
/// let source = Dns::new("greeter.example:50051")?
///     .or_else(known)
///     .patience(Duration::from_secs(2));
/// let channel = Channel::builder(source).name("greeter").connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
#[must_use = "a source does nothing unless a channel polls it"]
pub struct OrElse {
    /// `None` once it has ended.
    first: Option<BoxSource>,
    /// `None` once it has ended.
    second: Option<BoxSource>,
    patience: Patience,
    choice: Choice,
}

/// How long who has said nothing is waited for.
enum Patience {
    /// It begins when it is polled first.
    Set(Duration),
    Running(Pin<Box<Sleep>>),
    Over,
}

/// Longer than what answers at all needs, and much shorter than the 20 s for which calls wait for
/// endpoints: those that began with the channel still go to the second.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much is taken in at a time. Were it all there is, a source that always has more would never
/// let others on its thread take their turn.
const ROUNDS: usize = 32;

impl OrElse {
    pub(crate) fn new(first: impl Source, second: impl Source) -> Self {
        Self {
            first: Some(Box::pin(first)),
            second: Some(Box::pin(second)),
            patience: Patience::Set(PATIENCE),
            choice: Choice::default(),
        }
    }

    /// Sets how long a source that has said nothing is waited for, from the beginning of the channel
    /// on; 5 s unless set.
    ///
    /// Without any, the second is used for a moment whenever a channel begins, and its servers are
    /// connected to by everybody.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Patience::Set(patience);
        self
    }

    /// Takes in one update of each, and whether the patience is over; ready if there was anything.
    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut outcome = Poll::Pending;
        for which in [Which::First, Which::Second] {
            let source = match which {
                Which::First => &mut self.first,
                Which::Second => &mut self.second,
            };
            let polled = match source {
                Some(source) => source.as_mut().poll_update(cx),
                None => continue,
            };
            match polled {
                Poll::Ready(Some(update)) => self.choice.said(which, update),
                Poll::Ready(None) => {
                    *source = None;
                    self.choice.ended(which, Instant::now().into_std());
                }
                Poll::Pending => continue,
            }
            outcome = Poll::Ready(());
        }
        if self.patience.poll(cx).is_ready() {
            self.choice.patience_is_over();
            outcome = Poll::Ready(());
        }
        outcome
    }

    fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.choice.used();
        let polled = self.poll_both(cx);
        match (before, self.choice.used()) {
            (None | Some(Which::First), Some(Which::Second)) => {
                let cause = self.choice.trouble_of_the_first();
                tracing::warn!(name: "second_source_used", cause, "the second source is used");
            }
            (Some(Which::Second), Some(Which::First)) => {
                tracing::info!(name: "first_source_used", "the first source is used again");
            }
            _ => {}
        }
        polled
    }
}

impl Patience {
    /// Is ready once.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Set(patience) = self {
            *self = Self::Running(Box::pin(sleep(*patience)));
        }
        let Self::Running(running) = self else {
            return Poll::Pending;
        };
        ready!(running.as_mut().poll(cx));
        *self = Self::Over;
        Poll::Ready(())
    }
}

impl Source for OrElse {
    fn poll_update(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        for _ in 0..ROUNDS {
            if let Some(update) = self.choice.next() {
                return Poll::Ready(Some(update));
            }
            if self.first.is_none() && self.second.is_none() {
                return Poll::Ready(None);
            }
            ready!(self.take_in(cx));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells both: whose endpoint it was, they know best.
    fn resolve_now(mut self: Pin<&mut Self>) {
        let this = &mut *self;
        for source in [&mut this.first, &mut this.second].into_iter().flatten() {
            source.as_mut().resolve_now();
        }
    }
}

impl fmt::Debug for OrElse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrElse")
            .field("choice", &self.choice)
            .finish_non_exhaustive()
    }
}
