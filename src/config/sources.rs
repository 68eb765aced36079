//! `source`, or the list `sources` → the clusters of a configuration.

use std::collections::HashMap;

use uuid::Uuid;

use super::problem::Problems;
use super::registry::{self, Fallback, SOURCE_KEYS};
use super::settings::Settings;
use super::tree::{Node, join};
use super::value::{Outcome, Reader, Value};
use super::{Period, Source};

/// Far more clusters than one organisation reports, and a file of it is still read at a glance.
pub(super) const MAX_SOURCES: usize = 1_000;
/// The report has an entry per source and day: a month of all the sources that may be listed, or ten years of ten.
const MAX_SOURCE_DAYS: usize = 36_600;

const LIST: &str = "sources";
const BLANK: &str = "is blank; give the id of the cluster";

/// The clusters in the order in which they are listed, at least one. `None` if something was reported.
pub(super) fn resolve(settings: &mut Settings, problems: &mut Problems) -> Option<Vec<Source>> {
    let single = single(settings, problems);
    if !settings.is_given(LIST) {
        return single.map(|source| vec![source]);
    }
    if SOURCE_KEYS.iter().any(|key| settings.is_given(&join("source", key))) {
        problems.add(settings.place(LIST), LIST, "source is given as well; keep one of the two");
        return None;
    }
    match settings.value(LIST) {
        Some(Value::Sources(sources)) => Some(sources.clone()),
        _ => None,
    }
}

/// Reports a period and a list that are too long together.
pub(super) fn refuse_too_many(
    sources: &Option<Vec<Source>>,
    period: Option<Period>,
    settings: &Settings,
    problems: &mut Problems,
) {
    let (Some(sources), Some(period)) = (sources, period) else { return };
    let day_count = usize::try_from(period.end.0 - period.start.0 + 1).unwrap_or(0);
    let source_days = sources.len().saturating_mul(day_count);
    if source_days > MAX_SOURCE_DAYS {
        let text = format!(
            "{} sources times {day_count} days are {source_days}, at most {MAX_SOURCE_DAYS} are allowed; run them in parts",
            sources.len()
        );
        problems.add(settings.place(LIST), LIST, text);
    }
}

fn single(settings: &mut Settings, problems: &mut Problems) -> Option<Source> {
    let cluster_id = settings.text("source.cluster_id");
    if cluster_id.as_ref().is_some_and(|id| id.trim().is_empty()) {
        problems.add(settings.place("source.cluster_id"), "source.cluster_id", BLANK);
    }
    if let Some(id) = &cluster_id {
        settings.derive("source.cluster_alias", Value::Text(id.clone()), "from source.cluster_id");
    }
    let uuid = match settings.value("source.uuid") {
        Some(Value::Uuid(uuid)) => Some(*uuid),
        _ => None,
    };
    Some(Source {
        uuid: uuid?,
        cluster_id: cluster_id?,
        cluster_alias: settings.text("source.cluster_alias")?,
        report_period_id: settings.number("source.report_period_id"),
    })
}

impl Reader<'_> {
    /// Reads the list; every entry has the keys of `source`.
    pub(super) fn sources(&mut self, list: &Node, items: &[Node], path: &str) -> Option<Value> {
        let fault = match items.len() {
            0 => Some("lists no source; list at least one, or give source".to_owned()),
            count if count > MAX_SOURCES => {
                Some(format!("lists {count} sources, at most {MAX_SOURCES} are allowed; run them in parts"))
            }
            _ => None,
        };
        if let Some(fault) = fault {
            self.problems.add(list.place, path, fault);
            return None;
        }
        let mut index_of = HashMap::new();
        let entries = items.iter().enumerate().map(|(index, item)| self.entry(item, path, index, &mut index_of));
        // Every entry is read, so that all problems are found.
        let entries: Vec<Option<Source>> = entries.collect();
        entries.into_iter().collect::<Option<_>>().map(Value::Sources)
    }

    fn entry(&mut self, item: &Node, list: &str, index: usize, index_of: &mut HashMap<Uuid, usize>) -> Option<Source> {
        let path = format!("{list}[{index}]");
        let nodes: [Option<&Node>; 4] = self.fields(item, &path, SOURCE_KEYS)?;
        let mut values = [None, None, None, None];
        let mut complete = true;
        for ((name, node), value) in SOURCE_KEYS.iter().zip(nodes).zip(&mut values) {
            match self.entry_field(item, node, &path, name) {
                Some(found) => *value = found,
                None => complete = false,
            }
        }
        let [uuid, cluster_id, cluster_alias, report_period_id] = values;
        if let Some(Value::Uuid(uuid)) = uuid
            && let Some(earlier) = index_of.insert(uuid, index)
        {
            let text = format!("the same uuid as {list}[{earlier}]; list each source once");
            self.problems.add(nodes[0].map_or(item.place, |node| node.place), &join(&path, "uuid"), text);
            complete = false;
        }
        let cluster_id = match cluster_id {
            Some(Value::Text(id)) if id.trim().is_empty() => {
                self.problems.add(nodes[1].map_or(item.place, |node| node.place), &join(&path, "cluster_id"), BLANK);
                None
            }
            Some(Value::Text(id)) => Some(id),
            _ => None,
        };
        let (Some(Value::Uuid(uuid)), Some(cluster_id), true) = (uuid, cluster_id, complete) else { return None };
        let cluster_alias = match cluster_alias {
            Some(Value::Text(alias)) => alias,
            // As for a single source.
            _ => cluster_id.clone(),
        };
        let report_period_id = match report_period_id {
            Some(Value::Integer(id)) => i32::try_from(id).ok(),
            _ => None,
        };
        Some(Source { uuid, cluster_id, cluster_alias, report_period_id })
    }

    /// Outer `None` was reported; inner `None` is not given.
    fn entry_field(&mut self, item: &Node, node: Option<&Node>, path: &str, name: &str) -> Option<Option<Value>> {
        let key = registry::find(&join("source", name)).expect("an entry has the keys of `source`");
        let path = join(path, name);
        let empty = match node.map(|node| self.read(key.kind, node, &path)) {
            Some(Outcome::Set(value, _)) => return Some(Some(value)),
            Some(Outcome::Invalid) => return None,
            Some(Outcome::Unset(reference)) => reference,
            None => None,
        };
        if !matches!(key.default, Fallback::RequiredIf(_)) {
            return Some(None);
        }
        let empty = empty.map_or(String::new(), |reference| format!("`{reference}` is empty; "));
        let place = node.map_or(item.place, |node| node.place);
        self.problems.add(place, &path, format!("missing: {empty}{}", key.doc.trim_end_matches('.')));
        None
    }
}
