//! Everything that reaches a day's rows → one hash, so that a later run can tell whether anything changed.

use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::ledger::ENGINE_VERSION;
use crate::plan::DayPlan;
use crate::rollups::facts::ReferenceData;

/// SHA-256 over the engine version, the settings and reference data that reach a row, and the day's objects.
pub fn fingerprint(config: &Config, reference: &ReferenceData, day: &DayPlan) -> [u8; 32] {
    let mut hash = Fields(Sha256::new());
    hash.text("engine");
    hash.text(&ENGINE_VERSION.to_string());
    hash.text(&day.day.to_string());
    hash.text(config.semantics.name());
    hash.text(&format!("{:?}", config.on_malformed_label));
    hash.text(&config.source.uuid.to_string());
    hash.text(&config.source.cluster_id);
    hash.text(&config.source.cluster_alias);
    hash.text(&format!("{:?}", reference.report_period_id));
    hash.list("keys", reference.enabled_tag_keys.iter().map(|key| vec![key.as_str()]));
    hash.list(
        "categories",
        reference.cost_categories.iter().map(|c| vec![c.namespace_pattern.clone(), c.cost_category_id.to_string()]),
    );
    hash.list(
        "roles",
        reference
            .node_roles
            .iter()
            .map(|r| vec![r.node.clone(), format!("{:?}", r.resource_id), format!("{:?}", r.role)]),
    );
    hash.list(
        "objects",
        day.objects.iter().map(|o| vec![o.key.clone(), o.size.0.to_string(), o.etag.clone().unwrap_or_default()]),
    );
    hash.0.finalize().into()
}

/// Length-prefixed fields, so that no two different inputs run together.
struct Fields(Sha256);

impl Fields {
    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    fn list<T: AsRef<str>>(&mut self, name: &str, rows: impl ExactSizeIterator<Item = Vec<T>>) {
        self.text(name);
        self.text(&rows.len().to_string());
        for row in rows {
            for field in row {
                self.text(field.as_ref());
            }
        }
    }
}
