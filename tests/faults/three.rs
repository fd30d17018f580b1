//! What befalls the members of an etcd of three.

use std::time::Duration;

use switchboard_test_support::Cluster;
use tokio::time::{Instant, sleep_until};

use crate::scene::{LONG, Scene, Seen};

/// Does something to each member in turn, so also to the leader and to those whom watches are with,
/// and undoes it when it has lasted. Others are asked meanwhile.
async fn each_in_turn(
    scene: &mut Scene,
    begin: impl AsyncFn(&mut Scene, usize),
    meanwhile: impl AsyncFn(),
    end: impl AsyncFn(&mut Scene, usize),
) -> Seen {
    let mut seen = Seen::default();
    for member in 0..scene.cluster.members() {
        scene.turn_to((member + 1) % 3).await;
        let began = Instant::now();
        begin(scene, member).await;
        let (it_was, ()) = tokio::join!(scene.well(began), meanwhile());
        seen = seen.or_worse(it_was);
        sleep_until(began + LONG).await;
        let ended = Instant::now();
        end(scene, member).await;
        seen = seen.or_worse(scene.well(ended).await);
        scene.cluster.healthy().await;
        seen = seen.or_worse(scene.well(Instant::now()).await);
    }
    seen
}

/// Nobody asks anything of etcd but those who always do.
async fn nothing() {}

pub(crate) async fn killed(scene: &mut Scene) -> Seen {
    kill_each(scene, nothing).await
}

pub(crate) async fn kill_each(scene: &mut Scene, meanwhile: impl AsyncFn()) -> Seen {
    let kill = async |scene: &mut Scene, member| scene.cluster.kill(member);
    let restart = async |scene: &mut Scene, member| scene.cluster.restart(member).await;
    each_in_turn(scene, kill, meanwhile, restart).await
}

pub(crate) async fn frozen(scene: &mut Scene) -> Seen {
    freeze_each(scene, nothing).await
}

pub(crate) async fn freeze_each(scene: &mut Scene, meanwhile: impl AsyncFn()) -> Seen {
    let freeze = async |scene: &mut Scene, member| scene.cluster.freeze(member);
    let thaw = async |scene: &mut Scene, member| scene.cluster.thaw(member);
    each_in_turn(scene, freeze, meanwhile, thaw).await
}

/// The others are cut off from it, and it is asked on.
pub(crate) async fn isolated(scene: &mut Scene) -> Seen {
    let isolate = async |scene: &mut Scene, member| scene.cluster.isolate(member).await;
    let rejoin = async |scene: &mut Scene, _| scene.cluster.rejoin();
    each_in_turn(scene, isolate, nothing, rejoin).await
}

/// It is cut off from its clients, and from nobody else.
pub(crate) async fn cut_off(scene: &mut Scene) -> Seen {
    let cut = async |scene: &mut Scene, member: usize| scene.cluster.relay(member).cut();
    let heal = async |scene: &mut Scene, member: usize| scene.cluster.relay(member).heal();
    each_in_turn(scene, cut, nothing, heal).await
}

/// It loses its disk, and another one takes its place.
pub(crate) async fn replaced(scene: &mut Scene) -> Seen {
    let replace = async |scene: &mut Scene, member| scene.cluster.replace(member).await;
    each_in_turn(scene, replace, nothing, async |_, _| {}).await
}

/// All are restarted, one after another, as one does who brings a new version.
pub(crate) async fn restarted(scene: &mut Scene) -> Seen {
    let began = Instant::now();
    for member in 0..3 {
        scene.cluster.restart(member).await;
        scene.cluster.healthy().await;
    }
    scene.turn_to(0).await;
    let seen = scene.well(Instant::now()).await;
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    seen
}

pub(crate) async fn leader_moved(scene: &mut Scene) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..5 {
        let to = (scene.cluster.leader().await + 1) % 3;
        let began = Instant::now();
        scene.cluster.move_leader(to).await;
        seen = seen.or_worse(scene.well(began).await);
    }
    seen
}

/// Does something to members at once, and undoes it when it has lasted.
async fn at_once(
    scene: &mut Scene,
    members: usize,
    begin: impl Fn(&mut Cluster, usize),
    end: impl Fn(&mut Cluster, usize),
) -> Seen {
    scene.turn_to(2).await;
    let began = Instant::now();
    (0..members).for_each(|member| begin(&mut scene.cluster, member));
    scene.away(began).await;
    (0..members).for_each(|member| end(&mut scene.cluster, member));
    scene.cluster.healthy().await;
    scene.well(Instant::now()).await
}

/// Two are killed, and the third decides nothing.
pub(crate) async fn quorum_lost(scene: &mut Scene) -> Seen {
    at_once(scene, 2, Cluster::kill, Cluster::launch).await
}

/// Two stand still, and the third decides nothing.
pub(crate) async fn quorum_frozen(scene: &mut Scene) -> Seen {
    at_once(scene, 2, Cluster::freeze, Cluster::thaw).await
}

/// All are killed at once, and come back.
pub(crate) async fn all_killed(scene: &mut Scene) -> Seen {
    at_once(scene, 3, Cluster::kill, Cluster::launch).await
}
