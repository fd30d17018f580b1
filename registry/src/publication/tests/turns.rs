//! Turns at a key, among the publications of one registry.

use super::*;

#[test]
fn a_key_is_passed_on_to_a_newer_publication_of_the_registry_and_left_to_it() {
    let mut fixture = Fixture::published();
    fixture.turn = Turn::Asked(Conflict::Superseded);
    assert_eq!(fixture.next(), Step::Wait);
    assert!(fixture.publication.let_go());
    fixture.turn = Turn::Theirs(Conflict::Superseded);
    assert_eq!(fixture.next(), Step::Wait);
    assert!(matches!(fixture.publication.status(), Status::Superseded));
    assert_eq!(fixture.publication.watches(), None);
    fixture.put("a", "newer", OURS, true);
    fixture.see("a");
    fixture.publication.stop();
    fixture.settle();
    assert!(fixture.publication.is_done());
    assert_eq!(fixture.values(), [("a", "newer", OURS)]);
}

#[test]
fn a_key_that_is_passed_back_is_put_again() {
    let mut fixture = Fixture::published();
    fixture.turn = Turn::Asked(Conflict::Superseded);
    fixture.next();
    assert!(fixture.publication.let_go());
    fixture.turn = Turn::Theirs(Conflict::Superseded);
    fixture.put("a", "newer", OURS, true);
    fixture.next();
    fixture.turn = Turn::Ours;
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn a_key_is_not_passed_on_before_a_put_of_unknown_outcome_has_landed() {
    let mut fixture = Fixture::new(IdKind::Derived);
    let step = fixture.next();
    let Step::Write(late) = step.clone() else {
        panic!("{step:?}")
    };
    fixture.fail(&step);
    fixture.turn = Turn::Asked(Conflict::Superseded);
    fixture.next();
    assert!(!fixture.publication.let_go());
    let step = fixture.next();
    fixture.answer(step);
    assert!(!fixture.publication.let_go(), "it may yet land");
    assert!(fixture.apply(&late));
    let let_go = (0..20).any(|_| {
        let step = fixture.next();
        fixture.answer(step);
        fixture.publication.let_go()
    });
    assert!(let_go);
    assert_eq!(
        fixture.values(),
        [("a", "1", OURS)],
        "it stands until the newer one puts its own"
    );
}

#[test]
fn the_old_key_stays_while_the_new_one_is_about_to_be_passed_on() {
    let mut fixture = Fixture::published();
    fixture
        .publication
        .update(record("b", "2"), IdKind::Derived);
    fixture.turn = Turn::Next;
    assert_eq!(fixture.next(), Step::Wait);
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
    fixture.turn = Turn::Ours;
    fixture.settle();
    assert_eq!(fixture.values(), [("b", "2", OURS)]);
}

#[test]
fn who_no_longer_wants_a_key_that_another_session_holds_leaves_its_place_in_the_line() {
    for leaves in [
        Publication::pause,
        Publication::stop,
        |it: &mut Publication| it.update(record("b", "1"), IdKind::Derived),
    ] {
        let mut fixture = Fixture::published();
        fixture.put("a", "2", THEIRS, true);
        fixture.see("a");
        assert!(matches!(fixture.publication.status(), Status::Superseded));
        assert!(fixture.publication.concerns("a"));
        leaves(&mut fixture.publication);
        assert!(!fixture.publication.concerns("a"));
    }
}

#[test]
fn who_no_longer_wants_a_key_keeps_its_place_until_the_key_is_gone() {
    let mut fixture = Fixture::published();
    fixture.publication.pause();
    assert!(fixture.publication.concerns("a"));
    fixture.settle();
    assert!(!fixture.publication.concerns("a"));
}
