//! One node of the tree and the kind its key has → a typed value, or findings. Single values only know themselves;
//! what several keys say together is checked in `validate`.

use chrono::{Datelike, NaiveDate};
use secrecy::SecretString;
use uuid::Uuid;

use super::Source;
use super::expand::{Environment, Expanded, expand};
use super::header_text::without_line_end;
use super::problem::{Place, Problems};
use super::registry::{COST_CATEGORY_KEYS, Kind, NODE_ROLE_KEYS};
use super::suggest::nearest;
use super::tree::{Content, Entry, Node, join};
use crate::rollups::facts::{CostCategory, NodeRole};
use crate::time::BillingMonth;

/// A value of one key.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text, path or identifier.
    Text(String),
    /// Never printed.
    Secret(SecretString),
    /// Whole number.
    Integer(i64),
    /// Number.
    Number(f64),
    /// Number of bytes.
    Bytes(u64),
    /// `auto`
    Auto,
    /// `true` or `false`
    Flag(bool),
    /// One of the key's words.
    Choice(&'static str),
    /// Uuid.
    Uuid(Uuid),
    /// Calendar date.
    Date(NaiveDate),
    /// Calendar month, perhaps relative.
    Month(MonthChoice),
    /// Texts.
    Texts(Vec<String>),
    /// Patterns.
    Categories(Vec<CostCategory>),
    /// Roles.
    Roles(Vec<NodeRole>),
    /// `derive`
    Derive,
    /// Clusters.
    Sources(Vec<Source>),
}

/// `period.month`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MonthChoice {
    /// The one that is running.
    Current,
    /// The one before it.
    Previous,
    /// A given one.
    Of(BillingMonth),
}

/// How reading a node ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Null or empty; the text of the file if references in it gave nothing.
    Unset(Option<String>),
    /// Reported.
    Invalid,
    /// A value and the variables it came from.
    Set(Value, Vec<String>),
}

/// What reading needs besides the node.
pub(super) struct Reader<'a> {
    pub(super) environment: Environment<'a>,
    pub(super) problems: &'a mut Problems,
}

/// A scalar after expansion, and how it may be shown in a message.
struct Scalar {
    text: String,
    shown: String,
    variables: Vec<String>,
    replaced: bool,
    is_null: bool,
}

impl Reader<'_> {
    /// Reads the value of a key. A null or empty scalar counts as not set.
    pub(super) fn read(&mut self, kind: Kind, node: &Node, path: &str) -> Outcome {
        let list_wanted = matches!(kind, Kind::TextList | Kind::CostCategories | Kind::NodeRoles);
        match &node.content {
            Content::Reported => Outcome::Invalid,
            Content::List(items) if kind == Kind::Sources => match self.sources(node, items, path) {
                Some(value) => Outcome::Set(value, Vec::new()),
                None => Outcome::Invalid,
            },
            Content::List(items) if list_wanted => match self.read_list(kind, items, path) {
                Some(value) => Outcome::Set(value, Vec::new()),
                None => Outcome::Invalid,
            },
            Content::List(_) | Content::Map(_) => {
                let text = format!("is {}; expected {}", node.kind_name(), kind.describe());
                self.problems.add(node.place, path, text);
                Outcome::Invalid
            }
            Content::Scalar { .. } => {
                let Some(scalar) = self.scalar(node, path) else { return Outcome::Invalid };
                // What a variable holds is without it already; of what stands in the file itself only a secret is never printed again.
                let is_as_written = scalar.replaced || !kind.is_secret();
                let text = if is_as_written { &scalar.text } else { without_line_end(&scalar.text) };
                if scalar.is_null || text.is_empty() {
                    return Outcome::Unset(scalar.replaced.then_some(scalar.shown));
                }
                match parse_scalar(kind, text) {
                    Ok(value) => Outcome::Set(value, scalar.variables),
                    // Instead of the name of a file some write the secret itself.
                    Err(fault) if kind.is_secret() || kind == Kind::SecretFile => {
                        self.problems.add(node.place, path, fault);
                        Outcome::Invalid
                    }
                    Err(fault) => {
                        self.problems.add(node.place, path, format!("`{}` {fault}", scalar.shown));
                        Outcome::Invalid
                    }
                }
            }
        }
    }

    fn read_list(&mut self, kind: Kind, items: &[Node], path: &str) -> Option<Value> {
        let mut texts = Vec::new();
        let mut categories = Vec::new();
        let mut roles = Vec::new();
        let mut complete = true;
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let read = match kind {
                Kind::CostCategories => self.cost_category(item, &path).map(|category| categories.push(category)),
                Kind::NodeRoles => self.node_role(item, &path).map(|role| roles.push(role)),
                _ => self.item_text(item, &path).map(|text| texts.push(text)),
            };
            complete &= read.is_some();
        }
        if !complete {
            return None;
        }
        Some(match kind {
            Kind::CostCategories => Value::Categories(categories),
            Kind::NodeRoles => Value::Roles(roles),
            _ => Value::Texts(texts),
        })
    }

    fn cost_category(&mut self, item: &Node, path: &str) -> Option<CostCategory> {
        let [namespace, id] = self.fields(item, path, COST_CATEGORY_KEYS)?;
        let namespace_path = join(path, "namespace");
        let id_path = join(path, "cost_category_id");
        let pattern = self.required_field(namespace, item.place, &namespace_path);
        let id = match id.map(|node| self.read(Kind::Integer { min: 1, max: i64::from(i32::MAX) }, node, &id_path)) {
            Some(Outcome::Set(Value::Integer(id), _)) => i32::try_from(id).ok(),
            Some(Outcome::Invalid) => None,
            _ => {
                self.problems.add(item.place, &id_path, "missing; give the number of the category");
                None
            }
        };
        Some(CostCategory { namespace_pattern: pattern?, cost_category_id: id? })
    }

    fn node_role(&mut self, item: &Node, path: &str) -> Option<NodeRole> {
        let [node, resource_id, role] = self.fields(item, path, NODE_ROLE_KEYS)?;
        let node = self.required_field(node, item.place, &join(path, "node"));
        let resource_id = self.nullable_field(resource_id, &join(path, "resource_id"));
        let role = self.nullable_field(role, &join(path, "role"));
        Some(NodeRole { node: node?, resource_id: resource_id?, role: role? })
    }

    /// The values of a mapping in the order of `names`; other keys are reported.
    pub(super) fn fields<'n, const N: usize>(
        &mut self,
        item: &'n Node,
        path: &str,
        names: &[&'static str],
    ) -> Option<[Option<&'n Node>; N]> {
        let entries: &[Entry] = match &item.content {
            Content::Map(entries) => entries,
            Content::Reported => return None,
            _ => {
                let text = format!("is {}; expected {{{}}}", item.kind_name(), names.join(", "));
                self.problems.add(item.place, path, text);
                return None;
            }
        };
        let mut values = [None; N];
        let mut known = true;
        for entry in entries {
            match names.iter().position(|name| *name == entry.key) {
                Some(index) => values[index] = Some(&entry.value),
                None => {
                    known = false;
                    let text = match nearest(&entry.key, names.iter().copied()) {
                        Some(name) => format!("unknown key; did you mean {name}?"),
                        None => format!("unknown key; known here: {}", names.join(", ")),
                    };
                    self.problems.add(entry.key_place, &join(path, &entry.key), text);
                }
            }
        }
        known.then_some(values)
    }

    fn required_field(&mut self, node: Option<&Node>, place: Place, path: &str) -> Option<String> {
        match node {
            Some(node) => self.item_text(node, path),
            None => {
                self.problems.add(place, path, "missing; give a text");
                None
            }
        }
    }

    /// Outer `None` was reported; inner `None` is null.
    fn nullable_field(&mut self, node: Option<&Node>, path: &str) -> Option<Option<String>> {
        match node {
            Some(node) if !node.is_null() => self.item_text(node, path).map(Some),
            _ => Some(None),
        }
    }

    /// A text inside a list: empty counts as a value if it is quoted.
    fn item_text(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.content {
            Content::Reported => None,
            Content::List(_) | Content::Map(_) => {
                self.problems.add(node.place, path, format!("is {}; expected a text", node.kind_name()));
                None
            }
            Content::Scalar { .. } => {
                let scalar = self.scalar(node, path)?;
                if scalar.is_null {
                    self.problems.add(node.place, path, "is null; expected a text (quote it if it is meant as a word)");
                    return None;
                }
                match refuse_nul(&scalar.text) {
                    Ok(()) => Some(scalar.text),
                    Err(fault) => {
                        self.problems.add(node.place, path, format!("`{}` {fault}", scalar.shown));
                        None
                    }
                }
            }
        }
    }

    fn scalar(&mut self, node: &Node, path: &str) -> Option<Scalar> {
        let Content::Scalar { text, .. } = &node.content else { return None };
        match expand(text, self.environment) {
            Ok(Expanded { text: mut expanded, variables, replaced }) => {
                if replaced {
                    expanded.truncate(without_line_end(&expanded).len());
                }
                let is_null = !replaced && node.is_null();
                Some(Scalar { text: expanded, shown: shown(text), variables, replaced, is_null })
            }
            Err(faults) => {
                for fault in faults {
                    self.problems.add(node.place, path, fault);
                }
                None
            }
        }
    }
}

/// Characters of a value in a message: enough to know it again, and less than most keys have that somebody may put in the wrong
/// place.
const SHOWN_CHARS: usize = 24;

/// Text of the file as it may stand in a message: one line, short. Variables show by name, not by value.
fn shown(source: &str) -> String {
    let mut text: String = source.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect();
    if source.chars().nth(SHOWN_CHARS).is_some() {
        text.push('…');
    }
    text
}

/// Reads the text of a scalar. Errors: what is wrong and the fix, to stand after the value.
pub(super) fn parse_scalar(kind: Kind, text: &str) -> Result<Value, String> {
    let word = text.trim();
    match kind {
        Kind::Text { max_chars } => {
            refuse_nul(text)?;
            let count = text.chars().count();
            if count > max_chars {
                return Err(format!("has {count} characters; at most {max_chars} are allowed"));
            }
            Ok(Value::Text(text.to_owned()))
        }
        Kind::Identifier => {
            refuse_nul(text)?;
            if text.len() > 63 {
                return Err(format!("has {} bytes; PostgreSQL names have at most 63", text.len()));
            }
            Ok(Value::Text(text.to_owned()))
        }
        Kind::Path | Kind::SecretFile => refuse_nul(text).map(|()| Value::Text(text.to_owned())),
        Kind::Secret => refuse_nul(text).map(|()| Value::Secret(SecretString::from(text))),
        Kind::Integer { min, max } => integer(word, min, max).map(Value::Integer),
        Kind::Number { min, max } => number(word, min, max).map(Value::Number),
        Kind::AutoInteger { .. } | Kind::AutoBytes if word.eq_ignore_ascii_case("auto") => Ok(Value::Auto),
        Kind::AutoInteger { min, max } => {
            integer(word, min, max).map(Value::Integer).map_err(|fault| format!("{fault}, or auto"))
        }
        Kind::AutoBytes => bytes(word).map(Value::Bytes),
        Kind::Flag if word.eq_ignore_ascii_case("true") => Ok(Value::Flag(true)),
        Kind::Flag if word.eq_ignore_ascii_case("false") => Ok(Value::Flag(false)),
        Kind::Flag => Err("is not a yes or no; write true or false".to_owned()),
        Kind::Choice { names, aliases } => choice(word, names, aliases).map(Value::Choice),
        Kind::Uuid => uuid(word).map(Value::Uuid),
        Kind::Date => date(word).map(Value::Date),
        Kind::Month => month(word).map(Value::Month),
        Kind::NodeRoles if word == "derive" => Ok(Value::Derive),
        Kind::TextList | Kind::CostCategories | Kind::NodeRoles | Kind::Sources => {
            Err(format!("is a single value; expected {}", kind.describe()))
        }
    }
}

fn refuse_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("holds a NUL character; remove it".to_owned()) } else { Ok(()) }
}

fn integer(word: &str, min: i64, max: i64) -> Result<i64, String> {
    let expected = if min == max { format!("write {min}") } else { format!("write a whole number, {min} to {max}") };
    let digits = word.strip_prefix('-').unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("is not a whole number; {expected}"));
    }
    // Too many digits for i64 is out of range as well.
    match word.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("is out of range; {expected}")),
    }
}

fn number(word: &str, min: i64, max: i64) -> Result<f64, String> {
    let expected = format!("write a number such as 12.5, {min} to {max}");
    // The parser also reads signs, exponents, infinities and words, which nobody means here.
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match word.parse::<f64>() {
        Ok(number) if is_plain && (min as f64..=max as f64).contains(&number) => Ok(number),
        Ok(_) if is_plain => Err(format!("is out of range; {expected}")),
        _ => Err(format!("is not a number; {expected}")),
    }
}

fn bytes(word: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1)];
    const FORM: &str = "write auto, or a whole number with B, KiB, MiB, GiB or TiB, such as 256MiB";
    let digits_end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = (&word[..digits_end], word[digits_end..].trim());
    let factor = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return Err(format!("is not a size; {FORM}")),
    };
    if digits.is_empty() {
        return Err(format!("is not a size; {FORM}"));
    }
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(0) => Err(format!("is no memory at all; {FORM}")),
        Some(size) => Ok(size),
        None => Err(format!("is more than 2^64 bytes; {FORM}")),
    }
}

fn choice(
    word: &str,
    names: &[&'static str],
    aliases: &[(&'static str, &'static str)],
) -> Result<&'static str, String> {
    if let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(word)) {
        return Ok(name);
    }
    if let Some((_, name)) = aliases.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(word)) {
        return Ok(name);
    }
    let listed = names.join(", ");
    Err(match nearest(word, names.iter().copied()) {
        Some(name) => format!("is none of {listed}; did you mean {name}?"),
        None => format!("is none of {listed}"),
    })
}

fn uuid(word: &str) -> Result<Uuid, String> {
    // The hyphenated form only: it is also the name of a folder.
    let parsed = if word.len() == 36 { Uuid::try_parse(word).ok() } else { None };
    parsed.ok_or_else(|| "is not a uuid; write 32 hexadecimal digits as 8-4-4-4-12".to_owned())
}

fn date(word: &str) -> Result<NaiveDate, String> {
    let parts: Vec<&str> = word.split('-').collect();
    let &[year, month, day] = parts.as_slice() else { return Err("is not a date; write YYYY-MM-DD".to_owned()) };
    let numbers = (fixed_digits(year, 4), fixed_digits(month, 2), fixed_digits(day, 2));
    let (Some(year), Some(month), Some(day)) = numbers else {
        return Err("is not a date; write YYYY-MM-DD".to_owned());
    };
    let year = i32::try_from(year).map_err(|_| "is not a date; write YYYY-MM-DD".to_owned())?;
    let date = NaiveDate::from_ymd_opt(year, month, day).ok_or_else(|| "is not in the calendar".to_owned())?;
    if date.year() < 1970 {
        return Err("lies before 1970-01-01; usage reports are younger".to_owned());
    }
    Ok(date)
}

fn month(word: &str) -> Result<MonthChoice, String> {
    const FORM: &str = "is not a month; write current, previous or YYYY-MM";
    match word {
        "current" => return Ok(MonthChoice::Current),
        "previous" => return Ok(MonthChoice::Previous),
        _ => {}
    }
    let (year, month) = word.split_once('-').ok_or(FORM)?;
    let (Some(year), Some(month)) = (fixed_digits(year, 4), fixed_digits(month, 2)) else {
        return Err(FORM.to_owned());
    };
    if !(1..=12).contains(&month) {
        return Err("is not in the calendar; months are 01 to 12".to_owned());
    }
    let year = i32::try_from(year).map_err(|_| FORM.to_owned())?;
    if year < 1970 {
        return Err("lies before 1970-01; usage reports are younger".to_owned());
    }
    Ok(MonthChoice::Of(BillingMonth { year, month }))
}

fn fixed_digits(text: &str, length: usize) -> Option<u32> {
    let well_formed = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if well_formed { text.parse().ok() } else { None }
}
