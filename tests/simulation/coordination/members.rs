//! Members that join and leave, and those who follow them.

use std::{collections::BTreeMap, time::Duration};

use switchboard::coordination::{Member, MemberChange, Members, MembersError, Membership};
use tokio::time::{sleep, timeout};

use super::{history::GROUP, process::Hands, script::Party, world::World};
use crate::trace::chain;

/// Returns a member's id, the same in all lives of its process.
pub(super) fn id(party: Party) -> String {
    format!("{party:?}")
}

/// Joins, changes and leaves, again and again; stays in the end, or away.
pub(super) async fn live(mut hands: Hands) {
    let (world, id) = (hands.world.clone(), id(hands.party));
    loop {
        let (member, who) = member(&world, &id);
        let claim = |who| world.state().members.insert(id.clone(), who);
        claim(who);
        let membership = Members::join(&hands.registry, GROUP, member).expect("a name");
        let patience = Duration::from_millis(hands.rng.u64(10..5_000));
        if let Ok(Err(error)) = timeout(patience, membership.joined()).await {
            world.excused(format!("{id} has not joined: {}", chain(&error)));
        }
        wait(&mut hands, 6_000).await;
        if hands.rng.bool() && !world.is_over() {
            let (member, who) = self::member(&world, &id);
            claim(who);
            let updated = timeout(Duration::from_secs(3), membership.update(member)).await;
            if let Ok(Err(error)) = updated {
                world.excused(format!("{id} is not updated: {}", chain(&error)));
            }
            wait(&mut hands, 3_000).await;
        }
        if world.is_over() {
            return stay(membership).await;
        }
        world.state().members.remove(&id);
        match hands.rng.bool() {
            true => {
                if let Err(error) = membership.leave().await {
                    world.excused(format!("{id} has not left: {}", chain(&error)));
                }
            }
            false => drop(membership),
        }
        if hands.rng.bool() {
            wait(&mut hands, 3_000).await;
        }
        if world.is_over() {
            return;
        }
    }
}

async fn stay(membership: Membership) {
    std::future::pending::<()>().await;
    drop(membership);
}

async fn wait(hands: &mut Hands, most: u64) {
    let time = Duration::from_millis(hands.rng.u64(10..most));
    let _ = timeout(time, hands.world.over().cancelled()).await;
}

fn member(world: &World, id: &str) -> (Member, String) {
    let who = format!("{id} {}", world.number());
    let member = Member::new(id).expect("an id").with_metadata("who", &who);
    (member, who)
}

/// Follows who is a member, and now and then does so anew.
pub(super) async fn follow(mut hands: Hands) {
    let (world, name) = (hands.world.clone(), hands.name.clone());
    loop {
        let waits = Some("to follow".to_owned());
        world.state().waits(&name, waits);
        let mut members = match Members::follow(&hands.registry, GROUP).await {
            Ok(members) => members,
            Err(error) => {
                world.excused(format!("{name} cannot follow: {}", chain(&error)));
                if is_closed(&error) {
                    return world.state().waits(&name, None);
                }
                sleep(Duration::from_millis(300)).await;
                continue;
            }
        };
        let mut seen: BTreeMap<_, _> = members.current().map(entry).collect();
        let mut left = hands.rng.u32(1..60);
        while left > 0 || world.is_over() {
            {
                let mut state = world.state();
                let waits = || format!("to see {:?} instead of {seen:?}", state.members);
                let waits = (seen != state.members || members.staleness().is_some()).then(waits);
                state.waits(&name, waits);
            }
            let limit = Duration::from_millis(hands.rng.u64(1..300));
            let changes = match timeout(limit, members.changed()).await {
                Err(_) => continue,
                Ok(Err(_)) => return world.state().waits(&name, None),
                Ok(Ok(changes)) => changes,
            };
            left = left.saturating_sub(1);
            world.trace().write(format_args!("{name} sees {changes:?}"));
            for change in changes {
                if let Some(wrong) = take(&world, &mut seen, &change) {
                    world.violation(format!("{name}: {wrong}: {change:?}"));
                }
            }
            let current: BTreeMap<_, _> = members.current().map(entry).collect();
            if current != seen {
                world.violation(format!("{name} is told {seen:?} and shown {current:?}"));
            }
        }
    }
}

fn is_closed(error: &MembersError) -> bool {
    use switchboard::DiscoverError;
    matches!(error, MembersError::Follow(DiscoverError::Closed))
}

fn entry(member: &Member) -> (String, String) {
    (member.id().to_string(), member.metadata()["who"].clone())
}

/// Takes in a change; says what is wrong with it.
fn take(
    world: &World,
    seen: &mut BTreeMap<String, String>,
    change: &MemberChange,
) -> Option<&'static str> {
    let (MemberChange::Joined(member) | MemberChange::Updated(member) | MemberChange::Left(member)) =
        change
    else {
        return Some("what is that");
    };
    let (id, who) = entry(member);
    if !world.state().history.seen_members.contains(&who) {
        return Some("never was a member");
    }
    let was = match change {
        MemberChange::Left(_) => seen.remove(&id),
        _ => seen.insert(id, who.clone()),
    };
    let is_right = match change {
        MemberChange::Joined(_) => was.is_none(),
        MemberChange::Left(_) => was.as_ref() == Some(&who),
        _ => was.is_some_and(|was| was != who),
    };
    (!is_right).then_some("does not follow from what was")
}
