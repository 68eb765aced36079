//! Key and value pairs → a label set as the reference stores it: JSON text in the form of Python's default writer.

use crate::objects::append_label;

/// Labels of one object, in the order in which they were set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LabelSet {
    pairs: Vec<(String, String)>,
    json: String,
}

impl LabelSet {
    /// A set of pairs; keys must differ.
    pub(super) fn new(pairs: Vec<(String, String)>) -> Self {
        let mut json = String::from("{");
        for (key, value) in &pairs {
            append_label(&mut json, key, value);
        }
        json.push('}');
        Self { pairs, json }
    }

    /// The pairs.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The JSON text.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}

/// A set that many rows share, and the one label that only this row has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowLabels<'c> {
    /// Shared by the pods of a deployment.
    pub(super) shared: &'c LabelSet,
    /// Key and value of the row's own label.
    pub(super) own: Option<(&'static str, String)>,
}

impl RowLabels<'_> {
    /// Pairs in order, the row's own one last.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let shared = self.shared.pairs().iter().map(|(key, value)| (key.as_str(), value.as_str()));
        shared.chain(self.own.iter().map(|(key, value)| (*key, value.as_str())))
    }

    /// Puts the JSON text into `text`, which must be empty.
    pub(super) fn write_json(&self, text: &mut String) {
        text.push_str(self.shared.json());
        if let Some((key, value)) = &self.own {
            text.pop();
            append_label(text, key, value);
            text.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> LabelSet {
        LabelSet::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn text_has_the_blanks_and_escapes_of_python() {
        assert_eq!(set(&[]).json(), "{}");
        assert_eq!(set(&[("app", "web"), ("empty", "")]).json(), r#"{"app": "web", "empty": ""}"#);
        assert_eq!(set(&[("ö", "a\"b\\\n\u{7f}")]).json(), r#"{"\u00f6": "a\"b\\\n\u007f"}"#);
        assert_eq!(set(&[("k", "🦀")]).json(), r#"{"k": "\ud83e\udd80"}"#);
    }

    #[test]
    fn a_label_of_the_row_alone_comes_last() {
        let shared = set(&[("app", "web")]);
        let empty = set(&[]);
        let mut text = String::new();
        RowLabels { shared: &shared, own: Some(("pod", "p1".to_owned())) }.write_json(&mut text);
        assert_eq!(text, r#"{"app": "web", "pod": "p1"}"#);
        text.clear();
        RowLabels { shared: &empty, own: Some(("pod", "p1".to_owned())) }.write_json(&mut text);
        assert_eq!(text, r#"{"pod": "p1"}"#);
    }
}
