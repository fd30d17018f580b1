//! Replicas of the configurations: what each shows must be what etcd held, in the order in which it
//! held it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use switchboard::coordination::{
    Config, ConfigBuilder, ConfigError, ConfigState, Failure, InvalidConfig,
};
use tokio::time::{sleep, timeout};

use super::{
    history::{AT, BELOW, Content, FIELDS, History, LIMIT, Life, Track},
    process::Hands,
    writers::Limits,
};
use crate::trace::chain;

/// What is below a key.
type Fields = BTreeMap<String, Limits>;

/// A configuration that says a number.
trait Counted: for<'de> serde::Deserialize<'de> + Default + Debug + Send + Sync + 'static {
    const NAME: &'static str;

    fn builder(hands: &Hands) -> Result<ConfigBuilder<Self>, ConfigError>;

    /// Returns the number; 0 is the default's. `None` if it says several.
    fn number(&self) -> Option<u64>;

    fn track(life: &Life) -> &Track<Content>;
}

impl Counted for Limits {
    const NAME: &'static str = "at";

    fn builder(hands: &Hands) -> Result<ConfigBuilder<Self>, ConfigError> {
        Config::at(&hands.registry, AT)
    }

    fn number(&self) -> Option<u64> {
        Some(self.get("counter").copied().unwrap_or(0))
    }

    fn track(life: &Life) -> &Track<Content> {
        &life.at
    }
}

impl Counted for Fields {
    const NAME: &'static str = "below";

    fn builder(hands: &Hands) -> Result<ConfigBuilder<Self>, ConfigError> {
        Config::below(&hands.registry, BELOW)
    }

    fn number(&self) -> Option<u64> {
        let [a, b, c] = FIELDS.map(|field| self.get(field).and_then(|it| it.get("n")));
        (a == b && b == c).then(|| a.copied().unwrap_or(0))
    }

    fn track(life: &Life) -> &Track<Content> {
        &life.below
    }
}

pub(super) async fn behave(mut hands: Hands) {
    let (mut one, mut other) = (hands.rng.fork(), hands.rng.fork());
    tokio::join!(
        replicate::<Limits>(&hands, &mut one),
        replicate::<Fields>(&hands, &mut other),
    );
}

/// Loads and follows, and now and then does so anew.
async fn replicate<T: Counted>(hands: &Hands, rng: &mut Rng) {
    let (world, who) = (&hands.world, format!("{} {}", hands.name, T::NAME));
    loop {
        let waits = Some("to be loaded".to_owned());
        world.state().waits(&who, waits);
        let (life, has_default) = (world.state().history.life(), rng.bool());
        let builder = T::builder(hands).expect("a key").limit(LIMIT);
        let builder = match has_default {
            true => builder.default(T::default()),
            false => builder,
        };
        let config = match builder.load().await {
            Ok(config) => config,
            Err(error) => {
                let is_closed = matches!(
                    &error,
                    ConfigError::Etcd {
                        cause: Failure::Closed,
                        ..
                    }
                );
                match error {
                    ConfigError::Invalid(_) => {}
                    _ => world.excused(format!("{who} is not loaded: {}", chain(&error))),
                }
                if is_closed {
                    return world.state().waits(&who, None);
                }
                sleep(Duration::from_millis(300)).await;
                continue;
            }
        };
        let sight = Sight::<T>::new(life, has_default, config.current());
        // A handle that goes takes nothing with it that others have.
        let other = config.clone();
        let changing = changing(hands, &who, config);
        let longest = Duration::from_millis(rng.u64(100..20_000));
        tokio::select! {
            biased;
            () = watching(hands, &who, &other, sight) => return,
            () = changing => return,
            () = until(hands, longest) => {}
        }
    }
}

/// Looks at all that is shown.
async fn watching<T: Counted>(hands: &Hands, who: &str, config: &Config<T>, mut sight: Sight<T>) {
    let world = &hands.world;
    let mut state = config.state();
    loop {
        let verdict = {
            let (mut checked, shown) = (world.state(), state.borrow_and_update());
            let verdict = sight.take(&checked.history, &shown);
            let waits = sight.waits(&checked.history, &shown);
            checked.waits(who, waits);
            verdict
        };
        world
            .trace()
            .write(format_args!("{who}: {}", sight.shown()));
        if let Err(wrong) = verdict {
            world.violation(format!("{who}: {wrong}"));
        }
        let changed = match world.is_over() {
            // What the store holds goes on changing for a while.
            true => timeout(Duration::from_millis(100), state.changed()).await,
            false => Ok(state.changed().await),
        };
        if matches!(changed, Ok(Err(_))) {
            return world.state().waits(who, None);
        }
    }
}

/// Sees that what `changed` returns never goes back.
async fn changing<T: Counted>(hands: &Hands, who: &str, mut config: Config<T>) {
    let mut last = None;
    while let Ok(value) = config.changed().await {
        let wrong = {
            let history = &hands.world.state().history;
            let place = |number: u64| {
                let good = Content::Good(number);
                let of = |(life, it): (usize, &Life)| {
                    let at = T::track(it).iter().find(|(_, content)| **content == good);
                    at.map(|(revision, _)| (life, *revision))
                };
                history.lives.iter().enumerate().find_map(of)
            };
            match value.number() {
                None => Some(format!("{value:?} never was")),
                // The default has no place of its own.
                Some(0) => None,
                Some(number) => {
                    let (at, was) = (place(number), last);
                    last = at.or(last);
                    (at.is_none() || at <= was).then(|| format!("{at:?} comes after {was:?}"))
                }
            }
        };
        if let Some(wrong) = wrong {
            hands.world.violation(format!("{who}: {wrong}"));
        }
    }
}

/// Waits that long; for ever, once all come to rest.
async fn until(hands: &Hands, longest: Duration) {
    tokio::select! {
        biased;
        () = hands.world.over().cancelled() => std::future::pending().await,
        () = sleep(longest) => {}
    }
}

/// What a replica has shown last, and where in the store's history that is.
struct Sight<T> {
    /// Not before this life, and this revision of it.
    life: usize,
    revision: i64,
    value: Arc<T>,
    has_default: bool,
    rejected: Option<Arc<InvalidConfig>>,
    /// Which bad values were reported.
    reported: BTreeSet<(usize, i64)>,
}

impl<T: Counted> Sight<T> {
    fn new(life: usize, has_default: bool, value: Arc<T>) -> Self {
        Self {
            life,
            revision: 0,
            value,
            has_default,
            rejected: None,
            reported: BTreeSet::new(),
        }
    }

    /// Takes in what is shown now; says what is wrong with it.
    fn take(&mut self, history: &History, shown: &ConfigState<T>) -> Result<(), String> {
        let Some(number) = shown.value.number() else {
            return Err(format!("{:?} never was", shown.value));
        };
        let was = self.value.number();
        let is_kept = was == Some(number);
        let is_reported_anew = match (&shown.rejected, &self.rejected) {
            (Some(now), Some(before)) => !Arc::ptr_eq(now, before),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let explains = |life: &usize| {
            let (floor, it) = (*life == self.life, &history.lives[*life]);
            if it.revision < shown.revision || floor && shown.revision < self.revision {
                return None;
            }
            let (at, content) = Life::of(T::track(it), shown.revision);
            let is_so = match (content, &shown.rejected) {
                (Content::Good(held), None) => held == number,
                (Content::Absent, None) => self.has_default && number == 0,
                (Content::Absent, Some(_)) if self.has_default => false,
                (Content::Absent | Content::Bad, Some(_)) => {
                    // The last good one may have come and gone since.
                    let since = if floor { self.revision.min(at) } else { 0 };
                    let mut good = T::track(it).range(since..=at).map(|(_, content)| content);
                    is_kept
                        || number == 0 && self.has_default
                        || good.any(|it| *it == Content::Good(number))
                }
                (Content::Good(_), Some(_)) | (Content::Bad, None) => false,
            };
            let is_new = !is_reported_anew || !self.reported.contains(&(*life, at));
            (is_so && is_new).then_some(at)
        };
        let found =
            (self.life..history.lives.len()).find_map(|life| Some((life, explains(&life)?)));
        // What was there before a wipe is shown for a while.
        let is_carried =
            shown.stale.is_some() && is_kept && history.life() > self.life && !is_reported_anew;
        if let Some((life, at)) = found {
            (self.life, self.revision) = (life, shown.revision);
            if is_reported_anew {
                self.reported.insert((life, at));
            }
        }
        (self.value, self.rejected) = (shown.value.clone(), shown.rejected.clone());
        match found.is_some() || is_carried {
            true => Ok(()),
            false => Err(format!(
                "shows {number} after {was:?} at {}, {:?}, {:?} (from {} {} on; reported {:?})",
                shown.revision,
                shown.rejected,
                shown.stale,
                self.life,
                self.revision,
                self.reported
            )),
        }
    }

    /// Returns what is not as it is to be in the end.
    fn waits(&self, history: &History, shown: &ConfigState<T>) -> Option<String> {
        let held = Life::last(T::track(history.now()));
        let number = shown.value.number().map(Content::Good);
        let is_right = number == Some(held) && shown.rejected.is_none() && shown.stale.is_none();
        (!is_right).then(|| format!("to show {held:?}: {shown:?}"))
    }

    fn shown(&self) -> String {
        let (number, rejected) = (self.value.number(), self.rejected.is_some());
        format!(
            "{number:?} rejected {rejected}, in {} at {}",
            self.life, self.revision
        )
    }
}
