//! Does the work of one connection, and tells what becomes of it.
//!
//! - All that was written since it last ran leaves in one flush: when calls have something to send it
//!   lets the other tasks that can run go first, once, since they may have more to say.
//! - It alone sends pings.
//! - A GOAWAY, which wakes nobody in h2, is noticed when it is read, with or without calls.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Ping, PingPong, client::SendRequest};
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, timeout},
};

use super::{
    Shared,
    failure::{HUNG_UP, closed},
    heard::Heard,
    liveness::{Health, Liveness, Seen},
};
use crate::{Cause, connector::Io};

/// How long the end of a connection without calls may take: longer, and a channel whose server is
/// stuck closes late; shorter, and the last words to a slow server are lost.
const PARTING: Duration = Duration::from_secs(5);

/// Does the work of one connection.
pub(crate) struct Connection {
    io: h2::client::Connection<Heard<Io>, Bytes>,
    shared: Arc<Shared>,
    /// Tells whether new streams are taken; `None` once they are not.
    probe: Option<SendRequest<Bytes>>,
    pings: Option<PingPong>,
    liveness: Liveness,
    health: Health,
    alarm: Alarm,
    /// How much was read when that was last looked at.
    read: u64,
    /// When something was read since the liveness was last asked.
    heard: Option<std::time::Instant>,
    /// How much was written when the byte stream took no more, and since when that is so.
    held: Option<(u64, std::time::Instant)>,
    is_held_anew: bool,
    turn: Turn,
    is_over: bool,
}

/// What has become of a connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// Nothing is heard on it, although there should be.
    Silent,
    /// There is again.
    Heard,
    /// It takes no more calls; those in flight go on.
    Leaving(Cause),
    /// It is over. `Leaving` may not have come before.
    Closed(Cause),
}

impl Connection {
    pub(super) fn new(
        mut io: h2::client::Connection<Heard<Io>, Bytes>,
        probe: SendRequest<Bytes>,
        shared: Arc<Shared>,
        liveness: Liveness,
    ) -> Self {
        Self {
            pings: io.ping_pong(),
            io,
            probe: Some(probe),
            read: shared.traffic.read(),
            shared,
            liveness,
            health: Health::Trusted,
            alarm: Alarm::default(),
            heard: None,
            held: None,
            is_held_anew: false,
            turn: Turn::Others,
            is_over: false,
        }
    }

    /// Works until something becomes of the connection, and says what. To be dropped once it is
    /// `Closed`. Cancel safe.
    pub(crate) async fn event(&mut self) -> Event {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Takes no more calls, and works until those in flight have ended. A server that does not read
    /// cannot be told so, and is waited for no longer than [`PARTING`].
    pub(crate) async fn finish(mut self: Box<Self>) {
        self.leave();
        while !self.is_over {
            let is_idle = self.shared.slots.taken() == 0;
            let waited = timeout(PARTING, self.event()).await;
            // A call may have begun just before the connection took no more.
            if waited.is_err() && is_idle && self.shared.slots.taken() == 0 {
                return;
            }
        }
    }

    /// Returns whether a call was ever answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.shared.has_answered.load(Ordering::Relaxed)
    }

    fn leave(&mut self) {
        self.shared.slots.close();
        // The connection ends when the last one who could use it is gone.
        self.probe = None;
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Turn::Others = self.turn
            && self.shared.queued.load(Ordering::Relaxed)
        {
            self.turn = Turn::Ours;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.turn = Turn::Others;
        self.shared.queued.store(false, Ordering::Relaxed);
        let owed = self.shared.owed.load(Ordering::Relaxed);
        if let Poll::Ready(ended) = Pin::new(&mut self.io).poll(cx) {
            let cause = match ended {
                Ok(()) => closed(HUNG_UP),
                Err(error) => Arc::new(error),
            };
            return Poll::Ready(self.closed(cause));
        }
        let read = self.shared.traffic.read();
        if read != self.read {
            self.read = read;
            self.heard = Some(Instant::now().into_std());
            self.shared.paid(owed);
            if let Poll::Ready(cause) = self.poll_leaving(cx) {
                self.leave();
                return Poll::Ready(Event::Leaving(cause));
            }
        }
        let held = self.shared.traffic.held();
        if held != self.held.map(|(written, _)| written) {
            self.is_held_anew = self.held.is_none();
            self.held = held.map(|written| (written, Instant::now().into_std()));
        }
        self.poll_liveness(cx)
    }

    /// Finds out whether the server takes new streams, and how many.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        let Some(probe) = &mut self.probe else {
            return Poll::Pending;
        };
        if let Poll::Ready(Err(error)) = probe.poll_ready(cx) {
            return Poll::Ready(Arc::new(error));
        }
        self.shared
            .slots
            .set_limit(probe.current_max_send_streams());
        Poll::Pending
    }

    /// Asks the liveness when there may be something new to it: once in a while, and not each time
    /// that something is read.
    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        while self.alarm.poll(cx).is_ready() || self.is_news() {
            self.is_held_anew = false;
            let pong = match &mut self.pings {
                Some(pings) => pings.poll_pong(cx).is_ready(),
                None => false,
            };
            let owed_since = self.shared.owed_since();
            let seen = Seen {
                heard: self.heard.take(),
                answered: self.shared.answered.swap(false, Ordering::Relaxed),
                pong,
                calls_in_flight: self.shared.slots.taken(),
                owed_since,
                held_since: self.held.map(|(_, since)| since),
            };
            let advice = self.liveness.look(seen, Instant::now().into_std());
            if advice.ping
                && let Some(pings) = &mut self.pings
            {
                // One that is still on its way will be answered, or not, as this one would be.
                let _ = pings.send_ping(Ping::opaque());
                // h2 sends it when it is polled.
                cx.waker().wake_by_ref();
            }
            self.alarm.set(advice.again, owed_since.is_some());
            let death = match advice.health {
                Health::Trusted | Health::Suspect => None,
                Health::Dead => Some("the server gives no sign of life, and answers no ping"),
                Health::Deaf => Some("the server takes nothing of what is sent to it"),
            };
            if let Some(death) = death {
                return Poll::Ready(self.closed(closed(death)));
            }
            if advice.health != self.health {
                self.health = advice.health;
                return Poll::Ready(match advice.health {
                    Health::Suspect => Event::Silent,
                    Health::Trusted | Health::Dead | Health::Deaf => Event::Heard,
                });
            }
        }
        Poll::Pending
    }

    /// Returns whether the liveness may decide otherwise than when it was last asked. That the byte stream
    /// takes no more is news. While a ping is out, only what is read counts. While a call is owed an answer,
    /// only the alarm does. Otherwise it is a call that is owed one, or, if no alarm is set, any call in
    /// flight.
    fn is_news(&self) -> bool {
        match self.alarm.expects {
            Expects::FirstLook => true,
            _ if self.is_held_anew => true,
            _ if self.liveness.has_asked() => self.heard.is_some(),
            Expects::Anything if self.alarm.is_set => self.shared.owed_since().is_some(),
            Expects::Anything => self.shared.slots.taken() > 0,
            Expects::AnAnswer => false,
        }
    }

    fn closed(&mut self, cause: Cause) -> Event {
        self.leave();
        self.is_over = true;
        // Its calls fail when it is dropped, and say this.
        let _ = self.shared.lost.set(cause.clone());
        Event::Closed(cause)
    }
}

/// Whose turn it is when there is something to send.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// That of the other tasks, which may have more to send.
    Others,
    Ours,
}

/// When the liveness is to be asked again.
#[derive(Default)]
struct Alarm {
    /// Made when it is needed first: of many connections, most are idle.
    sleep: Option<Pin<Box<Sleep>>>,
    is_set: bool,
    /// The task that hears of it. Its sleep is polled once for each, which costs more than to look
    /// whether it is over.
    heard_by: Option<Waker>,
    expects: Expects,
}

/// What the alarm was set for.
#[derive(Debug, Clone, Copy, Default)]
enum Expects {
    /// It was not set yet.
    #[default]
    FirstLook,
    /// That a call has no answer by then, so that further ones are no news.
    AnAnswer,
    /// Whatever else.
    Anything,
}

impl Alarm {
    fn set(&mut self, at: Option<std::time::Instant>, is_owed: bool) {
        self.expects = match is_owed {
            true => Expects::AnAnswer,
            false => Expects::Anything,
        };
        self.is_set = at.is_some();
        self.heard_by = None;
        let Some(at) = at.map(Instant::from_std) else {
            return;
        };
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Is ready once each time that it goes off.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) if self.is_set => {
                let waker = cx.waker();
                let is_heard = self.heard_by.as_ref().is_some_and(|it| it.will_wake(waker));
                if !is_heard {
                    self.heard_by = Some(waker.clone());
                    // Not put off when the task has done much: it is polled once only.
                    ready!(pin!(unconstrained(sleep.as_mut())).poll(cx));
                } else if !sleep.is_elapsed() {
                    return Poll::Pending;
                }
                self.is_set = false;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}
