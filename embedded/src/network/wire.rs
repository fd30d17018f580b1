//! Decides what a connection's two ends read and write, and when.
//!
//! Invariants, per direction:
//!
//! - Bytes are read in the order in which they were written, each once, none before it is due and
//!   none while they are held.
//! - The end comes after all bytes, and as late as they do.
//! - It never has more than [`CAPACITY`] bytes.
//!
//! It wakes nobody: who performs an operation wakes the other end.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io::{Error, ErrorKind, Result},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{io::ReadBuf, time::Instant};

/// How many bytes a direction holds, after which writing waits: with less, delayed links carry less,
/// and with much more, nobody who does not read is ever noticed.
pub(super) const CAPACITY: usize = 64 * 1024;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialing,
    Listening,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialing => Self::Listening,
            Self::Listening => Self::Dialing,
        }
    }
}

/// What came of trying something.
#[derive(Debug)]
pub(super) enum Attempt<T> {
    Done(T),
    /// It will do something at this time, if nothing happens before.
    Until(Instant),
    /// Something must happen before it does anything.
    Blocked,
}

/// A connection's state.
#[derive(Debug, Default)]
pub(super) struct Wire {
    state: WireState,
    delay: Duration,
    to_listening: Direction,
    to_dialing: Direction,
}

/// Whether it carries anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WireState {
    #[default]
    Carrying,
    /// Nothing arrives, and nothing is lost.
    Held,
    Reset,
}

/// What one end has written and the other has not read.
#[derive(Debug, Default)]
struct Direction {
    /// In the order of their time.
    parcels: VecDeque<Parcel>,
    bytes: usize,
    writer: Writer,
}

#[derive(Debug)]
struct Parcel {
    due: Instant,
    bytes: BytesMut,
}

#[derive(Clone, Copy, Debug, Default)]
enum Writer {
    #[default]
    Writing,
    /// It writes no more, and goes on to read.
    Shut { end: Instant },
    /// Nor does it read, which the other end hears at the time `heard`.
    Gone { end: Instant, heard: Instant },
}

impl Writer {
    /// When the end is to be read.
    fn end(self) -> Option<Instant> {
        match self {
            Self::Writing => None,
            Self::Shut { end } | Self::Gone { end, .. } => Some(end),
        }
    }
}

impl Wire {
    /// Sets what the link does to it.
    pub(super) fn set_link(&mut self, held: bool, delay: Duration) {
        self.delay = delay;
        self.state = match self.state {
            WireState::Reset => WireState::Reset,
            _ if held => WireState::Held,
            _ => WireState::Carrying,
        };
    }

    pub(super) fn reset(&mut self) {
        self.state = WireState::Reset;
        self.to_listening.parcels.clear();
        self.to_dialing.parcels.clear();
    }

    /// Reads into the buffer; nothing read is the end.
    pub(super) fn read(
        &mut self,
        side: Side,
        now: Instant,
        into: &mut ReadBuf<'_>,
    ) -> Attempt<Result<()>> {
        match self.state {
            WireState::Reset => return Attempt::Done(Err(ErrorKind::ConnectionReset.into())),
            WireState::Held => return Attempt::Blocked,
            WireState::Carrying => {}
        }
        let incoming = self.written_by(side.other());
        if into.remaining() == 0 || incoming.read(now, into) > 0 {
            return Attempt::Done(Ok(()));
        }
        match incoming.next() {
            Some(due) if due > now => Attempt::Until(due),
            Some(_) => Attempt::Done(Ok(())),
            None => Attempt::Blocked,
        }
    }

    /// Writes as many of the bytes as there is room for.
    pub(super) fn write(
        &mut self,
        side: Side,
        now: Instant,
        bytes: &[u8],
    ) -> Attempt<Result<usize>> {
        if self.state == WireState::Reset {
            return Attempt::Done(Err(ErrorKind::ConnectionReset.into()));
        }
        let (state, delay) = (self.state, self.delay);
        let gone = match self.written_by(side.other()).writer {
            Writer::Gone { heard, .. } if state == WireState::Carrying => Some(heard),
            _ => None,
        };
        let outgoing = self.written_by(side);
        if gone.is_some_and(|due| due <= now) || !matches!(outgoing.writer, Writer::Writing) {
            return Attempt::Done(Err(Error::from(ErrorKind::BrokenPipe)));
        }
        let room = bytes.len().min(CAPACITY - outgoing.bytes);
        if room > 0 || bytes.is_empty() {
            outgoing.write(now, delay, &bytes[..room]);
            return Attempt::Done(Ok(room));
        }
        gone.map_or(Attempt::Blocked, Attempt::Until)
    }

    /// Ends what this end writes.
    pub(super) fn shut_down(&mut self, side: Side, now: Instant) -> Result<()> {
        if self.state == WireState::Reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let delay = self.delay;
        let outgoing = self.written_by(side);
        if matches!(outgoing.writer, Writer::Writing) {
            let end = outgoing.due(now, delay);
            outgoing.writer = Writer::Shut { end };
        }
        Ok(())
    }

    /// Ends what this end writes and reads.
    pub(super) fn leave(&mut self, side: Side, now: Instant) {
        let delay = self.delay;
        let outgoing = self.written_by(side);
        let heard = outgoing.due(now, delay);
        let end = outgoing.writer.end().unwrap_or(heard);
        outgoing.writer = Writer::Gone { end, heard };
    }

    fn written_by(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Dialing => &mut self.to_listening,
            Side::Listening => &mut self.to_dialing,
        }
    }
}

impl Direction {
    fn read(&mut self, now: Instant, into: &mut ReadBuf<'_>) -> usize {
        let before = self.bytes;
        while let Some(parcel) = self.parcels.front_mut()
            && parcel.due <= now
            && into.remaining() > 0
        {
            let count = parcel.bytes.len().min(into.remaining());
            into.put_slice(&parcel.bytes[..count]);
            parcel.bytes.advance(count);
            self.bytes -= count;
            if parcel.bytes.is_empty() {
                self.parcels.pop_front();
            }
        }
        before - self.bytes
    }

    fn write(&mut self, now: Instant, delay: Duration, bytes: &[u8]) {
        let due = self.due(now, delay);
        self.bytes += bytes.len();
        match self.parcels.back_mut() {
            // The same to every reader, who comes now or later.
            Some(last) if last.due.max(now) == due => last.bytes.extend_from_slice(bytes),
            _ if bytes.is_empty() => {}
            _ => self.parcels.push_back(Parcel {
                due,
                bytes: bytes.into(),
            }),
        }
    }

    /// When what is sent now arrives: never before what was sent before it.
    fn due(&self, now: Instant, delay: Duration) -> Instant {
        let last = self.parcels.back().map(|it| it.due);
        let last = self.writer.end().or(last);
        last.map_or(now + delay, |last| last.max(now + delay))
    }

    /// When the next byte, or the end, is to be read; `None` is not known.
    fn next(&self) -> Option<Instant> {
        let parcel = self.parcels.front().map(|it| it.due);
        parcel.or(self.writer.end())
    }
}
