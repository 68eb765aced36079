//! `${VAR}` and `${VAR:-default}` inside one scalar → its text. Works on parsed scalars, so no value changes the structure.

/// Looks a variable up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A scalar after expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The text with all values in place.
    pub(super) text: String,
    /// Variables whose values are in the text, in order.
    pub(super) variables: Vec<String>,
    /// Whether anything was replaced, be it by a default.
    pub(super) replaced: bool,
}

/// Expands one text. `$${` stands for a literal `${`.
/// Errors: what is wrong with a reference and the fix, one sentence per faulty reference, without any value.
pub(super) fn expand(source: &str, environment: Environment<'_>) -> Result<Expanded, Vec<String>> {
    let mut out = Expanded { text: String::with_capacity(source.len()), variables: Vec::new(), replaced: false };
    let mut faults = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find("${") {
        // The `$` before a reference belongs to the escape.
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.text.push_str(before);
            out.text.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.text.push_str(&rest[..at]);
        let Some(length) = rest[at + 2..].find('}') else {
            faults.push("`${` without `}`; close it, or write `$${` for the two characters".to_owned());
            rest = "";
            break;
        };
        let reference = &rest[at + 2..at + 2 + length];
        match resolve(reference, environment) {
            Ok((value, variable)) => {
                out.replaced = true;
                out.text.push_str(&value);
                out.variables.extend(variable);
            }
            Err(fault) => faults.push(fault),
        }
        rest = &rest[at + 2 + length + 1..];
    }
    out.text.push_str(rest);
    if faults.is_empty() { Ok(out) } else { Err(faults) }
}

/// Value of one reference, and the variable's name if the value came from it.
fn resolve(reference: &str, environment: Environment<'_>) -> Result<(String, Option<String>), String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_variable_name(name) {
        return Err(
            "`${…}` must hold a variable's name (letters, digits, `_`), optionally `:-` and a default".to_owned()
        );
    }
    if default.is_some_and(|text| text.contains("${")) {
        return Err(format!("the default of `${{{name}:-…}}` holds another `${{`; nesting is not supported"));
    }
    match (environment(name), default) {
        // As in a shell, `:-` also stands in for an empty value.
        (Some(value), Some(_)) if !value.is_empty() => Ok((value, Some(name.to_owned()))),
        (_, Some(default)) => Ok((default.to_owned(), None)),
        (Some(value), None) => Ok((value, Some(name.to_owned()))),
        (None, None) => {
            Err(format!("environment variable {name} is not set; set it, or give a default: `${{{name}:-default}}`"))
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
