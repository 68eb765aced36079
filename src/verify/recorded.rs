//! The ledger, and what a run would be made from today → whether the rows in the target can be those of the inputs.

use std::collections::BTreeMap;

use crate::ledger::{ENGINE_VERSION, Recorded};
use crate::time::UsageDay;

/// What a run of today would note for each day; a day is absent where no object of its month exists any more.
pub type Expected = BTreeMap<UsageDay, [u8; 32]>;

/// What the ledger says about the target's days.
#[derive(Debug, Clone, Default)]
pub struct LedgerDays {
    /// One entry per day that was written.
    pub days: BTreeMap<UsageDay, Recorded>,
}

impl LedgerDays {
    /// Days that were written from something else than what lies there now, with the reason.
    pub fn outdated(&self, expected: &Expected) -> Vec<String> {
        let mut lines = Vec::new();
        for (day, recorded) in &self.days {
            let run = recorded.run_id;
            if recorded.engine_version != ENGINE_VERSION {
                let version = recorded.engine_version;
                lines.push(format!("{day}: written by engine version {version} (run {run}), this is {ENGINE_VERSION}"));
                continue;
            }
            match expected.get(day) {
                Some(fingerprint) if recorded.fingerprint != fingerprint => {
                    lines
                        .push(format!("{day}: objects, settings or reference data are others than those of run {run}"));
                }
                // A run over nothing that wrote nothing is as good as today's.
                None if recorded.row_count != 0 => {
                    lines.push(format!(
                        "{day}: its month has no objects any more; those of run {run} cannot be checked"
                    ));
                }
                _ => {}
            }
        }
        lines
    }

    /// Days whose rows are not those that the ledger counted, where the other side does not have its number either; and
    /// days that no run has written.
    pub fn contradicted(&self, row_counts: &BTreeMap<UsageDay, [u64; 2]>) -> Vec<String> {
        let mut lines = Vec::new();
        for (day, [in_target, on_other]) in row_counts {
            match self.row_count(*day) {
                Some(recorded) if recorded != *in_target && recorded != *on_other => lines.push(format!(
                    "{day}: the ledger has {recorded} rows (run {}), the target {in_target}, the other side {on_other}",
                    self.days[day].run_id
                )),
                None if *on_other > 0 => {
                    lines.push(format!(
                        "{day}: the ledger knows no run that wrote the day; the target has {in_target} rows"
                    ));
                }
                _ => {}
            }
        }
        lines
    }

    /// Days whose rows changed after the run, seen from their number; what differs says how.
    pub fn changed_afterwards(&self, row_counts: &BTreeMap<UsageDay, [u64; 2]>) -> Vec<String> {
        let changed = |(day, [in_target, _]): (&UsageDay, &[u64; 2])| {
            let recorded = self.row_count(*day).filter(|recorded| recorded != in_target)?;
            Some(format!("{day}: the ledger has {recorded} rows, the target {in_target}: it was changed after the run"))
        };
        row_counts.iter().filter_map(changed).collect()
    }

    /// Rows that the ledger has for a day.
    pub fn row_count(&self, day: UsageDay) -> Option<u64> {
        self.days.get(&day).map(|recorded| recorded.row_count.unsigned_abs())
    }
}
