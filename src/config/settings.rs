//! Tree × list of keys → one setting per key, with where it came from. Finds unknown keys, wrong types and ranges; what
//! several keys say together is left to `validate`.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::header_text::without_line_end;
use super::problem::{Place, Problems};
use super::registry::{self, Fallback, Key, Kind};
use super::suggest::unknown_key;
use super::tree::{Content, Node, join};
use super::value::{Outcome, Reader, Value, parse_scalar};

/// Reads a file that holds a secret.
pub(super) type SecretFileReader<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// What is known about one key.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) key: &'static Key,
    pub(super) state: State,
    pub(super) origin: Origin,
    pub(super) place: Place,
}

/// Whether a key has a value.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Neither given nor defaulted.
    Unset,
    /// Given, and reported as unusable.
    Invalid,
    /// Given, defaulted or derived.
    Set(Value),
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nowhere, or from the registry's default.
    Default,
    /// From the configuration file.
    File,
    /// From the file, by way of these environment variables.
    Environment(Vec<String>),
    /// From `--set`.
    Override,
    /// From the file that another key names.
    SecretFile(String),
    /// From other keys; the text says how.
    Derived(String),
}

/// All settings, in the order of the registry.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    list: Vec<Setting>,
    section_places: Vec<(String, Place)>,
    /// References that gave nothing, by key.
    empty_references: Vec<(&'static str, String)>,
}

impl Settings {
    /// Reads a tree: every key of it, or a finding.
    pub(super) fn read(root: &Node, reader: &mut Reader<'_>) -> Self {
        let list = registry::keys().map(|key| Setting {
            key,
            state: State::Unset,
            origin: Origin::Default,
            place: Place::File,
        });
        let mut settings = Self { list: list.collect(), section_places: Vec::new(), empty_references: Vec::new() };
        match &root.content {
            Content::Map(_) => settings.read_section(root, "", reader),
            _ => {
                let text = format!("the file is {}; expected a mapping that begins with version: 1", root.kind_name());
                reader.problems.add(root.place, "", text);
            }
        }
        settings
    }

    fn read_section(&mut self, node: &Node, path: &str, reader: &mut Reader<'_>) {
        let entries = match &node.content {
            Content::Map(entries) => entries,
            _ if node.is_null() => return,
            Content::Reported => return,
            _ => {
                let text = format!("is {}; expected a mapping of keys", node.kind_name());
                reader.problems.add(node.place, path, text);
                return;
            }
        };
        for entry in entries {
            let path = join(path, &entry.key);
            if registry::find_section(&path).is_some() {
                self.section_places.push((path.clone(), entry.key_place));
                self.read_section(&entry.value, &path, reader);
            } else if let Some(index) = self.list.iter().position(|setting| setting.key.path == path) {
                self.read_key(index, &entry.value, reader);
            } else {
                reader.problems.add(entry.key_place, &path, unknown_key(&path));
            }
        }
    }

    fn read_key(&mut self, index: usize, node: &Node, reader: &mut Reader<'_>) {
        let setting = &mut self.list[index];
        setting.place = node.place;
        match reader.read(setting.key.kind, node, setting.key.path) {
            Outcome::Unset(Some(source)) => self.empty_references.push((setting.key.path, source)),
            Outcome::Unset(None) => {}
            Outcome::Invalid => setting.state = State::Invalid,
            Outcome::Set(value, variables) => {
                setting.state = State::Set(value);
                setting.origin = match (node.place, variables.is_empty()) {
                    (Place::Override, _) => Origin::Override,
                    (_, false) => Origin::Environment(variables),
                    (_, true) => Origin::File,
                };
            }
        }
    }

    /// Fills in the fixed defaults of the registry.
    pub(super) fn fill_defaults(&mut self) {
        for setting in &mut self.list {
            if let (State::Unset, Fallback::Fixed(text)) = (&setting.state, setting.key.default) {
                let value = parse_scalar(setting.key.kind, text).expect("a test parses every default of the registry");
                setting.state = State::Set(value);
            }
        }
    }

    /// Takes secrets from the files that `…_file` keys name.
    pub(super) fn read_secret_files(&mut self, read_file: SecretFileReader<'_>, problems: &mut Problems) {
        for key in registry::keys().filter(|key| key.kind == Kind::SecretFile) {
            let file = self.at(key.path);
            let State::Set(Value::Text(path)) = &file.state else { continue };
            let place = file.place;
            let secret_path = key.path.strip_suffix("_file").expect("keys of secret files end in _file");
            if self.is_given(secret_path) {
                problems.add(place, key.path, format!("{secret_path} is given as well; keep one of the two"));
                continue;
            }
            let text = match read_file(Path::new(path)) {
                Ok(text) => text,
                Err(error) => {
                    let text = format!("the file cannot be read ({}); check the path and its mount", cause(&error));
                    problems.add(place, key.path, text);
                    self.at_mut(secret_path).state = State::Invalid;
                    continue;
                }
            };
            let secret = without_line_end(&text);
            let fault = if secret.is_empty() {
                Some("the file is empty; write the secret into it")
            } else if secret.contains('\0') {
                Some("the file holds a NUL character; remove it")
            } else {
                None
            };
            if let Some(fault) = fault {
                problems.add(place, key.path, fault);
                self.at_mut(secret_path).state = State::Invalid;
                continue;
            }
            let value = Value::Secret(SecretString::from(secret));
            let setting = self.at_mut(secret_path);
            setting.state = State::Set(value);
            setting.origin = Origin::SecretFile(key.path.to_owned());
        }
    }

    /// All settings in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.list.iter()
    }

    /// The setting of a key of the registry.
    pub(super) fn at(&self, path: &str) -> &Setting {
        self.list.iter().find(|setting| setting.key.path == path).expect("only keys of the registry are asked for")
    }

    fn at_mut(&mut self, path: &str) -> &mut Setting {
        self.list.iter_mut().find(|setting| setting.key.path == path).expect("only keys of the registry are asked for")
    }

    /// Puts a value that follows from other keys, where none was given.
    pub(super) fn derive(&mut self, path: &str, value: Value, how: &str) {
        let setting = self.at_mut(path);
        if matches!(setting.state, State::Unset) {
            setting.state = State::Set(value);
            setting.origin = Origin::Derived(how.to_owned());
        }
    }

    /// Puts the form of a value that is used, keeping where it came from.
    pub(super) fn normalise(&mut self, path: &str, value: Value) {
        self.at_mut(path).state = State::Set(value);
    }

    /// Whether the user gave a value, usable or not.
    pub(super) fn is_given(&self, path: &str) -> bool {
        let setting = self.at(path);
        match setting.state {
            State::Unset => false,
            State::Invalid => true,
            State::Set(_) => setting.origin != Origin::Default,
        }
    }

    /// Where a key stands; where the innermost section around it stands if it is not there.
    pub(super) fn place(&self, path: &str) -> Place {
        let place = self.at(path).place;
        if place != Place::File {
            return place;
        }
        path.rsplit_once('.').map_or(Place::File, |(section, _)| self.section_place(section))
    }

    /// Where a section stands, or the innermost one around it.
    pub(super) fn section_place(&self, section: &str) -> Place {
        let mut inner = section;
        loop {
            if let Some((_, place)) = self.section_places.iter().find(|(known, _)| known == inner) {
                return *place;
            }
            match inner.rsplit_once('.') {
                Some((outer, _)) => inner = outer,
                None => return Place::File,
            }
        }
    }

    /// Reports a key that must be given and is not; `case` says when it must.
    pub(super) fn require(&self, path: &str, case: &str, problems: &mut Problems) {
        if !matches!(self.at(path).state, State::Unset) {
            return;
        }
        let case = if case.is_empty() { String::new() } else { format!(" (required because {case})") };
        let reference = self.empty_references.iter().find(|(key, _)| *key == path);
        let empty = reference.map_or(String::new(), |(_, source)| format!("`{source}` is empty; "));
        let doc = self.at(path).key.doc.trim_end_matches('.');
        problems.add(self.place(path), path, format!("missing{case}: {empty}{doc}"));
    }

    /// Value of a text, path or identifier key; `None` if it has none or it was reported.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        match &self.at(path).state {
            State::Set(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Value of a path key.
    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    /// Value of a secret key.
    pub(super) fn secret(&self, path: &str) -> Option<SecretString> {
        match &self.at(path).state {
            State::Set(Value::Secret(secret)) => Some(secret.clone()),
            _ => None,
        }
    }

    /// Where a secret came from, if it was not written in its place: to stand before what is wrong with it.
    pub(super) fn secret_source(&self, path: &str) -> String {
        match &self.at(path).origin {
            Origin::Environment(variables) => format!("(from {}) ", variables.join(", ")),
            Origin::SecretFile(key) => format!("(from the file of {key}) "),
            _ => String::new(),
        }
    }

    /// Value of a choice key; empty if it was reported.
    pub(super) fn choice(&self, path: &str) -> Option<&'static str> {
        match &self.at(path).state {
            State::Set(Value::Choice(name)) => Some(name),
            _ => None,
        }
    }

    /// Value of a flag key.
    pub(super) fn flag(&self, path: &str) -> Option<bool> {
        match &self.at(path).state {
            State::Set(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// Value of a number key in the type that the program uses.
    pub(super) fn number<N: TryFrom<i64>>(&self, path: &str) -> Option<N> {
        match &self.at(path).state {
            State::Set(Value::Integer(number)) => N::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The value of any other kind.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        match &self.at(path).state {
            State::Set(value) => Some(value),
            _ => None,
        }
    }
}

/// The cause without the path, which the message has already.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
        kind => kind.to_string(),
    }
}
