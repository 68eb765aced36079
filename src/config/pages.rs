//! List of keys → the shipped `config/config.yaml` and `docs/configuration.md`, so that neither can fall behind.

use super::registry::{self, Key};

/// Columns of a comment in the shipped file.
const WIDTH: usize = 110;

/// Text of `config/config.yaml`: every key, commented.
pub fn commented_config() -> String {
    let mut text = String::from(
        "# gristmill: every key with its meaning, values, default and reason. config.minimal.yaml shows the fewest that run.\n\
         # `${VAR}` is replaced by an environment variable, `${VAR:-default}` by the default if it is unset or empty, `$${` stands\n\
         # for `${`. Variables are replaced inside values only and cannot add keys. An empty value or null counts as not set.\n\
         # `gristmill config --config FILE` prints what a file comes to, `--set key.path=value` overrides a key for one run.\n",
    );
    let mut open_section = "";
    for key in registry::keys() {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if section != open_section {
            open_sections(&mut text, open_section, section);
            open_section = section;
        }
        let indent = indent_of(section);
        text.push('\n');
        comment(&mut text, &indent, key.doc);
        comment(&mut text, &indent, &facts(key));
        comment(&mut text, &indent, &format!("Why: {}", key.reason));
        let value = if key.shipped.is_empty() { String::new() } else { format!(" {}", key.shipped) };
        text.push_str(&format!("{indent}{name}:{value}\n"));
    }
    text
}

/// Text of `docs/configuration.md`.
pub fn reference_page() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         This page is made from the list of keys in `src/config/registry/` and checked by a test; edit it there.\n\n\
         - `gristmill config --config FILE` prints what a file comes to, with secrets redacted and the origin of each value;\n  \
           `gristmill config --schema` prints the JSON schema (`config/config.schema.json`).\n\
         - `--set key.path=value` overrides a key for one run; a value that begins with `[`, `{` or a quote is read as YAML, any\n  \
           other is taken as it stands. A section can be replaced as a whole: `--set 'period={last_days: 3}'`. Secrets are refused\n  \
           there: command lines show in process lists.\n\
         - `${VAR}` and `${VAR:-default}` are replaced inside values, after the YAML was parsed, so no variable can add a key.\n  \
           The default also stands in for an empty variable. A variable that is not set and has no default is a problem.\n  \
           `$${` stands for `${`.\n\
         - An empty value or null counts as not set.\n\
         - Unknown keys, duplicate keys and YAML tags are refused. All problems are reported at once, each with its line.\n\
         - Relative paths start at the working directory.\n",
    );
    section_table(&mut text, "Top level", "", "");
    for section in registry::SECTIONS {
        section_table(&mut text, section.path, section.path, section.doc);
    }
    text
}

fn section_table(text: &mut String, heading: &str, path: &str, doc: &str) {
    let keys: Vec<&Key> = registry::keys().filter(|key| section_of(key.path) == path).collect();
    text.push_str(&format!("\n## {heading}\n"));
    if !doc.is_empty() {
        text.push_str(&format!("\n{doc}\n"));
    }
    if keys.is_empty() {
        return;
    }
    text.push_str("\n| key | values | unit | default | meaning | why |\n|---|---|---|---|---|---|\n");
    for key in keys {
        let cells = [
            format!("`{}`", key.path),
            cell(&key.kind.describe()),
            cell(key.unit),
            cell(&key.default.describe()),
            cell(key.doc),
            cell(key.reason),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

fn section_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(section, _)| section)
}

/// Text as Markdown shows it unchanged inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}

fn facts(key: &Key) -> String {
    let unit = if key.unit.is_empty() { String::new() } else { format!(" Unit: {}.", key.unit) };
    format!("Value: {}.{unit} Default: {}.", key.kind.describe(), key.default.describe())
}

fn open_sections(text: &mut String, from: &str, to: &str) {
    for section in registry::SECTIONS {
        let encloses = |path: &str| {
            path == section.path || path.strip_prefix(section.path).is_some_and(|rest| rest.starts_with('.'))
        };
        if encloses(to) && !encloses(from) {
            let outer = section.path.rsplit_once('.').map_or("", |(outer, _)| outer);
            let indent = indent_of(outer);
            text.push('\n');
            comment(text, &indent, section.doc);
            let name = section.path.rsplit('.').next().unwrap_or(section.path);
            text.push_str(&format!("{indent}{name}:\n"));
        }
    }
}

fn indent_of(section: &str) -> String {
    if section.is_empty() { String::new() } else { "  ".repeat(section.split('.').count()) }
}

fn comment(text: &mut String, indent: &str, content: &str) {
    let mut line = format!("{indent}#");
    for word in content.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
