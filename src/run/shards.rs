//! `--shard INDEX/COUNT` → which days this pod begins with, and how it shares them with other pods: by claims where the target has a
//! ledger, by division alone where it has none.

use uuid::Uuid;

use super::claims::Claims;
use crate::config::{Config, Shard, Target};
use crate::error::Failure;
use crate::runtime::stopping::Stopping;
use crate::time::UsageDay;

/// How the days of a run are shared with other pods.
#[derive(Default)]
pub struct Sharing {
    shares: Vec<(Uuid, Share)>,
    claims: Option<Claims>,
}

/// A pod's part of the days of one source. Days follow each other round all pods, and each source begins one pod further on, so that
/// the first days of many sources are not all one pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    shard: Shard,
    first_day: UsageDay,
    source_position: u32,
}

impl Share {
    /// The part of one source's days from a first one on.
    pub fn new(shard: Shard, first_day: UsageDay, source_position: u32) -> Self {
        Self { shard, first_day, source_position }
    }

    /// Whether the day is one that this pod begins with.
    pub fn has(&self, day: UsageDay) -> bool {
        // A window has only days of the period.
        let ordinal = day.0.abs_diff(self.first_day.0).wrapping_add(self.source_position);
        ordinal % self.shard.count == self.shard.index
    }
}

impl Sharing {
    /// A run with a target of the configuration. Claims begin to be renewed from here on.
    /// Errors: an unusable certificate file for the database.
    pub fn new(config: &Config, shard: Shard, run_id: Uuid, stopping: &Stopping) -> Result<Self, Failure> {
        let claims = match (&config.target, &config.postgres) {
            (Target::Postgres, Some(postgres)) => {
                let name = format!("shard {shard} of run {run_id}");
                Some(Claims::start(postgres, config.claims, run_id, name, stopping.clone())?)
            }
            _ => None,
        };
        Ok(Self { claims, ..Self::divided(config, shard) })
    }

    /// A run whose target has no ledger.
    pub fn divided(config: &Config, shard: Shard) -> Self {
        let share = |(source, position)| (source, Share::new(shard, config.period.start, position));
        let sources = config.sources().map(|source| source.uuid);
        Self { shares: sources.zip(0..).map(share).collect(), claims: None }
    }

    /// The part of a source's days with which this pod begins; `None` if it works alone.
    pub fn share(&self, source: Uuid) -> Option<Share> {
        self.shares.iter().find(|(of, _)| *of == source).map(|(_, share)| *share)
    }

    /// Claims on days, where the target has a ledger and the days are shared.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// Whether a day is another pod's for good, because nobody could tell whether that one has written it.
    pub fn leaves_out(&self, source: Uuid, day: UsageDay) -> bool {
        self.claims.is_none() && self.share(source).is_some_and(|share| !share.has(day))
    }

    /// Gives back whatever is still claimed.
    pub async fn end(&mut self) {
        if let Some(claims) = self.claims.take() {
            claims.end().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(index: u32, count: u32, source_position: u32) -> Share {
        Share::new(Shard { index, count }, UsageDay(20_000), source_position)
    }

    #[test]
    fn every_day_is_of_one_pod_and_all_pods_have_as_many() {
        for count in [2, 3, 4, 7] {
            let mut of_pods = vec![0; count as usize];
            for day in (20_000..20_000 + 7 * 12).map(UsageDay) {
                let owners: Vec<u32> = (0..count).filter(|index| share(*index, count, 5).has(day)).collect();
                assert_eq!(owners.len(), 1, "{day} of {count}");
                of_pods[owners[0] as usize] += 1;
            }
            assert!(of_pods.iter().all(|days| *days == 7 * 12 / count), "{of_pods:?}");
        }
    }

    #[test]
    fn sources_begin_one_pod_further_on() {
        let owner = |day, source| (0..3).find(|index| share(*index, 3, source).has(UsageDay(20_000 + day)));
        assert_eq!([owner(0, 0), owner(1, 0), owner(3, 0)], [Some(0), Some(1), Some(0)]);
        assert_eq!([owner(0, 1), owner(0, 2), owner(1, 2)], [Some(1), Some(2), Some(0)]);
    }
}
