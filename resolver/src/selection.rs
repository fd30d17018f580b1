//! Which endpoints a call may go to, and which it goes to: what stands between the endpoints that can be
//! called and a call.
//!
//! ```text
//!   those that can be called ──> the call's filter ──> the split ──> the zone ──> the policy
//! ```
//!
//! What is before that is decided by [`Listing`]: the channel's filter and its subset, which say who is
//! connected. This is made anew whenever the endpoints or the configuration change, and read by all calls
//! without a lock.

mod filter;
mod filtered;
mod group;
mod listing;
mod split;
mod subset;
mod zone;

use std::sync::Arc;

pub(crate) use self::listing::{Listing, Wanted};
pub use self::{filter::Filter, split::Split, zone::ZonePreference};
use self::{
    filtered::{Filtered, Matching},
    group::{Group, Making},
};
use crate::{
    Endpoint, Policy, ServiceConfig,
    balance::{CallInfo, Candidate, PickError},
    outlook::{Observed, Obstacle},
    state::Condition,
    view::Target,
};

/// An endpoint that can be called, and the share of its turns that it takes, from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Callable {
    pub(crate) target: Arc<Target>,
    pub(crate) share: f64,
}

/// Chooses one of all endpoints that can be called for each call.
#[derive(Debug)]
pub(crate) struct Selection {
    choice: Arc<Choice>,
    awaited: Vec<Awaited>,
}

/// An endpoint that cannot be called, and may be soon.
#[derive(Debug, Clone, PartialEq)]
struct Awaited {
    endpoint: Endpoint,
    condition: Condition,
}

/// What stays the same while those that can be called do: with it, whose turn it is.
#[derive(Debug)]
struct Choice {
    config: Arc<ServiceConfig>,
    policy: Arc<dyn Policy>,
    /// Whether the policy looks at the load of targets.
    reads_load: bool,
    /// Whether the policy offers the same targets to each call.
    offers_all: bool,
    callable: Box<[Callable]>,
    /// The same, as policies see them.
    candidates: Box<[Candidate]>,
    /// All that are listed, if there is a zone to prefer.
    listed: Box<[Endpoint]>,
    seed: u64,
    /// For calls without a filter; `None` if none is in a group of the split.
    all: Option<Group>,
    filtered: Filtered,
}

/// Why nothing was picked.
#[derive(Debug)]
pub(crate) enum Miss {
    /// Who may be called may be free soon, or connected.
    Blocked(Obstacle),
    /// There is nobody whom the call may go to.
    Nobody(Obstacle),
    /// The call lacks what the policy needs.
    Refused(PickError),
}

/// What becomes of a selection.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// It stays as it is.
    Same,
    /// Others may be called soon, and whose turn it is stays the same.
    Continued(Selection),
    /// It is to be made anew.
    Anew,
}

impl Selection {
    /// Makes a selection over those that can be called, of all that are listed, of which this is known.
    pub(crate) fn new(
        config: Arc<ServiceConfig>,
        callable: Vec<Callable>,
        observed: &[Observed<'_>],
        seed: u64,
    ) -> Self {
        Self {
            choice: Arc::new(Choice::new(config, callable, observed, seed)),
            awaited: awaited(observed),
        }
    }

    /// Decides what becomes of it, if it were to be made of these now.
    pub(crate) fn renewal(
        &self,
        config: &Arc<ServiceConfig>,
        callable: &[Callable],
        observed: &[Observed<'_>],
    ) -> Renewal {
        if !self.choice.is_of(config, callable, observed) {
            return Renewal::Anew;
        }
        let awaited = awaited(observed);
        match awaited == self.awaited {
            true => Renewal::Same,
            false => Renewal::Continued(Self {
                choice: self.choice.clone(),
                awaited,
            }),
        }
    }

    /// Tries targets, in the order in which the policy prefers them for the call, until one can be taken.
    pub(crate) fn pick<P>(
        &self,
        call: &CallInfo<'_>,
        take: impl Fn(&Arc<Target>) -> Option<P>,
    ) -> Result<Option<P>, Miss> {
        self.with_group(call, |group| {
            let mut taken = None;
            let picked = group.pick(call, &mut |index| {
                // A policy that is not ours may name what there is not.
                let target = self.choice.callable.get(index).map(|it| &it.target);
                taken = target.and_then(&take);
                taken.is_some()
            });
            picked.map_err(Miss::Refused)?;
            Ok(taken)
        })
    }

    /// Returns why none could be taken for a call.
    pub(crate) fn obstacle(&self, call: &CallInfo<'_>) -> Miss {
        let callable = &self.choice.callable;
        let busy = self.with_group(call, |group| {
            let is_open = |index: usize| !callable[index].target.transport.is_closed();
            let busy = group.find(callable.len(), &is_open);
            let busy = busy.map(|index| Obstacle::Busy(callable[index].target.endpoint.clone()));
            Ok(busy.unwrap_or(Obstacle::Lost))
        });
        busy.map_or_else(|miss| miss, Miss::Blocked)
    }

    /// Returns whether the load of targets is looked at.
    pub(crate) fn reads_load(&self) -> bool {
        self.choice.reads_load
    }

    /// Returns whether all calls of a filter, and all without one, may go to the same targets.
    pub(crate) fn offers_all(&self) -> bool {
        self.choice.offers_all
    }

    /// Hands out the group that may have a call, if there is one.
    fn with_group<R>(
        &self,
        call: &CallInfo<'_>,
        then: impl FnOnce(&Group) -> Result<R, Miss>,
    ) -> Result<R, Miss> {
        let choice = &*self.choice;
        let all = choice.all.as_ref();
        let outside = |filter| Err(self.nobody_in_split(filter));
        let Some(filter) = call.filter() else {
            return all.map_or_else(|| outside(None), then);
        };
        let make = |number| choice.matching(filter, number);
        choice
            .filtered
            .with(filter, make, |matching| match matching {
                Matching::These(group) => then(group),
                Matching::Any => all.map_or_else(|| outside(None), then),
                Matching::OutsideSplit => outside(Some(filter)),
                Matching::Nobody => {
                    let count = choice.callable.len();
                    Err(self.nobody(Some(filter), Obstacle::NoMatch(count, filter.clone())))
                }
            })
    }

    fn nobody_in_split(&self, filter: Option<&Filter>) -> Miss {
        match &self.choice.config.split {
            Some(split) => {
                let candidates = self.choice.candidates.iter().map(Candidate::endpoint);
                let matches = |it: &&Endpoint| filter.is_none_or(|filter| filter.matches(it));
                let obstacle = Obstacle::OutsideSplit {
                    split: split.clone(),
                    filter: filter.cloned(),
                    there: split.values(candidates.filter(matches)),
                };
                self.nobody(filter, obstacle)
            }
            // There are no views of nobody.
            None => Miss::Blocked(Obstacle::Lost),
        }
    }

    /// Returns what a call meets for which there is nobody: one that it may go to and is not connected yet
    /// is waited for.
    fn nobody(&self, filter: Option<&Filter>, obstacle: Obstacle) -> Miss {
        let split = self.choice.config.split.as_ref();
        let awaited = self.awaited.iter().find(|it| {
            filter.is_none_or(|filter| filter.matches(&it.endpoint))
                && split.is_none_or(|split| split.group_of(&it.endpoint).is_some())
        });
        match awaited {
            Some(it) if it.condition == Condition::Suspect => {
                Miss::Blocked(Obstacle::Silent(it.endpoint.clone()))
            }
            Some(it) => Miss::Blocked(Obstacle::Connecting(it.endpoint.clone(), None)),
            None => Miss::Nobody(obstacle),
        }
    }
}

impl Choice {
    fn new(
        config: Arc<ServiceConfig>,
        callable: Vec<Callable>,
        observed: &[Observed<'_>],
        seed: u64,
    ) -> Self {
        let policy = config.policy();
        let candidates = callable.iter().map(|Callable { target, share }| {
            Candidate::with(target.endpoint.clone(), *share, target.load.clone())
        });
        let mut choice = Self {
            reads_load: policy.reads_load(),
            offers_all: policy.offers_all(),
            policy,
            listed: listed(&config, observed).cloned().collect(),
            candidates: candidates.collect(),
            callable: callable.into(),
            config,
            seed,
            all: None,
            filtered: Filtered::default(),
        };
        choice.all = choice.group(seed, |_| true);
        choice
    }

    /// Returns whether it is what another one would be that was made of these.
    fn is_of(
        &self,
        config: &Arc<ServiceConfig>,
        callable: &[Callable],
        observed: &[Observed<'_>],
    ) -> bool {
        let is_same = |(one, other): (&Callable, &Callable)| {
            Arc::ptr_eq(&one.target, &other.target) && one.share == other.share
        };
        Arc::ptr_eq(&self.config, config)
            && self.callable.len() == callable.len()
            && self.callable.iter().zip(callable).all(is_same)
            && self.listed.iter().eq(listed(config, observed))
    }

    /// Finds out who may have the calls of a filter, of which this is the one of this number.
    fn matching(&self, filter: &Filter, number: u64) -> Matching {
        // Another start each time: of more filters than are kept, each call makes a group of its own.
        let seed = self.seed.wrapping_add(number.wrapping_add(1));
        let mut candidates = self.candidates.iter();
        match candidates.any(|it| filter.matches(it.endpoint())) {
            true => self
                .group(seed, |it| filter.matches(it))
                .map_or(Matching::OutsideSplit, Matching::These),
            false if filter.has_fallback() => Matching::Any,
            false => Matching::Nobody,
        }
    }

    fn group(&self, seed: u64, is_asked_for: impl Fn(&Endpoint) -> bool) -> Option<Group> {
        let making = Making {
            config: &self.config,
            policy: &*self.policy,
            candidates: &self.candidates,
            listed: &self.listed,
            rng: fastrand::Rng::with_seed(seed),
        };
        making.group(is_asked_for)
    }
}

/// Returns those that cannot be called, and may be soon.
fn awaited(observed: &[Observed<'_>]) -> Vec<Awaited> {
    let awaited = observed.iter().filter(|it| match it.condition {
        Condition::Connecting | Condition::Idle | Condition::Suspect => true,
        Condition::Ready
        | Condition::Ejected
        | Condition::Failing
        | Condition::Unhealthy
        | Condition::Draining => false,
    });
    let awaited = awaited.map(|it| Awaited {
        endpoint: it.endpoint.clone(),
        condition: it.condition,
    });
    awaited.collect()
}

/// Returns all that are listed, if there is a zone to prefer: how many there are in it decides how many calls
/// stay there.
fn listed<'a>(
    config: &ServiceConfig,
    observed: &'a [Observed<'_>],
) -> impl Iterator<Item = &'a Endpoint> {
    let observed = match config.zone {
        Some(_) => observed,
        None => &[],
    };
    observed.iter().map(|it| it.endpoint)
}
