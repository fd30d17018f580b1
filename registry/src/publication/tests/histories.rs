//! What holds whatever happens: random histories against the small etcd.

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::transitions::Transitions;

#[derive(Debug, Clone)]
enum Event {
    Answer,
    LoseAnswer {
        applied: bool,
    },
    Deny,
    LoseLease,
    Expire,
    /// Another process puts a record there.
    Newcomer {
        same_server: bool,
    },
    NewcomerLeaves,
    Delete,
    Spoil,
    See,
    LoseSight,
    Reachable,
    Update(usize),
    /// Another publication of the same registry comes.
    Rival,
    RivalLeaves,
    Pause,
    Resume,
    Stop,
    Pass(u64),
}

fn events() -> impl Strategy<Value = (IdKind, Vec<Event>)> {
    let event = prop_oneof![
        12 => Just(Event::Answer),
        3 => any::<bool>().prop_map(|applied| Event::LoseAnswer { applied }),
        1 => Just(Event::Deny),
        1 => Just(Event::LoseLease),
        1 => Just(Event::Expire),
        2 => any::<bool>().prop_map(|same_server| Event::Newcomer { same_server }),
        1 => Just(Event::NewcomerLeaves),
        1 => Just(Event::Delete),
        1 => Just(Event::Spoil),
        3 => Just(Event::See),
        1 => Just(Event::LoseSight),
        1 => Just(Event::Reachable),
        2 => (0usize..3).prop_map(Event::Update),
        1 => Just(Event::Rival),
        1 => Just(Event::RivalLeaves),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        3 => (1u64..12_000).prop_map(Event::Pass),
    ];
    let events = proptest::collection::vec(event, 1..80);
    let stops = prop_oneof![4 => Just(None), 1 => Just(Some(Event::Stop))];
    let id = prop_oneof![2 => Just(IdKind::Derived), 1 => Just(IdKind::Given)];
    (id, events, stops).prop_map(|(id, mut events, stops)| {
        events.extend(stops);
        (id, events)
    })
}

/// A publication, and what it is asked for.
struct World {
    fixture: Fixture,
    id: IdKind,
    lease: LeaseId,
    key: &'static str,
    wants: Want,
}

impl World {
    fn new(id: IdKind) -> Self {
        Self {
            fixture: Fixture::new(id),
            id,
            lease: OURS,
            key: "a",
            wants: Want::Present,
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), TestCaseError> {
        let (fixture, key, lease) = (&mut self.fixture, self.key, self.lease);
        match event {
            Event::Answer => {
                let step = fixture.next();
                if let Step::Write(write) = &step {
                    Self::check(write, lease)?;
                }
                fixture.answer(step);
            }
            Event::LoseAnswer { applied } => {
                let step = fixture.next();
                if let (true, Step::Write(write)) = (applied, &step)
                    && fixture.leases.contains(&write.lease)
                {
                    fixture.apply(write);
                }
                if matches!(step, Step::Read { .. } | Step::Write(_)) {
                    let (now, rng) = (fixture.now, &mut fixture.rng);
                    fixture.publication.failed(&step, cause(), now, rng);
                }
            }
            Event::Deny => {
                if matches!(fixture.next(), Step::Write(_)) {
                    fixture.publication.denied(cause(), fixture.now);
                }
            }
            Event::LoseLease => {
                fixture.lose_lease(lease);
                self.lease += 1;
                fixture.leases.push(self.lease);
                // What the rival had was under that lease too: it puts it again.
                if self.rival_has_it() {
                    self.rival_puts();
                }
                let (fixture, lease) = (&mut self.fixture, self.lease);
                fixture.publication.session(held(lease, fixture.now), None);
            }
            Event::Expire => {
                let expired = lease::Standing::Expired { id: lease };
                fixture
                    .publication
                    .session(expired, Some(Trouble::Passing(cause())));
                let step = fixture.next();
                let puts = matches!(&step, Step::Write(Write { put: Some(_), .. }));
                prop_assert!(!puts, "a put under a lease that may have expired");
                fixture.publication.session(held(lease, fixture.now), None);
            }
            Event::Newcomer { same_server } => fixture.put(key, "new", THEIRS, same_server),
            Event::NewcomerLeaves => {
                let is_theirs = |found: &Found| found.lease == THEIRS;
                if fixture.keys.get(key).is_some_and(is_theirs) {
                    fixture.delete(key);
                }
            }
            Event::Delete => fixture.delete(key),
            Event::Spoil => fixture.put(key, "garbage", 0, false),
            Event::See => fixture.see(key),
            Event::LoseSight => fixture.publication.lost_sight(key),
            Event::Reachable => fixture.publication.reachable(),
            Event::Update(which) => {
                if self.rival_has_it() {
                    self.fixture.delete(key);
                }
                self.key = ["a", "b", "c"][which];
                self.fixture.turn = Turn::Ours;
                let record = record(self.key, "1");
                self.fixture.publication.update(record, self.id);
            }
            Event::Rival => {
                if fixture.turn == Turn::Ours && fixture.publication.claims().is_some() {
                    fixture.turn = Turn::Asked(Conflict::Superseded);
                }
            }
            Event::RivalLeaves => {
                if self.rival_has_it() {
                    self.fixture.delete(key);
                }
                self.fixture.turn = Turn::Ours;
            }
            Event::Pause => {
                self.wants = Want::Paused;
                fixture.publication.pause();
            }
            Event::Resume => {
                self.wants = Want::Present;
                fixture.publication.resume();
            }
            Event::Stop => {
                self.wants = Want::Stopped;
                fixture.publication.stop();
            }
            Event::Pass(millis) => fixture.now += Duration::from_millis(millis),
        }
        self.fixture.next();
        if self.fixture.publication.let_go() {
            self.fixture.turn = Turn::Theirs(Conflict::Superseded);
            self.rival_puts();
        }
        Ok(())
    }

    fn check(write: &Write, lease: LeaseId) -> Result<(), TestCaseError> {
        prop_assert_eq!(write.lease, lease, "under another lease than the session's");
        Ok(())
    }

    fn rival_has_it(&self) -> bool {
        matches!(self.fixture.turn, Turn::Theirs(_))
    }

    fn rival_puts(&mut self) {
        let (key, lease) = (self.key, self.lease);
        self.fixture.put(key, "rival", lease, true);
    }

    /// The keys of the publication itself.
    fn ours(&self) -> Vec<&str> {
        let is_ours = |found: &Found| found.lease == self.lease && found.value != b"rival";
        let ours = self.fixture.keys.iter().filter(|(_, it)| is_ours(it));
        ours.map(|(key, _)| key.as_str()).collect()
    }

    /// How the publication is, and what it knows of its key, in a word each.
    fn state(&self) -> (&'static str, &'static str) {
        let publication = &self.fixture.publication;
        let status = match publication.status() {
            Status::Registering => "Registering",
            Status::Published { .. } => "Published",
            Status::Paused => "Paused",
            Status::Retrying { .. } => "Retrying",
            Status::Superseded => "Superseded",
            Status::IdTaken { .. } => "IdTaken",
            Status::Denied { .. } => "Denied",
            Status::Stopped => "Stopped",
        };
        let known = match publication.keys.found(self.key) {
            _ if publication.keys.is_unknown(self.key) => "Unknown",
            None => "Absent",
            Some(found) if found.lease == self.lease => "Ours",
            Some(found) if found.lease == 0 => "Spoiled",
            Some(_) => "Theirs",
        };
        (status, known)
    }
}

/// How a publication's status changes; `Stopped` is its end.
const STATUS: &str = "
    Registering -> Published Paused Retrying Superseded IdTaken Denied Stopped
    Published   -> Registering Retrying Superseded IdTaken
    Retrying    -> Registering Published Paused Superseded IdTaken Denied
    Denied      -> Registering Published Paused Retrying Superseded
    Superseded  -> Registering Published Paused Retrying Stopped
    IdTaken     -> Registering Paused Retrying Superseded
    Paused      -> Registering Retrying Superseded IdTaken Stopped
    Stopped     ->
";

/// How that changes which is known of its key.
const KNOWN: &str = "
    Unknown -> Absent Ours Theirs Spoiled
    Absent  -> Unknown Ours Theirs Spoiled
    Ours    -> Unknown Absent Theirs Spoiled
    Theirs  -> Unknown Absent Ours Spoiled
    Spoiled -> Unknown Absent Ours Theirs
";

/// Whatever happens: never two keys of one publication at any revision, never a put under another
/// lease than the one that the session holds; and when it ends, what is wanted stands, or another
/// one has the key.
#[test]
fn never_two_keys_and_in_the_end_what_is_wanted() {
    let (status, known) = (Transitions::default(), Transitions::default());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(10_000));
    let run = runner.run(&events(), |(id, events)| {
        let mut world = World::new(id);
        for event in events {
            let before = world.state();
            world.happen(event)?;
            let after = world.state();
            status.record(before.0, after.0);
            known.record(before.1, after.1);
            let ours = world.ours();
            prop_assert!(ours.len() <= 1, "two keys: {ours:?}");
        }
        // All faults end, every change is seen.
        for _ in 0..20 {
            for key in ["a", "b", "c"] {
                world.fixture.see(key);
            }
            world.happen(Event::Answer)?;
        }
        let (ours, key) = (world.ours(), world.key);
        match (world.wants, world.fixture.publication.status()) {
            (Want::Present, Status::Published { .. }) => prop_assert_eq!(ours, [key]),
            (Want::Present, Status::Superseded) if world.rival_has_it() => {
                prop_assert!(ours.is_empty())
            }
            (Want::Present, Status::Superseded | Status::IdTaken { .. }) => {
                prop_assert!(ours.is_empty());
                prop_assert_eq!(world.fixture.keys[key].lease, THEIRS);
            }
            (Want::Paused, Status::Paused) | (Want::Stopped, Status::Stopped) => {
                prop_assert!(ours.is_empty(), "{:?}", ours)
            }
            (wants, status) => prop_assert!(false, "{wants:?}: {status:?}"),
        }
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    status.assert_reached(STATUS);
    known.assert_reached(KNOWN);
}
