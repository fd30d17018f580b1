//! Random histories of one connection, beside what must hold of any.

use proptest::prelude::*;

use super::*;

/// What happens to a connection.
#[derive(Clone, Debug)]
enum Event {
    Write(Side, usize),
    Read(Side, usize),
    ShutDown(Side),
    Leave(Side),
    Cut,
    Heal,
    Delay(u64),
    Wait(u64),
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Dialing), Just(Side::Listening)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (side(), 0..CAPACITY).prop_map(|(side, count)| Event::Write(side, count)),
        8 => (side(), 1..CAPACITY).prop_map(|(side, count)| Event::Read(side, count)),
        1 => side().prop_map(Event::ShutDown),
        1 => side().prop_map(Event::Leave),
        2 => Just(Event::Cut),
        3 => Just(Event::Heal),
        2 => (0..50_u64).prop_map(Event::Delay),
        4 => (0..50_u64).prop_map(Event::Wait),
    ]
}

/// What one end wrote, and what the other has read of it: each byte's number, modulo 251, tells
/// its place.
#[derive(Debug, Default)]
struct Told {
    /// How many bytes were written up to each write, and when the last of these is due.
    written: Vec<(usize, Instant)>,
    read: usize,
    end: Option<Instant>,
    gone: Option<Instant>,
    /// What the reader and the writer were told to wait for, unless somebody woke them since.
    reader: Option<Wait>,
    writer: Option<Wait>,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    Blocked,
    Until(Instant),
}

impl Told {
    fn count(&self) -> usize {
        self.written.last().map_or(0, |it| it.0)
    }

    /// How many bytes have arrived by now, were none of them held.
    fn arrived(&self, now: Instant) -> usize {
        let due = self.written.iter().filter(|it| it.1 <= now);
        due.map(|it| it.0).max().unwrap_or(0)
    }

    fn last_due(&self) -> Option<Instant> {
        self.end.or(self.written.last().map(|it| it.1))
    }
}

fn place(count: usize) -> u8 {
    u8::try_from(count % 251).expect("less than 251")
}

struct History {
    wire: Wire,
    now: Instant,
    held: bool,
    delay: Duration,
    told: [Told; 2],
}

impl History {
    fn new() -> Self {
        Self {
            wire: Wire::default(),
            now: Instant::now(),
            held: false,
            delay: Duration::ZERO,
            told: Default::default(),
        }
    }

    fn by(&mut self, writer: Side) -> &mut Told {
        &mut self.told[writer as usize]
    }

    fn due(&mut self, writer: Side) -> Instant {
        let due = self.now + self.delay;
        let last = self.by(writer).last_due();
        last.map_or(due, |last| last.max(due))
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Write(side, count) => self.write(side, count),
            Event::Read(side, count) => self.read(side, count),
            Event::ShutDown(side) if self.by(side).gone.is_none() => {
                let end = self.due(side);
                self.wire.shut_down(side, self.now).expect("no reset");
                self.by(side).end.get_or_insert(end);
                self.by(side).reader = None;
                // Who shuts down does not write any more, nor wait to.
                self.by(side).writer = None;
            }
            Event::Leave(side) if self.by(side).gone.is_none() => {
                let gone = self.due(side);
                self.wire.leave(side, self.now);
                self.by(side).end.get_or_insert(gone);
                self.by(side).gone = Some(gone);
                self.by(side).reader = None;
                self.by(side.other()).writer = None;
                // Who leaves waits for nothing.
                self.by(side).writer = None;
                self.by(side.other()).reader = None;
            }
            Event::ShutDown(_) | Event::Leave(_) => {}
            Event::Cut | Event::Heal | Event::Delay(_) => {
                match *event {
                    Event::Cut => self.held = true,
                    Event::Heal => self.held = false,
                    Event::Delay(delay) => self.delay = Duration::from_millis(delay),
                    _ => unreachable!(),
                }
                self.wire.set_link(self.held, self.delay);
                for told in &mut self.told {
                    (told.reader, told.writer) = (None, None);
                }
            }
            Event::Wait(time) => self.now += Duration::from_millis(time),
        }
        self.nobody_waits_in_vain();
    }

    fn write(&mut self, side: Side, count: usize) {
        let (now, held, due) = (self.now, self.held, self.due(side));
        if self.by(side).gone.is_some() {
            return;
        }
        let start = self.by(side).count();
        let bytes: Vec<u8> = (start..start + count).map(place).collect();
        let gone = self.by(side.other()).gone;
        let attempt = self.wire.write(side, now, &bytes);
        let told = self.by(side);
        let room = CAPACITY - (start - told.read);
        match attempt {
            Attempt::Done(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                let heard = !held && gone.is_some_and(|gone| gone <= now);
                assert!(heard || told.end.is_some(), "broken without a reason");
            }
            Attempt::Done(Ok(written)) => {
                assert!(told.end.is_none(), "wrote after the end");
                assert!(held || gone.is_none_or(|gone| gone > now), "nobody reads");
                assert_eq!(written, count.min(room));
                if written > 0 {
                    told.written.push((start + written, due));
                }
                told.reader = None;
            }
            Attempt::Until(time) => {
                assert_eq!((room, Some(time)), (0, gone));
                told.writer = Some(Wait::Until(time));
            }
            Attempt::Blocked => {
                assert_eq!(room, 0);
                told.writer = Some(Wait::Blocked);
            }
        }
    }

    fn read(&mut self, side: Side, count: usize) {
        if self.by(side).gone.is_some() {
            return;
        }
        let mut bytes = vec![0; count];
        let mut into = ReadBuf::new(&mut bytes);
        let (now, held) = (self.now, self.held);
        let attempt = self.wire.read(side, now, &mut into);
        let told = self.by(side.other());
        let arrived = told.arrived(now) - told.read;
        match attempt {
            Attempt::Done(done) => {
                done.expect("no reset");
                assert!(!held, "read what is held");
                let read = into.filled();
                assert_eq!(read.len(), arrived.min(count), "late, or early");
                let places = (told.read..told.read + read.len()).map(place);
                assert!(read.iter().copied().eq(places), "not in order");
                if read.is_empty() {
                    assert!(told.end.is_some_and(|end| end <= now), "no end yet");
                    assert_eq!(told.read, told.count(), "the end before the last byte");
                }
                told.read += read.len();
                told.writer = None;
            }
            Attempt::Until(time) => {
                assert!(!held && arrived == 0 && time > now);
                told.reader = Some(Wait::Until(time));
            }
            Attempt::Blocked => {
                assert!(held || (arrived == 0 && told.end.is_none()));
                told.reader = Some(Wait::Blocked);
            }
        }
    }

    /// Nobody who waits, with no waker's call and no timer's, could go on.
    fn nobody_waits_in_vain(&mut self) {
        for side in [Side::Dialing, Side::Listening] {
            let now = self.now;
            let waits = |wait: Option<Wait>| match wait {
                Some(Wait::Blocked) => true,
                Some(Wait::Until(time)) => time > now,
                None => false,
            };
            if waits(self.by(side).writer) {
                let attempt = self.wire.write(side, now, &[0]);
                assert!(!matches!(attempt, Attempt::Done(_)), "writes unwoken");
            }
            let mut byte = [0];
            if waits(self.by(side.other()).reader) {
                let attempt = self.wire.read(side, now, &mut ReadBuf::new(&mut byte));
                assert!(!matches!(attempt, Attempt::Done(_)), "reads unwoken");
            }
        }
    }

    /// Heals the link, and reads all.
    fn end(mut self) {
        self.step(&Event::Heal);
        self.step(&Event::Wait(60_000));
        for side in [Side::Dialing, Side::Listening] {
            while self.by(side.other()).gone.is_none() {
                let before = self.by(side).read;
                self.step(&Event::Read(side.other(), CAPACITY));
                if self.by(side).read == before {
                    assert_eq!(before, self.by(side).count(), "lost");
                    break;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes_arrive_once_in_order_in_time_and_all_of_them(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let mut history = History::new();
        for event in &events {
            history.step(event);
        }
        history.end();
    }
}

#[test]
fn many_small_writes_are_kept_together() {
    let mut wire = Wire::default();
    let now = Instant::now();
    for count in 0..1000 {
        let now = now + Duration::from_millis(count);
        assert!(matches!(
            wire.write(Side::Dialing, now, b"x"),
            Attempt::Done(Ok(1))
        ));
    }
    assert_eq!(wire.to_listening.parcels.len(), 1);
}
