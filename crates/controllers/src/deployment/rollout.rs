//! The two strategies, and the clearing of history.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::plan::{Plan, Which, available, revision, size};
use super::status;
use crate::action::Action;
use crate::{meta, pods};

/// The size the new set may have now: up while the total stays within the surge, down to what is wanted.
pub(super) fn new_size(plan: &Plan<'_>, new: &ReplicaSet) -> i32 {
    let wanted = plan.wanted();
    if plan.recreates() {
        return wanted;
    }
    let current = if new.spec.is_some() { size(new) } else { 0 };
    let total: i32 = plan.old.iter().map(size).sum::<i32>() + current;
    let room = wanted + plan.bounds().0 - total;
    if room <= 0 { current } else { current + room.min(wanted - current) }
}

impl Plan<'_> {
    /// RollingUpdate: one of up or down in a round, as upstream, so that counts are fresh for each.
    pub fn roll(&mut self) {
        self.find_new(true);
        let Some(new) = self.new.clone() else { return };
        let wanted = self.wanted();
        let target = if size(&new) > wanted { wanted } else { new_size(self, &new) };
        if size(&new) != target && self.resize(Which::New, target) {
            return;
        }
        if self.shrink_old(&new) {
            return;
        }
        if self.is_complete() {
            self.clean_up();
        }
    }

    fn shrink_old(&mut self, new: &ReplicaSet) -> bool {
        if self.old.iter().map(size).sum::<i32>() == 0 {
            return false;
        }
        let (_, down) = self.bounds();
        let least = self.wanted() - down;
        let total: i32 = self.sets().map(size).sum();
        let budget = total - least - (size(new) - available(new));
        if budget <= 0 {
            return false;
        }
        let cleaned = self.shrink_unhealthy(budget);
        let shrunk = self.shrink_healthy(least);
        cleaned || shrunk
    }

    /// Pods of old sets that are not available go first: nobody misses them.
    fn shrink_unhealthy(&mut self, budget: i32) -> bool {
        let mut gone = 0;
        for at in 0..self.old.len() {
            let (has, lives) = (size(&self.old[at]), available(&self.old[at]));
            let cut = (budget - gone).min(has - lives);
            if cut > 0 {
                self.resize(Which::Old(at), has - cut);
                gone += cut;
            }
        }
        gone > 0
    }

    fn shrink_healthy(&mut self, least: i32) -> bool {
        // A set that was shrunk a moment ago still reports what it is about to delete: those do not count.
        let budget = self.sets().map(|set| available(set).min(size(set))).sum::<i32>() - least;
        let mut gone = 0;
        for at in 0..self.old.len() {
            let has = size(&self.old[at]);
            let cut = (budget - gone).min(has);
            if cut > 0 {
                self.resize(Which::Old(at), has - cut);
                gone += cut;
            }
        }
        gone > 0
    }

    /// Recreate: all old pods end before the first new one starts.
    pub fn recreate(&mut self, all: &[Arc<Pod>]) {
        self.find_new(false);
        let mut stopped = false;
        for at in 0..self.old.len() {
            if size(&self.old[at]) != 0 {
                stopped |= self.resize(Which::Old(at), 0);
            }
        }
        if stopped || self.old_pods_live(all) {
            return;
        }
        self.find_new(true);
        if self.new.as_ref().is_some_and(|new| size(new) != self.wanted()) {
            self.resize(Which::New, self.wanted());
        }
        if self.is_complete() {
            self.clean_up();
        }
    }

    fn old_pods_live(&self, all: &[Arc<Pod>]) -> bool {
        all.iter().filter(|pod| !pods::is_terminal(pod)).any(|pod| {
            self.old.iter().any(|set| meta::is_controlled_by(&pod.metadata, meta::uid(&set.metadata)))
        })
    }

    pub fn is_complete(&self) -> bool {
        status::is_complete(self.deployment, self.wanted(), &self.counted())
    }

    /// Deletes the oldest idle sets beyond `revisionHistoryLimit`.
    pub fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut idle: Vec<&ReplicaSet> =
            self.old.iter().filter(|set| !meta::is_deleting(&set.metadata)).collect();
        let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        idle.sort_by_key(|set| revision(set));
        let is_idle = |set: &&ReplicaSet| {
            let seen = set.status.as_ref();
            size(set) == 0
                && seen.is_none_or(|status| status.replicas == 0)
                && set.metadata.generation <= seen.and_then(|status| status.observed_generation)
        };
        let gone: Vec<Action> = idle.into_iter().take(surplus).filter(is_idle).map(Action::delete).collect();
        self.actions.extend(gone);
    }
}
