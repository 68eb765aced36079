//! `--set key.path=value` → a replaced value in the tree, before anything is interpreted. Secrets are refused: command
//! lines show in process lists and shell histories.

use super::problem::{Place, Problems};
use super::registry::{self, Kind};
use super::suggest::{nearest, unknown_key};
use super::tree::{Content, Entry, Node, join, parse_tree};

/// Applies all overrides in order; a later one wins over an earlier one.
pub(super) fn apply(root: &mut Node, overrides: &[String], problems: &mut Problems) {
    for text in overrides {
        let Some((path, value)) = text.split_once('=') else {
            problems.add(Place::Override, "", "needs the form key.path=value");
            continue;
        };
        let path = path.trim();
        if registry::find(path).is_none() && registry::find_section(path).is_none() {
            problems.add(Place::Override, &shown_unknown(path), unknown_key(path));
            continue;
        }
        let Some(node) = value_node(path, value, problems) else { continue };
        if !holds_secret(path, &node, problems) {
            replace(root, path, node);
        }
    }
}

/// Characters of a key that resembles no known one.
const STRANGE_KEY_CHARS: usize = 8;

/// An unknown key. If not even its first part is near a known one it may be no key at all, but a secret that ends with `=` and
/// that somebody passed alone.
fn shown_unknown(path: &str) -> String {
    let first = path.split('.').next().unwrap_or_default();
    let is_near = nearest(first, registry::paths().flat_map(|known| known.split('.'))).is_some();
    let is_short = path.chars().nth(STRANGE_KEY_CHARS).is_none();
    if is_near || is_short { path.to_owned() } else { path.chars().take(STRANGE_KEY_CHARS).chain(['…']).collect() }
}

/// Text that begins like a list, mapping or quoted text is YAML; everything else is taken as it stands, so that `#`, `*`
/// or `: ` in a path or URL need no second layer of quotes.
fn value_node(path: &str, value: &str, problems: &mut Problems) -> Option<Node> {
    if !value.trim_start().starts_with(['[', '{', '"', '\'']) {
        let content = Content::Scalar { text: value.to_owned(), plain: true };
        return Some(Node { place: Place::Override, content });
    }
    let mut found = Problems::default();
    let node = parse_tree(value, &mut found);
    let parsed_well = found.is_empty();
    for problem in found.into_list() {
        let path = if problem.path.is_empty() { path.to_owned() } else { join(path, &problem.path) };
        problems.add(Place::Override, &path, problem.text);
    }
    let mut node = node.filter(|_| parsed_well)?;
    mark_as_override(&mut node);
    Some(node)
}

/// Positions inside the value mean nothing in the file.
fn mark_as_override(node: &mut Node) {
    node.place = Place::Override;
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(mark_as_override),
        Content::Map(entries) => {
            for entry in entries {
                entry.key_place = Place::Override;
                mark_as_override(&mut entry.value);
            }
        }
        Content::Scalar { .. } | Content::Reported => {}
    }
}

fn holds_secret(path: &str, node: &Node, problems: &mut Problems) -> bool {
    if registry::find(path).is_some_and(|key| key.kind == Kind::Secret) {
        let text = format!("a secret does not belong on the command line; set {path}_file or use the environment");
        problems.add(Place::Override, path, text);
        return true;
    }
    let Content::Map(entries) = &node.content else { return false };
    let mut found = false;
    for entry in entries {
        found |= holds_secret(&join(path, &entry.key), &entry.value, problems);
    }
    found
}

fn replace(root: &mut Node, path: &str, value: Node) {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    if root.is_null() {
        root.content = Content::Map(Vec::new());
    }
    // A section that is no mapping is reported when it is read.
    let Content::Map(entries) = &mut root.content else { return };
    let index = match entries.iter().position(|entry| entry.key == first) {
        Some(index) => index,
        None => {
            let empty = Node { place: Place::Override, content: Content::Map(Vec::new()) };
            entries.push(Entry { key: first.to_owned(), key_place: Place::Override, value: empty });
            entries.len() - 1
        }
    };
    match rest {
        Some(rest) => replace(&mut entries[index].value, rest, value),
        None => entries[index].value = value,
    }
}
