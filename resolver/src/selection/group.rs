//! Endpoints that share calls, in groups of groups: versions of a split, one's own zone and the others, and
//! in each of those the policy's choice.
//!
//! Immutable but for what pickers and turns count.

use std::collections::BTreeMap;

use crate::{
    Endpoint, Policy, ServiceConfig, Split,
    balance::{CallInfo, Candidate, PickError, Picker, Weighted},
};

/// Some of the endpoints that can be called.
#[derive(Debug)]
pub(super) enum Group {
    /// The policy chooses.
    Leaf {
        picker: Box<dyn Picker>,
        /// Which endpoints they are, by their indexes among all; `None` if they are all.
        members: Option<Box<[usize]>>,
    },
    /// Groups take turns by their weights.
    Split {
        turns: Weighted,
        groups: Box<[Group]>,
    },
    /// Calls stay in one's own zone, or leave it.
    Zone {
        /// Whose turn it is, `HERE` or elsewhere; `None` if all calls stay.
        turns: Option<Weighted>,
        here: Box<Group>,
        elsewhere: Box<Group>,
    },
}

const HERE: usize = 0;

impl Group {
    /// Offers indexes of endpoints to `take`, until it takes one, and returns whether it did.
    pub(super) fn pick(
        &self,
        call: &CallInfo<'_>,
        take: &mut dyn FnMut(usize) -> bool,
    ) -> Result<bool, PickError> {
        match self {
            Self::Leaf { picker, members } => {
                let mut is_taken = false;
                picker.pick(call, &mut |index| {
                    let index = match members {
                        None => Some(index),
                        // A policy that is not ours may name what there is not.
                        Some(members) => members.get(index).copied(),
                    };
                    // Nor does one that goes on to offer others take the call from who has it.
                    is_taken = is_taken || index.is_some_and(&mut *take);
                    is_taken
                })?;
                Ok(is_taken)
            }
            Self::Split { turns, groups } => {
                // Of those that were tried once nobody can be called; most calls try one.
                let mut tried = Vec::new();
                let mut failed = None;
                let taken = turns.pick(|index| {
                    if failed.is_some() || tried.contains(&index) {
                        return false;
                    }
                    match groups[index].pick(call, take) {
                        Ok(true) => true,
                        Ok(false) => {
                            tried.push(index);
                            false
                        }
                        Err(error) => {
                            failed = Some(error);
                            false
                        }
                    }
                });
                match failed {
                    Some(error) => Err(error),
                    None => Ok(taken.is_some()),
                }
            }
            Self::Zone {
                turns,
                here,
                elsewhere,
            } => {
                let turn = turns.as_ref().and_then(|turns| turns.pick(|_| true));
                let (first, second) = match turn.unwrap_or(HERE) {
                    HERE => (here, elsewhere),
                    _ => (elsewhere, here),
                };
                Ok(first.pick(call, take)? || second.pick(call, take)?)
            }
        }
    }

    /// Returns one of its endpoints that is so, by its index; there are `count` of all.
    pub(super) fn find(&self, count: usize, is_so: &dyn Fn(usize) -> bool) -> Option<usize> {
        match self {
            Self::Leaf { members: None, .. } => (0..count).find(|it| is_so(*it)),
            Self::Leaf {
                members: Some(members),
                ..
            } => members.iter().copied().find(|it| is_so(*it)),
            Self::Split { groups, .. } => groups.iter().find_map(|it| it.find(count, is_so)),
            Self::Zone {
                here, elsewhere, ..
            } => here
                .find(count, is_so)
                .or_else(|| elsewhere.find(count, is_so)),
        }
    }
}

/// What groups are made of.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) config: &'a ServiceConfig,
    pub(super) policy: &'a dyn Policy,
    /// Those that can be called.
    pub(super) candidates: &'a [Candidate],
    /// All that are listed, whether they can be called or not, if there is a zone to prefer.
    pub(super) listed: &'a [Endpoint],
    /// Where random starts come from.
    pub(super) rng: fastrand::Rng,
}

/// Endpoints that become a group.
#[derive(Default)]
struct Members<'a> {
    /// Those that can be called, by their indexes.
    callable: Vec<usize>,
    listed: Vec<&'a Endpoint>,
}

impl<'a> Making<'a> {
    /// Makes the group of all that are asked for; `None` if they are none, or a split leaves none of them.
    pub(super) fn group(mut self, is_asked_for: impl Fn(&Endpoint) -> bool) -> Option<Group> {
        let all = Members {
            callable: (0..self.candidates.len()).collect(),
            listed: self.listed.iter().collect(),
        };
        let members = self.those(&all, is_asked_for);
        let config = self.config;
        let Some(split) = &config.split else {
            return self.by_zone(members);
        };
        let (mut weights, mut groups) = (Vec::new(), Vec::new());
        for (percent, group) in self.by_group(members, split).into_values() {
            if let Some(group) = self.by_zone(group) {
                weights.push(percent);
                groups.push(group);
            }
        }
        match groups.len() {
            0 | 1 => groups.pop(),
            _ => Some(Group::Split {
                turns: Weighted::new(weights, self.rng.u64(..)),
                groups: groups.into(),
            }),
        }
    }

    /// Returns who is in which group of a split, by its number, and its percentage: looking at each endpoint once,
    /// however many groups there are.
    fn by_group(&self, members: Members<'a>, split: &Split) -> BTreeMap<usize, (f64, Members<'a>)> {
        let mut groups = BTreeMap::new();
        let mut group = |endpoint: &Endpoint, join: &dyn Fn(&mut Members<'a>)| {
            if let Some((number, percent)) = split.group_of(endpoint) {
                let (_, members) = groups
                    .entry(number)
                    .or_insert((percent, Members::default()));
                join(members);
            }
        };
        for index in members.callable {
            let endpoint = self.candidates[index].endpoint();
            group(endpoint, &|it| it.callable.push(index));
        }
        for endpoint in members.listed {
            group(endpoint, &|it| it.listed.push(endpoint));
        }
        groups
    }

    fn by_zone(&mut self, members: Members<'a>) -> Option<Group> {
        let config = self.config;
        let Some(zone) = &config.zone else {
            return self.leaf(members);
        };
        let here = self.those(&members, |it| zone.is_in(it));
        let elsewhere = self.those(&members, |it| !zone.is_in(it));
        let staying = zone.staying(here.callable.len(), here.listed.len());
        match (self.leaf(here), self.leaf(elsewhere)) {
            (Some(here), Some(elsewhere)) => Some(Group::Zone {
                turns: (staying < 1.0)
                    .then(|| Weighted::new([staying, 1.0 - staying], self.rng.u64(..))),
                here: Box::new(here),
                elsewhere: Box::new(elsewhere),
            }),
            (here, elsewhere) => here.or(elsewhere),
        }
    }

    fn leaf(&mut self, members: Members<'a>) -> Option<Group> {
        let members = members.callable;
        let candidates = members.iter().map(|it| self.candidates[*it].clone());
        let candidates: Vec<_> = candidates.collect();
        (!members.is_empty()).then(|| Group::Leaf {
            picker: self.policy.picker(&candidates, self.rng.u64(..)),
            members: (members.len() < self.candidates.len()).then(|| members.into()),
        })
    }

    /// Returns those of some members that are so.
    fn those(&self, members: &Members<'a>, are_so: impl Fn(&Endpoint) -> bool) -> Members<'a> {
        let callable = members.callable.iter().copied();
        let listed = members.listed.iter().copied();
        Members {
            callable: callable
                .filter(|it| are_so(self.candidates[*it].endpoint()))
                .collect(),
            listed: listed.filter(|it| are_so(it)).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
