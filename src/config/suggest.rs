//! A mistyped word → the known word that was probably meant.

use super::registry;

/// The nearest of `known`, if it is near enough to be a slip of the finger.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // No known word is this long, and the distance takes time in proportion to the length.
    if word.len() > 100 {
        return None;
    }
    let word = normalised(word);
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &normalised(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The text about a key that does not exist, with the most likely one or with those that exist beside it.
pub(super) fn unknown_key(path: &str) -> String {
    let (parent, leaf) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings: Vec<&str> = registry::paths().filter(|known| parent_of(known) == parent).map(leaf_of).collect();
    if let Some(sibling) = nearest(leaf, siblings.iter().copied()) {
        return format!("unknown key; did you mean {}?", super::tree::join(parent, sibling));
    }
    // The right word in the wrong section.
    let elsewhere = registry::paths().find(|known| leaf_of(known) == normalised(leaf));
    if let Some(known) = elsewhere {
        return format!("unknown key; did you mean {known}?");
    }
    if siblings.is_empty() {
        return "unknown key; `gristmill config --schema` lists all keys".to_owned();
    }
    format!("unknown key; known here: {}", siblings.join(", "))
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

fn leaf_of(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, leaf)| leaf)
}

fn normalised(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}
