//! What becomes of what the source lists: who is connected, who is kept in reserve, and who is let go.

use tokio::time::Instant;

use super::Balancer;
use crate::{
    Endpoint, endpoint_set::EndpointSet, outlook::Obstacle, reserve::Reading, selection::Wanted,
    service_config::shortened,
};

impl Balancer {
    pub(super) fn on_snapshot(&mut self, mut snapshot: Vec<Endpoint>) {
        let ours = self.dialing.security();
        let named = snapshot.len();
        // Before anything is told apart by its addresses, which both kinds may have in common.
        snapshot.retain(|endpoint| endpoint.security().is_none_or(|it| it == ours));
        self.others = named - snapshot.len();
        let reserved = self.fleet.reserved();
        let known = self.listing.len() + reserved.len();
        match self.reserve.read(named == 0, known) {
            Reading::AsListed => self.listing.replace(snapshot),
            Reading::LastSet => self.listing.keep(reserved),
            Reading::Nobody => {
                self.fleet.drain_reserve();
                self.listing.replace(snapshot);
            }
        }
        self.choose(named > 0);
    }

    /// Connects to those that are to be used of what is listed. What vanished may go into reserve unless all
    /// did; what is still listed, and is not to be used any more, may not.
    pub(super) fn choose(&mut self, may_reserve: bool) {
        let Wanted { endpoints, filter } = self.listing.wanted(self.configuration.current());
        let changes = self.endpoints.get_or_insert_default().replace(endpoints);
        let now = Instant::now().into_std();
        for key in &changes.removed {
            let is_kept = may_reserve
                && !self.listing.has(key)
                && !self.is_idle()
                && self.fleet.is_connected(key)
                && self.reserve.vanish(key, now);
            match is_kept {
                true => self.fleet.reserve(key),
                false => self.fleet.drain(key),
            }
        }
        for endpoint in changes.changed {
            self.fleet.update(endpoint);
        }
        for endpoint in changes.added {
            self.reserve.forget(endpoint.key());
            self.fleet.add(endpoint, self.is_idle());
        }
        // What is in reserve may be called: not what is listed again and not to be used, nor what does not
        // match.
        let mut reserved = self.fleet.reserved();
        let is_match = |it: &Endpoint| filter.as_ref().is_none_or(|filter| filter.matches(it));
        reserved.retain(|it| self.listing.has(it.key()) || !is_match(it));
        for endpoint in reserved {
            self.reserve.forget(endpoint.key());
            self.fleet.drain(endpoint.key());
        }
        self.look_for_groups();
    }

    /// Looks whether somebody is in each group of the split; says so when some have nobody, which their
    /// values may be misspelt for, and when none is empty any more.
    fn look_for_groups(&mut self) {
        let listed = || self.endpoints.iter().flat_map(EndpointSet::iter);
        let split = self.configuration.current().split.as_ref();
        // That nobody is there at all is told otherwise.
        let split = split.filter(|_| listed().next().is_some());
        let empty = split.map_or(Vec::new(), |split| split.empty_groups(listed()));
        let service = self.service.as_deref().unwrap_or_default();
        if let Some(split) = split
            && empty.iter().any(|it| !self.empty_groups.contains(it))
        {
            let (key, there) = (split.key(), split.values(listed()));
            let groups = shortened(empty.join(", "));
            tracing::warn!(name: "split_group_empty", service, key, groups, there, "no endpoint of these groups of the split is listed: their calls go to the others");
        }
        if empty.is_empty() && !self.empty_groups.is_empty() {
            tracing::info!(name: "split_groups_filled", service, "no group of the split is without endpoints any more");
        }
        self.empty_groups = empty;
    }

    /// Returns why the channel connects to none of what is listed, if that is so and something is.
    pub(super) fn why_nobody(&self, count: usize) -> Option<Obstacle> {
        let filter = self.configuration.current().filter.as_ref();
        match (count, self.listing.len(), filter) {
            (0, 0, _) if self.others > 0 => {
                Some(Obstacle::NoneOfOurs(self.others, self.dialing.security()))
            }
            (0, listed @ 1.., Some(filter)) => Some(Obstacle::NoneListed(listed, filter.clone())),
            _ => None,
        }
    }
}
