//! Everything that reaches a day's rows → one hash, so that a later run can tell whether anything changed, and short digests
//! of its parts, so that it can say what.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::config::{Config, NodeRoles, Replace};
use crate::discover::ObjectInfo;
use crate::ledger::{ENGINE_VERSION, Extent, MadeFrom, NotedRoles};
use crate::plan::{DayPlan, Plan};
use crate::rollups::facts::{NodeRole, ReferenceData};
use crate::schema::source::{SourceTable, Variant};

/// What a day's rows are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingredients {
    /// SHA-256 over the engine version, the settings and reference data that reach a row, and the day's objects.
    pub fingerprint: [u8; 32],
    /// The same by name, to explain differences.
    pub made_from: MadeFrom,
}

/// What the days of a window have in common: settings and reference data.
pub struct Facts {
    /// Name → digest of the value.
    facts: Vec<(&'static str, [u8; 32])>,
    replace: &'static str,
}

impl Facts {
    /// Node roles are a fact of the window unless they are derived; then each day has its own.
    pub fn new(config: &Config, reference: &ReferenceData) -> Self {
        let text = |text: &str| Fields::digest(|hash| hash.text(text));
        let mut facts = vec![
            ("semantics", text(config.semantics.name())),
            ("labels.on_malformed", text(&format!("{:?}", config.on_malformed_label))),
            ("source.uuid", text(&config.source.uuid.to_string())),
            ("source.cluster_id", text(&config.source.cluster_id)),
            ("source.cluster_alias", text(&config.source.cluster_alias)),
            ("report period", text(&format!("{:?}", reference.report_period_id))),
            (
                "enabled label keys",
                Fields::digest(|hash| hash.list(reference.enabled_tag_keys.iter().map(|key| [key.as_str()]))),
            ),
            ("cost categories", {
                let categories = reference.cost_categories.iter();
                let rows = categories.map(|c| [c.namespace_pattern.clone(), c.cost_category_id.to_string()]);
                Fields::digest(|hash| hash.list(rows))
            }),
        ];
        if !matches!(config.reference.node_roles, NodeRoles::Derive) {
            facts.push(("node roles", roles_digest(reference.node_roles.iter())));
        }
        let replace = match config.postgres.as_ref().map(|postgres| postgres.replace) {
            Some(Replace::Reference) => "reference",
            Some(Replace::Own) | None => "own",
        };
        Self { facts, replace }
    }

    /// The ingredients of one day; `roles` are the derived roles of its nodes.
    pub fn of_day(&self, day: &DayPlan, roles: Option<NotedRoles>) -> Ingredients {
        let mut made_from = MadeFrom { replace: self.replace.to_owned(), ..MadeFrom::default() };
        let fingerprint = Fields::digest(|hash| {
            hash.text("engine");
            hash.text(&ENGINE_VERSION.to_string());
            hash.text(&day.day.to_string());
            for (name, digest) in &self.facts {
                hash.text(name);
                hash.bytes(digest);
            }
            hash.text("derived roles");
            hash.text(roles.as_ref().map_or("", |roles| &roles.of_day));
            hash.list(day.objects.iter().map(|object| object_fields(object)));
        });
        made_from.facts = self.facts.iter().map(|(name, digest)| ((*name).to_owned(), short(digest))).collect();
        let noted = |object: &std::sync::Arc<ObjectInfo>| {
            (object.key.clone(), short(&Fields::digest(|hash| hash.list([object_fields(object)].into_iter()))))
        };
        made_from.note_objects(day.objects.iter().map(noted));
        made_from.reports = day
            .reports
            .iter()
            .map(|(report, (objects, rows))| (report_name(*report), Extent { objects: *objects as u64, rows: *rows }))
            .collect();
        made_from.roles = roles;
        Ingredients { fingerprint, made_from }
    }
}

/// Everything that the derived roles of a window come from: its days, the rules for reading labels, and the objects.
pub fn roles_from(config: &Config, role_plan: &Plan) -> String {
    let objects: BTreeMap<&str, &ObjectInfo> =
        role_plan.chunks.iter().map(|chunk| (chunk.footer.object.key.as_str(), &*chunk.footer.object)).collect();
    hexadecimal(&Fields::digest(|hash| {
        hash.text(&ENGINE_VERSION.to_string());
        hash.text(&role_plan.window.to_string());
        hash.text(config.semantics.name());
        hash.text(&format!("{:?}", config.on_malformed_label));
        hash.list(objects.into_values().map(object_fields));
    }))
}

/// The roles of a day's nodes, or of a window's.
pub fn roles_digest<'r>(roles: impl ExactSizeIterator<Item = &'r NodeRole>) -> [u8; 32] {
    let fields = |role: &NodeRole| [role.node.clone(), format!("{:?}", role.resource_id), format!("{:?}", role.role)];
    Fields::digest(|hash| hash.list(roles.map(fields)))
}

/// Bytes as text.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// How the ledger calls a report: its folder, after `daily/` for the daily copies.
fn report_name(table: SourceTable) -> String {
    match table.variant {
        Variant::Raw => table.report.folder().to_owned(),
        Variant::Daily => format!("daily/{}", table.report.folder()),
    }
}

/// An object as it was listed. Without an entity tag the time of its upload tells versions apart.
fn object_fields(object: &ObjectInfo) -> [String; 3] {
    let version = object.etag.clone().unwrap_or_else(|| object.last_modified.to_rfc3339());
    [object.key.clone(), object.size.0.to_string(), version]
}

/// Enough to tell two values apart where nothing depends on it.
fn short(digest: &[u8; 32]) -> String {
    hexadecimal(&digest[..8])
}

/// Length-prefixed fields, so that no two different inputs run together.
struct Fields(Sha256);

impl Fields {
    fn digest(add: impl FnOnce(&mut Self)) -> [u8; 32] {
        let mut hash = Fields(Sha256::new());
        add(&mut hash);
        hash.0.finalize().into()
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn list<T: AsRef<str>, const N: usize>(&mut self, rows: impl ExactSizeIterator<Item = [T; N]>) {
        self.text(&rows.len().to_string());
        for field in rows.flatten() {
            self.text(field.as_ref());
        }
    }
}
