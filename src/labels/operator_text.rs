//! The operator's raw label text, `label_app:shop|label_tier:web` → kept pairs.

use super::EnabledKeys;
use super::pairs::Pairs;

/// What the text of an operator begins with, and what is removed from its keys.
pub(super) const PREFIX: &str = "label_";

/// Adds the kept pairs of `text`; answers how many pairs were dropped because they hold more than one colon.
///
/// The rules are those of the system that writes such texts: items without a colon mean nothing, an item with several
/// colons is lost, every occurrence of the prefix leaves the key, not only the first, and values are taken as they are.
pub(super) fn read_operator_text(text: &str, keys: &EnabledKeys, pairs: &mut Pairs) -> u64 {
    let mut dropped = 0;
    for item in text.split('|') {
        let Some((key, value)) = item.split_once(':') else { continue };
        if value.contains(':') {
            dropped += 1;
            continue;
        }
        if let Some(index) = keys.index_of(&key.replace(PREFIX, "")) {
            pairs.push(index, Some(value));
        }
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<(String, String)>, u64) {
        let keys = EnabledKeys::new(["app", "my_x", "tier", ""].map(String::from));
        let mut pairs = Pairs::default();
        let dropped = read_operator_text(text, &keys, &mut pairs);
        pairs.settle(&keys).unwrap();
        let pairs = pairs.iter().map(|(key, value)| (keys.key(key).to_string(), value.unwrap().to_string()));
        (pairs.collect(), dropped)
    }

    fn assert_read(text: &str, expected: &[(&str, &str)], dropped: u64) {
        let expected = expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        assert_eq!(read(text), (expected, dropped), "{text}");
    }

    #[test]
    fn pairs_are_split_and_filtered() {
        assert_read("label_app:shop|label_tier:web|label_other:x", &[("app", "shop"), ("tier", "web")], 0);
        assert_read("label_app:|label_tier: web ", &[("app", ""), ("tier", " web ")], 0);
        assert_read("app:no prefix|tier:x", &[("app", "no prefix"), ("tier", "x")], 0);
    }

    #[test]
    fn items_without_colon_are_ignored_and_with_several_dropped() {
        assert_read("label_app|label_tier:web||label_", &[("tier", "web")], 0);
        assert_read("label_app:http://x|label_tier:a:|label_my_x:1", &[("my_x", "1")], 2);
        assert_read("label_app:kept|label_app:a:b", &[("app", "kept")], 1);
    }

    #[test]
    fn every_occurrence_of_the_prefix_leaves_the_key() {
        assert_read("label_my_label_x:1", &[("my_x", "1")], 0);
        assert_read("label_label_app:label_v", &[("app", "label_v")], 0);
        assert_read("label_:empty key", &[("", "empty key")], 0);
        assert_read("lablabel_el_app:once", &[], 0);
    }

    #[test]
    fn the_last_duplicate_wins() {
        assert_read("label_app:1|label_label_app:2|label_tier:x|app:3", &[("app", "3"), ("tier", "x")], 0);
    }
}
