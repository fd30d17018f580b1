//! The seam to HTTP/2: how calls travel over one connection.
//!
//! Calls reach h2 through here; beside it only `call`, `response_body` and `error` name its types.
//! [`handshake`] makes the two halves
//! of a connection: any number of [`Transport`]s to send calls with, and one [`Connection`] that does
//! the work and tells what becomes of it.
//!
//! - A call's own task hands its headers and its body to h2: no queue, no task for a unary call, and
//!   no lock but h2's own.
//! - h2 is never handed more streams than the server allows: a call takes a [`Slot`] first.
//! - A connection is good for calls once the server's SETTINGS are there: the HTTP/2 handshake itself
//!   also "succeeds" against a server that never says a word.

mod connection;
mod counted;
mod exchange;
mod failure;
mod heard;
mod liveness;
mod pump;
mod reservation;
mod slots;

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::uri::{Authority, Scheme};
use serde::{Serialize, Serializer};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::TaskTracker;

pub(crate) use self::{
    connection::{Connection, Event},
    counted::{Counted, Traffic},
    exchange::{Exchange, OnConnection},
    failure::{BoxError, Failure},
    liveness::Pings,
    reservation::Reservation,
    slots::{Capacity, Vacancy},
};
use self::{
    failure::{HUNG_UP, cause, closed},
    heard::Heard,
    liveness::Liveness,
    pump::Pump,
    slots::Slots,
};
use crate::{Cause, connector::Io};

/// Sends calls over one connection.
#[derive(Clone)]
pub(crate) struct Transport {
    sender: SendRequest<Bytes>,
    shared: Arc<Shared>,
}

/// What all who use one connection share.
struct Shared {
    scheme: Scheme,
    authority: Authority,
    slots: Slots,
    traffic: Arc<Traffic>,
    /// The tasks that send bodies, and where they run.
    tasks: TaskTracker,
    runtime: Handle,
    /// Something was handed to h2, since the connection last ran, that others may leave with.
    queued: AtomicBool,
    /// A call was answered since that was last looked at.
    answered: AtomicBool,
    has_answered: AtomicBool,
    begun: std::time::Instant,
    /// When the first call began since something was read: nanoseconds from `begun` on; 0 for none.
    owed: AtomicU64,
    /// Why the connection was lost.
    lost: OnceLock<Cause>,
}

/// The right to one stream of a connection, given back when it is dropped.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    /// Whose stream it is, if it is not that of a call.
    reservation: Option<Arc<Reservation>>,
}

/// Further HTTP/2 pings, of connections that were silent for a while, whether a call waits for an
/// answer or not. None unless set.
///
/// Servers in Go close connections that ping more often than they allow, by default once in five
/// minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long a connection may be silent before it is pinged.
    pub interval: Duration,
    /// How long the answer may take before the connection is closed and its calls fail with
    /// UNAVAILABLE.
    pub timeout: Duration,
    /// Whether connections without a call in flight are pinged too.
    pub while_idle: bool,
}

/// How a connection is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) pings: Pings,
    /// The window of one stream: what a server may send ahead of a reader.
    pub(crate) stream_window: u32,
    /// How many calls an endpoint may have in flight on all its connections, beside what its server
    /// allows.
    pub(crate) max_calls_in_flight: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pings: Pings {
                // grpc-go's `MinTime`, and a little more for what the way there may differ.
                min_interval: Duration::from_secs(301),
                keep_alive: None,
            },
            // Larger ones let a few unread streams hold much memory; smaller ones make a fast
            // stream over a long distance wait.
            stream_window: 256 * 1024,
            max_calls_in_flight: None,
        }
    }
}

/// The largest window that HTTP/2 allows (RFC 9113, 6.9.1).
pub(crate) const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// The window of a connection: under a smaller one, streams that nobody reads would starve all other
/// calls on the connection.
const CONNECTION_WINDOW: u32 = LARGEST_WINDOW;

/// As grpc-go: a smaller limit refuses the large metadata that it lets pass.
const MAX_HEADER_LIST: u32 = 16 * 1024 * 1024;

/// How many calls that were given up are remembered, and for how long. Some hundred bytes each.
const REMEMBERED_RESETS: usize = 4096;
const RESET_MEMORY: Duration = Duration::from_secs(10);

/// How many answers to calls that are not remembered any more a connection lives through: fewer, and
/// those of a busy channel that gives calls up would end; more, and a server that makes them up
/// could use up memory.
const MAX_STRAY_ANSWERS: usize = 100_000;

/// Begins HTTP/2 on `io`, of which `traffic` tells, and waits until the server has spoken. What calls
/// leave to be done runs on `tasks`; how many there may be is a part of the endpoint's `capacity`.
pub(crate) async fn handshake(
    io: Io,
    traffic: Arc<Traffic>,
    scheme: Scheme,
    authority: Authority,
    settings: Settings,
    tasks: TaskTracker,
    capacity: Capacity,
) -> Result<(Transport, Connection), Cause> {
    let begun = Instant::now();
    let lost = |error: h2::Error| cause(error, None);
    let (sender, mut io) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        // None before the server has said how many.
        .initial_max_send_streams(0)
        // A stream of tiny messages that nobody reads is held back by its window, and must not end
        // the connection for all others.
        .data_frame_budget(usize::MAX)
        // Answers that cross a reset are let pass for as long as they may be on their way: h2 counts
        // each that it does not remember against the connection, and ends it in the end.
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(RESET_MEMORY)
        .max_local_error_reset_streams(Some(MAX_STRAY_ANSWERS))
        .handshake::<_, Bytes>(Heard::new(io, traffic.clone()))
        .await
        .map_err(lost)?;
    let settled = poll_fn(|cx| match Pin::new(&mut io).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(closed(HUNG_UP))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(lost(error))),
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    });
    settled.await?;
    let now = Instant::now();
    let shared = Arc::new(Shared {
        scheme,
        authority,
        slots: Slots::new(sender.current_max_send_streams(), capacity),
        traffic,
        tasks,
        runtime: Handle::current(),
        queued: AtomicBool::new(false),
        answered: AtomicBool::new(false),
        has_answered: AtomicBool::new(false),
        begun: now.into_std(),
        owed: AtomicU64::new(0),
        lost: OnceLock::new(),
    });
    let liveness = Liveness::new(settings.pings, now - begun, now.into_std());
    let connection = Connection::new(io, sender.clone(), shared.clone(), liveness);
    Ok((Transport { sender, shared }, connection))
}

impl Transport {
    /// Takes the right to one more call, if the connection has one to give.
    pub(crate) fn slot(&self) -> Option<Slot> {
        self.shared.slots.take().then(|| Slot {
            shared: self.shared.clone(),
            reservation: None,
        })
    }

    /// Returns whether there is such a right to be had.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.slots.have_room()
    }

    /// Returns whether the connection takes no more calls. Once it does not, it never will.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.slots.is_closed()
    }

    /// Returns what `:scheme` is on this connection.
    pub(crate) fn scheme(&self) -> &Scheme {
        &self.shared.scheme
    }

    /// Returns what `:authority` is on this connection.
    pub(crate) fn authority(&self) -> &Authority {
        &self.shared.authority
    }
}

/// Tells how many calls are in flight to one endpoint, over whichever of its connections: one that
/// takes no more goes on with those it has. It keeps none of them open.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<[Arc<Shared>]>);

impl InFlight {
    pub(crate) fn get(&self) -> usize {
        self.0.iter().map(|shared| shared.slots.taken()).sum()
    }

    /// Returns this with a connection more, and without those that have no calls and will have none.
    pub(crate) fn with(&self, transport: &Transport) -> Self {
        let shared = &transport.shared;
        if self.0.iter().any(|it| Arc::ptr_eq(it, shared)) {
            return self.clone();
        }
        let may_have_calls = |it: &&Arc<Shared>| !it.slots.is_closed() || it.slots.taken() > 0;
        let earlier = self.0.iter().filter(may_have_calls);
        Self(earlier.chain([shared]).cloned().collect())
    }
}

impl PartialEq for InFlight {
    /// Whether both are of the same connections: how many they are is no other state.
    fn eq(&self, other: &Self) -> bool {
        let is_same = |(one, other)| Arc::ptr_eq(one, other);
        self.0.len() == other.0.len() && self.0.iter().zip(&*other.0).all(is_same)
    }
}

impl Eq for InFlight {}

impl Serialize for InFlight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("authority", &self.shared.authority)
            .field("in_flight", &self.shared.slots.taken())
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl Slot {
    fn is_of_call(&self) -> bool {
        self.reservation.is_none()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_of_call() {
            self.shared.slots.give_back();
        }
    }
}

impl Shared {
    /// Notes that a call begins. What is read often is written only if it has to be: calls on many
    /// cores would fight for the line.
    fn begin(&self, now: std::time::Instant) {
        if self.owed.load(Ordering::Relaxed) == 0 {
            let nanos = now.saturating_duration_since(self.begun).as_nanos() as u64;
            self.owed.store(nanos.max(1), Ordering::Relaxed);
        }
    }

    /// Notes that something is handed to h2 that others may leave with, before it is. Written only if
    /// it has to be, too.
    fn queues(&self) {
        if !self.queued.load(Ordering::Relaxed) {
            self.queued.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that something was read, as an answer to what was `owed` before.
    fn paid(&self, owed: u64) {
        if owed != 0 {
            // Lost to a call that has just begun: that one is owed.
            let _ = self
                .owed
                .compare_exchange(owed, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn owed_since(&self) -> Option<std::time::Instant> {
        match self.owed.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(self.begun + Duration::from_nanos(nanos)),
        }
    }

    /// Notes that a call was answered, or a part of it.
    fn answered(&self) {
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    fn lost(&self) -> Option<Cause> {
        self.lost.get().cloned()
    }
}
