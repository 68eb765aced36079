//! The reference SQL of the rollups → statements with the parameters of one semantics and one day filled in.
//!
//! Text only: what runs it is the second engine. The answers per semantics are given here a second time, from the table of
//! behaviours in docs/rollups.md, and not taken from the native engine, so that a misreading of either shows.

use std::fmt::Write;

use crate::rollups::semantics::Semantics;

/// The daily summary: statements that build tables, then one query.
pub const DAILY_SUMMARY: &str = include_str!("ocp_daily_summary/reference.sql");
/// Node roles of a window: one query.
pub const NODE_ROLES: &str = include_str!("node_roles/reference.sql");
/// The table of the daily summary's statements that counts the day's input rows.
pub const INPUT_ROW_COUNT: &str = "SELECT row_count FROM input_rows";

/// A parameter of the SQL: its name with the dollar sign, the literal that replaces it, what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `$name`.
    pub name: &'static str,
    /// SQL literal.
    pub literal: String,
    /// What it says, for `explain`.
    pub meaning: &'static str,
}

/// Parameters whose literals the semantics decide.
pub fn semantics_parameters(semantics: Semantics) -> Vec<Parameter> {
    let is_balanced = semantics == Semantics::Balanced;
    let is_self_hosted = semantics == Semantics::SelfHosted;
    let is_trino = semantics == Semantics::Trino;
    let flag = |name, value: bool, meaning| Parameter { name, literal: value.to_string(), meaning };
    let literal = |name, value: &str, meaning| Parameter { name, literal: value.to_owned(), meaning };
    let null = "CAST(NULL AS DOUBLE)";
    vec![
        flag(
            "$hourly_rows_are_extra",
            !is_balanced,
            "row 0: pod_usage is the daily report, and the hourly rows are read beside it",
        ),
        flag("$every_label_set", !is_balanced, "row 10: every label set of a node or namespace repeats its rows"),
        flag("$every_category", !is_balanced, "rows 11 and 12: every matching pattern repeats the row"),
        flag("$every_resource_id", !is_balanced, "volume map: a pod and node occur once per resource id"),
        flag("$map_joins_on_volume", is_balanced, "row 8b: the volume map is joined on the volume too"),
        flag("$greatest_needs_both", is_trino, "row 9: missing effective usage is null if usage or request is"),
        flag("$like_has_escape", is_self_hosted, "row 13: a backslash escapes the next character of a pattern"),
        literal(
            "$capacity_if_missing",
            if is_self_hosted { "0.0" } else { null },
            "row 6: hours of an unknown capacity",
        ),
        literal("$divisor_if_missing", if is_trino { "NULL" } else { "1" }, "row 7: divisor of a volume without pods"),
        literal("$divisor_if_zero", if is_balanced { "1" } else { "0" }, "row 8: divisor where no pod has a node"),
    ]
}

/// The statements of a script with all parameters filled in, comments kept.
/// A statement ends with a line that ends with a semicolon.
pub fn statements(script: &str, parameters: &[Parameter]) -> Vec<String> {
    let mut longest_first: Vec<&Parameter> = parameters.iter().collect();
    longest_first.sort_by_key(|parameter| std::cmp::Reverse(parameter.name.len()));
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in script.lines() {
        let is_comment = line.trim_start().starts_with("--");
        // One pass per line: a literal that looks like a parameter is not replaced again.
        let line = if is_comment { line.to_owned() } else { filled(line, &longest_first) };
        statement.push_str(&line);
        statement.push('\n');
        if !is_comment && line.trim_end().ends_with(';') {
            statements.push(std::mem::take(&mut statement));
        }
    }
    statements
}

/// Text as an SQL literal.
pub fn text_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Both scripts as a reader wants them, with what the parameters are under one semantics.
pub fn explained(semantics: Semantics) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _infallible = explain_into(semantics, &mut out);
    out
}

fn explain_into(semantics: Semantics, out: &mut String) -> std::fmt::Result {
    writeln!(out, "-- Reference SQL under `semantics: {semantics}`. Parameters:\n--")?;
    for Parameter { name, literal, meaning } in semantics_parameters(semantics) {
        writeln!(out, "--   {name:<24} {literal:<21} {meaning}")?;
    }
    for (name, meaning) in GIVEN_PARAMETERS {
        writeln!(out, "--   {name:<24} {:<21} {meaning}", "per run")?;
    }
    writeln!(out, "\n{DAILY_SUMMARY}\n\n{NODE_ROLES}")
}

/// Parameters that the run, the day or the window decide.
const GIVEN_PARAMETERS: [(&str, &str); 9] = [
    ("$day", "midnight at which the day begins, UTC"),
    ("$next_day", "midnight at which it ends"),
    ("$month_seconds", "seconds of the day's month: 86400 times 28 to 31"),
    ("$report_period_id", "report period, or NULL"),
    ("$cluster_id", "source.cluster_id"),
    ("$cluster_alias", "source.cluster_alias"),
    ("$source_uuid", "source.uuid"),
    ("$start", "midnight at which the window begins (node roles)"),
    ("$end", "midnight at which it ends (node roles)"),
];

fn filled(line: &str, longest_first: &[&Parameter]) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match longest_first.iter().find(|parameter| rest.starts_with(parameter.name)) {
            Some(parameter) => {
                out.push_str(&parameter.literal);
                rest = &rest[parameter.name.len()..];
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &'static str, literal: &str) -> Parameter {
        Parameter { name, literal: literal.to_owned(), meaning: "" }
    }

    #[test]
    fn parameters_are_filled_in_once_and_comments_are_left_alone() {
        let script = "-- about $day;\nSELECT $day_name,\n  $day;\nSELECT 2;\n";
        let parameters = [given("$day", "'$day_name'"), given("$day_name", "'it''s'")];
        let found = statements(script, &parameters);
        assert_eq!(found, ["-- about $day;\nSELECT 'it''s',\n  '$day_name';\n", "SELECT 2;\n"]);
        assert_eq!(text_literal("it's"), "'it''s'");
    }

    #[test]
    fn every_parameter_of_the_scripts_is_explained() {
        for semantics in [Semantics::Balanced, Semantics::SelfHosted, Semantics::Trino] {
            let mut parameters = semantics_parameters(semantics);
            parameters.extend(GIVEN_PARAMETERS.map(|(name, _)| given(name, "1")));
            for script in [DAILY_SUMMARY, NODE_ROLES] {
                for statement in statements(script, &parameters) {
                    let code = statement.lines().filter(|line| !line.trim_start().starts_with("--"));
                    assert!(!code.collect::<String>().contains('$'), "{statement}");
                }
            }
            let text = explained(semantics);
            assert!(text.contains(&format!("`semantics: {semantics}`")) && text.contains("CREATE TABLE pod_rows"));
        }
    }
}
