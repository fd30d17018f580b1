//! What holds whatever happens: random histories against the small etcd.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Answer,
    LoseAnswer { applied: bool },
    Deny,
    LoseLease,
    Expire,
    Newcomer,
    Delete,
    Spoil,
    See,
    Reachable,
    Update(usize),
    Pause,
    Resume,
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => Just(Event::Answer),
        3 => any::<bool>().prop_map(|applied| Event::LoseAnswer { applied }),
        1 => Just(Event::Deny),
        1 => Just(Event::LoseLease),
        1 => Just(Event::Expire),
        1 => Just(Event::Newcomer),
        1 => Just(Event::Delete),
        1 => Just(Event::Spoil),
        3 => Just(Event::See),
        1 => Just(Event::Reachable),
        2 => (0usize..3).prop_map(Event::Update),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        3 => (1u64..12_000).prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..80)
}

proptest! {
    /// Whatever happens: never two keys of one publication at any revision, never a put without a live lease; and when it
    /// ends, what is wanted stands, or a newer one of the same server does.
    #[test]
    fn never_two_keys_and_in_the_end_what_is_wanted(events in events()) {
        let mut fixture = Fixture::new(IdKind::Derived);
        let mut lease = OURS;
        let mut kept = "a";
        let mut wanted = Some(kept);
        for event in events {
            match event {
                Event::Answer => {
                    let step = fixture.next();
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
                        fixture.publication.failed(&step, cause(), fixture.now, &mut fixture.rng);
                    }
                }
                Event::Deny => {
                    if matches!(fixture.next(), Step::Write(_)) {
                        fixture.publication.denied(cause(), fixture.now);
                    }
                }
                Event::LoseLease => {
                    fixture.lose_lease(lease);
                    lease += 1;
                    fixture.leases.push(lease);
                    fixture.publication.session(held(lease, fixture.now), None);
                }
                Event::Expire => {
                    fixture.publication.session(lease::Standing::Expired { id: lease }, Some(cause()));
                    let step = fixture.next();
                    let puts = matches!(&step, Step::Write(Write { put: Some(_), .. }));
                    prop_assert!(!puts, "a put under a lease that may have expired");
                    fixture.publication.session(held(lease, fixture.now), None);
                }
                Event::Newcomer => fixture.put("a", "new", THEIRS, true),
                Event::Delete => fixture.delete("a"),
                Event::Spoil => fixture.put("a", "garbage", 0, false),
                Event::See => fixture.see("a"),
                Event::Reachable => fixture.publication.reachable(),
                Event::Update(which) => {
                    let key = ["a", "b", "c"][which];
                    kept = key;
                    wanted = wanted.map(|_| key);
                    fixture.publication.update(record(key, "1"), IdKind::Derived);
                }
                Event::Pause => {
                    wanted = None;
                    fixture.publication.pause();
                }
                Event::Resume => {
                    wanted = Some(kept);
                    fixture.publication.resume();
                }
                Event::Pass(millis) => fixture.now += Duration::from_millis(millis),
            }
            let ours: Vec<_> = fixture.keys.iter().filter(|(_, found)| found.lease == lease).collect();
            prop_assert!(ours.len() <= 1, "two keys: {ours:?}");
            prop_assert!(fixture.keys.values().all(|found| found.lease == 0 || fixture.leases.contains(&found.lease)));
        }
        // All faults end, every change is seen.
        for _ in 0..20 {
            for key in ["a", "b", "c"] {
                fixture.see(key);
            }
            let step = fixture.next();
            fixture.answer(step);
        }
        let ours: Vec<_> = fixture.keys.iter().filter(|(_, found)| found.lease == lease).map(|(key, _)| key.as_str()).collect();
        match fixture.publication.status() {
            Status::Published { .. } | Status::Paused => prop_assert_eq!(ours, Vec::from_iter(wanted)),
            Status::Superseded => prop_assert_eq!(fixture.keys["a"].lease, THEIRS),
            status => prop_assert!(false, "{status:?}"),
        }
    }
}
