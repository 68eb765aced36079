//! Settings → the YAML that `gristmill config` prints: every key with its value and where it came from, secrets redacted.
//! Apart from secrets the text is itself a configuration with the same meaning.

use super::registry::Kind;
use super::settings::{Origin, Setting, Settings, State};
use super::value::{MonthChoice, Value};

/// What is printed in place of a secret.
pub(super) const REDACTED: &str = "<redacted>";

/// Every key with its value and where it came from.
#[derive(Debug, Clone)]
pub struct Effective {
    settings: Settings,
}

impl Effective {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

/// The text of `gristmill config`.
pub fn effective_yaml(effective: &Effective) -> String {
    let mut text = String::new();
    let mut open_section = "";
    for setting in effective.settings.iter() {
        let (section, name) = setting.key.path.rsplit_once('.').unwrap_or(("", setting.key.path));
        if section != open_section {
            open(&mut text, open_section, section);
            open_section = section;
        }
        let indent = "  ".repeat(depth(section));
        let origin = origin(setting);
        text.push_str(&format!("{indent}{name}: {}{origin}\n", rendered(setting)));
    }
    text
}

/// Writes the headings that lead from one section into another.
fn open(text: &mut String, from: &str, to: &str) {
    let mut at = 0;
    for (level, part) in to.split('.').enumerate() {
        if part.is_empty() {
            continue;
        }
        at += part.len() + usize::from(level > 0);
        let heading = &to[..at];
        let is_open = from == heading || from.strip_prefix(heading).is_some_and(|rest| rest.starts_with('.'));
        if !is_open {
            text.push_str(&format!("{}{part}:\n", "  ".repeat(level)));
        }
    }
}

fn depth(section: &str) -> usize {
    if section.is_empty() { 0 } else { section.split('.').count() }
}

fn origin(setting: &Setting) -> String {
    if let (true, State::Set(value)) = (is_resolved_period(setting), &setting.state) {
        let given = match value {
            Value::Month(MonthChoice::Current) => "current".to_owned(),
            Value::Month(MonthChoice::Previous) => "previous".to_owned(),
            Value::Month(MonthChoice::Of(month)) => month.to_string(),
            other => render(setting.key.kind, other),
        };
        return format!("  # given as {given}, see the dates above");
    }
    match &setting.origin {
        Origin::Default if matches!(setting.state, State::Unset) => String::new(),
        Origin::Default => "  # default".to_owned(),
        Origin::File => String::new(),
        Origin::Environment(variables) => format!("  # from the environment: {}", variables.join(", ")),
        Origin::Override => "  # from --set".to_owned(),
        Origin::SecretFile(path) => format!("  # from {path}"),
        Origin::Derived(how) => format!("  # {how}"),
    }
}

/// The dates that follow from these two are printed; both forms at once would be refused when read again.
fn is_resolved_period(setting: &Setting) -> bool {
    matches!(setting.key.path, "period.month" | "period.last_days")
}

fn rendered(setting: &Setting) -> String {
    match &setting.state {
        State::Set(_) if is_resolved_period(setting) => "null".to_owned(),
        State::Set(value) => render(setting.key.kind, value),
        State::Unset | State::Invalid => "null".to_owned(),
    }
}

fn render(kind: Kind, value: &Value) -> String {
    match value {
        _ if kind.is_secret() => REDACTED.to_owned(),
        Value::Secret(_) => REDACTED.to_owned(),
        Value::Text(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Bytes(size) => render_bytes(*size),
        Value::Auto => "auto".to_owned(),
        Value::Flag(flag) => flag.to_string(),
        Value::Choice(name) => (*name).to_owned(),
        Value::Uuid(uuid) => uuid.hyphenated().to_string(),
        Value::Date(date) => date.format("%Y-%m-%d").to_string(),
        Value::Texts(texts) => list(texts.iter().map(|text| quoted(text))),
        Value::Categories(categories) => list(categories.iter().map(|category| {
            let pattern = quoted(&category.namespace_pattern);
            format!("{{namespace: {pattern}, cost_category_id: {}}}", category.cost_category_id)
        })),
        Value::Roles(roles) => list(roles.iter().map(|role| {
            let nullable = |text: &Option<String>| text.as_deref().map_or("null".to_owned(), quoted);
            let (resource_id, role_name) = (nullable(&role.resource_id), nullable(&role.role));
            format!("{{node: {}, resource_id: {resource_id}, role: {role_name}}}", quoted(&role.node))
        })),
        Value::Sources(sources) => list(sources.iter().map(|source| {
            let (cluster_id, alias) = (quoted(&source.cluster_id), quoted(&source.cluster_alias));
            let period = source.report_period_id.map_or("null".to_owned(), |id| id.to_string());
            let uuid = source.uuid.hyphenated();
            format!("{{uuid: {uuid}, cluster_id: {cluster_id}, cluster_alias: {alias}, report_period_id: {period}}}")
        })),
        Value::Derive => "derive".to_owned(),
        Value::Month(_) => "null".to_owned(),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// The largest unit that shows the number exactly.
fn render_bytes(size: u64) -> String {
    for (unit, factor) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if size.is_multiple_of(factor) {
            return format!("{}{unit}", size / factor);
        }
    }
    size.to_string()
}

/// A scalar that reads back as this text, whatever it holds.
fn quoted(text: &str) -> String {
    const WORDS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "auto", "derive"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ if c.is_alphanumeric() => out.push(c),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}
