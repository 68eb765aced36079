//! Every kind of mistake in one key and the full message it gets.

use super::{Attempt, POSTGRES, with};

#[track_caller]
pub(super) fn assert_problems(attempt: &Attempt<'_>, expected: &[&str]) {
    assert_eq!(attempt.problems(), expected.join("\n"));
}

/// `POSTGRES` with one line replaced gives exactly these messages.
#[track_caller]
fn assert_line(line: &str, replacement: &str, expected: &[&str]) {
    assert_problems(&Attempt::new(with(POSTGRES, line, replacement)), expected);
}

/// `POSTGRES` with lines added at its end gives exactly these messages.
#[track_caller]
pub(super) fn assert_added(lines: &str, expected: &[&str]) {
    assert_problems(&Attempt::new(format!("{POSTGRES}{lines}")), expected);
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let text = "\
version: 2
organization:
  org_id: a/b
source:
  uuid: not-a-uuid
period:
  start_date: 2025-10-31
  end_date: 2025-10-01
storage:
  url: reports
  acess_key: abc
target:
  kind: postgress
  postgres:
    port: 70000
loging:
  level: info
";
    assert_problems(
        &Attempt::new(text).set("period.lastdays=3"),
        &[
            "config.yaml:1:10: version: `2` is out of range; write 1",
            "config.yaml:3:11: organization.org_id: holds a slash; give the one segment of the object key",
            "config.yaml:4:1: source.cluster_id: missing: Cluster id stamped on every row",
            "config.yaml:5:9: source.uuid: `not-a-uuid` is not a uuid; write 32 hexadecimal digits as 8-4-4-4-12",
            "config.yaml:8:13: period.end_date: 2025-10-01 lies before start_date 2025-10-31; swap the two",
            "config.yaml:10:8: storage.url: has no scheme; write s3://bucket, s3://bucket/prefix or file:///folder",
            "config.yaml:11:3: storage.acess_key: unknown key; did you mean storage.access_key?",
            "config.yaml:13:9: target.kind: `postgress` is none of postgres, file, none; did you mean postgres?",
            "config.yaml:15:11: target.postgres.port: `70000` is out of range; write a whole number, 1 to 65535",
            "config.yaml:16:1: loging: unknown key; did you mean logging?",
            "--set: period.lastdays: unknown key; did you mean period.last_days?",
        ],
    );
}

#[test]
fn an_empty_file_lists_every_required_key() {
    for text in ["", "# nothing\n", "---\n", "~\n"] {
        let problems = Attempt::new(text).problems();
        let paths: Vec<&str> = problems.lines().map(|line| line.split(": ").nth(1).expect("a path")).collect();
        let expected = [
            "version",
            "organization.org_id",
            "source.uuid",
            "source.cluster_id",
            "storage.url",
            "period",
            "target.postgres.host",
            "target.postgres.database",
            "target.postgres.user",
        ];
        assert_eq!(paths, expected, "{problems}");
        assert!(problems.starts_with("config.yaml: version: missing: Layout of this file\n"), "{problems}");
    }
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    let unknown = |text: &str| super::super::suggest::unknown_key(text);
    let cases = [
        ("storage.acess_key", "did you mean storage.access_key?"),
        ("storage.accessKey", "did you mean storage.access_key?"),
        ("storage.path-style", "did you mean storage.path_style?"),
        ("Storage", "did you mean storage?"),
        ("target.postgres.pasword", "did you mean target.postgres.password?"),
        ("target.host", "did you mean target.postgres.host?"),
        ("cluster_id", "did you mean source.cluster_id?"),
        ("target.postgres.sslmode", "did you mean target.postgres.ssl_mode?"),
        ("period.xyzzy", "known here: start_date, end_date, month, last_days"),
        ("a.b.c", "`gristmill config --schema` lists all keys"),
    ];
    for (path, expected) in cases {
        assert_eq!(unknown(path), format!("unknown key; {expected}"), "{path}");
    }
}

#[test]
fn wrong_types_are_named() {
    assert_line(
        "  org_id: org1234567",
        "  org_id: [a]",
        &["config.yaml:3:11: organization.org_id: is a list; expected text, 1 to 250 characters"],
    );
    assert_line(
        "    host: db",
        "    host: {name: db}",
        &["config.yaml:14:11: target.postgres.host: is a mapping; expected text, 1 to 1000 characters"],
    );
    assert_added("logging: text\n", &["config.yaml:17:10: logging: is a single value; expected a mapping of keys"]);
    assert_added("logging: [text]\n", &["config.yaml:17:10: logging: is a list; expected a mapping of keys"]);
    assert_added(
        "performance: {max_workers: four}\n",
        &[
            "config.yaml:17:28: performance.max_workers: `four` is not a whole number; write a whole number, 1 to 1024, or auto",
        ],
    );
    assert_added(
        "reference: {from: inline, enabled_tag_keys: app}\n",
        &["config.yaml:17:45: reference.enabled_tag_keys: `app` is a single value; expected list of texts"],
    );
    assert_line(
        "  url: s3://reports/cost",
        "  url: s3://reports/cost\n  allow_http: yes",
        &["config.yaml:12:15: storage.allow_http: `yes` is not a yes or no; write true or false"],
    );
}

#[test]
fn numbers_and_sizes_have_ranges() {
    let out_of_range = "is out of range; write a whole number, 1 to 32";
    let cases = [
        ("0", format!("`0` {out_of_range}")),
        ("33", format!("`33` {out_of_range}")),
        ("-1", format!("`-1` {out_of_range}")),
        ("99999999999999999999", format!("`99999999999999999999` {out_of_range}")),
        ("2.0", "`2.0` is not a whole number; write a whole number, 1 to 32".to_owned()),
        ("0x10", "`0x10` is not a whole number; write a whole number, 1 to 32".to_owned()),
    ];
    for (value, text) in cases {
        let attempt = Attempt::new(POSTGRES).set(&format!("target.postgres.connections={value}"));
        assert_eq!(attempt.problems(), format!("--set: target.postgres.connections: {text}"));
    }
    let form = "write auto, or a whole number with B, KiB, MiB, GiB or TiB, such as 256MiB";
    let sizes = [
        ("256 MB", format!("`256 MB` is not a size; {form}")),
        ("1.5GiB", format!("`1.5GiB` is not a size; {form}")),
        ("MiB", format!("`MiB` is not a size; {form}")),
        ("0", format!("`0` is no memory at all; {form}")),
        ("99999999TiB", format!("`99999999TiB` is more than 2^64 bytes; {form}")),
    ];
    for (value, text) in sizes {
        let attempt = Attempt::new(POSTGRES).set(&format!("performance.memory_budget={value}"));
        assert_eq!(attempt.problems(), format!("--set: performance.memory_budget: {text}"));
    }
}

#[test]
fn names_have_lengths() {
    let alias = "ä".repeat(257);
    assert_problems(
        &Attempt::new(POSTGRES).set(&format!("source.cluster_alias={alias}")),
        &[&format!("--set: source.cluster_alias: `{}…` has 257 characters; at most 256 are allowed", "ä".repeat(24))],
    );
    assert_eq!(
        Attempt::new(POSTGRES).set(&format!("source.cluster_id={}", "ä".repeat(50))).config().source.cluster_id,
        "ä".repeat(50)
    );
    let problems = Attempt::new(POSTGRES).set(&format!("source.cluster_id={}", "x".repeat(51))).problems();
    assert!(problems.ends_with("has 51 characters; at most 50 are allowed"), "{problems}");
    let problems = Attempt::new(POSTGRES).set(&format!("target.postgres.table={}", "ä".repeat(32))).problems();
    assert!(problems.ends_with("has 64 bytes; PostgreSQL names have at most 63"), "{problems}");
    assert_line(
        "  cluster_id: my-cluster",
        "  cluster_id: \"a\\0b\"",
        &["config.yaml:6:15: source.cluster_id: `a?b` holds a NUL character; remove it"],
    );
    assert_line(
        "  cluster_id: my-cluster",
        "  cluster_id: ' '",
        &["config.yaml:6:15: source.cluster_id: is blank; give the id of the cluster"],
    );
}

#[test]
fn org_ids_are_segments_of_a_key() {
    let cases = [
        ("acct", "is only the prefix acct; append the account number"),
        ("a/b", "holds a slash; give the one segment of the object key"),
        ("..", "is no segment of an object key; give the organisation as it shows in data/parquet/<org_id>/OCP"),
        ("a b", "is no segment of an object key; give the organisation as it shows in data/parquet/<org_id>/OCP"),
    ];
    for (value, text) in cases {
        let attempt = Attempt::new(POSTGRES).set(&format!("organization.org_id={value}"));
        assert_eq!(attempt.problems(), format!("--set: organization.org_id: {text}"));
    }
}

#[test]
fn periods_are_checked() {
    let section = "period:\n  start_date: 2025-10-01\n  end_date: 2025-10-31\n";
    let forms = "give start_date and end_date, or month, or last_days";
    let cases = [
        ("", format!("config.yaml: period: missing: {forms}")),
        ("period:\n", format!("config.yaml:7:1: period: missing: {forms}")),
        ("period: {start_date: ''}\n", format!("config.yaml:7:1: period: missing: {forms}")),
        (
            "period: {start_date: 2025-10-01}\n",
            "config.yaml:7:1: period.end_date: missing (required because period.start_date is given): Last day, inclusive"
                .to_owned(),
        ),
        ("period: {month: current, last_days: 3}\n", format!("config.yaml:7:37: period: more than one form is given; {forms}")),
        (
            "period: {start_date: 2025-10-01, month: current}\n",
            format!("config.yaml:7:41: period: more than one form is given; {forms}"),
        ),
        (
            "period: {start_date: 2025-02-29, end_date: 2025-3-1}\n",
            "config.yaml:7:22: period.start_date: `2025-02-29` is not in the calendar\n\
             config.yaml:7:44: period.end_date: `2025-3-1` is not a date; write YYYY-MM-DD"
                .to_owned(),
        ),
        (
            "period: {start_date: 1969-12-31, end_date: 1970-01-01}\n",
            "config.yaml:7:22: period.start_date: `1969-12-31` lies before 1970-01-01; usage reports are younger".to_owned(),
        ),
        (
            "period: {start_date: 1970-01-01, end_date: 9999-12-31}\n",
            "config.yaml:7:44: period.end_date: the period has 2932897 days, at most 3660 are allowed; run it in parts".to_owned(),
        ),
        (
            "period: {month: next}\n",
            "config.yaml:7:17: period.month: `next` is not a month; write current, previous or YYYY-MM".to_owned(),
        ),
        (
            "period: {month: 2025-13}\n",
            "config.yaml:7:17: period.month: `2025-13` is not in the calendar; months are 01 to 12".to_owned(),
        ),
        (
            "period: {last_days: 0}\n",
            "config.yaml:7:21: period.last_days: `0` is out of range; write a whole number, 1 to 3660".to_owned(),
        ),
    ];
    for (replacement, expected) in cases {
        assert_eq!(Attempt::new(with(POSTGRES, section, replacement)).problems(), expected, "{replacement}");
    }
    let early = Attempt::new(with(POSTGRES, section, "period: {last_days: 40}\n")).at("1970-01-31T00:00:00Z");
    assert_problems(
        &early,
        &["config.yaml:7:21: period.last_days: reaches back before 1970-01-01; check the clock of this machine"],
    );
}

#[test]
fn urls_are_checked() {
    let form = "write s3://bucket, s3://bucket/prefix or file:///folder";
    let cases = [
        ("s3://", "names no bucket; write s3://bucket[/prefix]".to_owned()),
        ("s3:///prefix", "names no bucket; write s3://bucket[/prefix]".to_owned()),
        ("s3://user:word@b", "has a bucket name with characters other than letters, digits, `-`, `.`, `_`".to_owned()),
        ("s3://b/x//y", "has an empty, `.` or `..` part in its prefix; remove it".to_owned()),
        ("s3://b/../y", "has an empty, `.` or `..` part in its prefix; remove it".to_owned()),
        ("s3a://b", "has the scheme s3a://; write s3://".to_owned()),
        ("gs://b", format!("has an unknown scheme; {form}")),
        ("bucket", format!("has no scheme; {form}")),
        ("/reports", "is a path without a scheme; write file:// before it".to_owned()),
        ("file://reports", "is not absolute; a local folder has three slashes: file:///folder".to_owned()),
        ("file://", "is not absolute; a local folder has three slashes: file:///folder".to_owned()),
        (
            "https://s3.example/b",
            "is a web address; give the server as storage.endpoint, and here s3://bucket[/prefix]".to_owned(),
        ),
    ];
    for (url, text) in cases {
        let attempt = Attempt::new(POSTGRES).set(&format!("storage.url={url}"));
        assert_eq!(attempt.problems(), format!("--set: storage.url: {text}"));
    }
}

#[test]
fn endpoints_are_checked() {
    let no_address = "is not the address of a server; write https://host[:port]";
    let cases = [
        ("http://minio:9000", "is plain http; use https, or set storage.allow_http: true"),
        ("minio:9000", "has no scheme; write https:// before it"),
        ("ftp://minio", "has a scheme other than https; write https://host[:port]"),
        ("https://", no_address),
        ("https://:9000", no_address),
        ("https://minio?x=1", no_address),
        ("https://mi nio", no_address),
        ("https://user:word@minio", "holds a user name or password; use storage.access_key and storage.secret_key"),
        ("https://user:wo/rd@minio", "holds a user name or password; use storage.access_key and storage.secret_key"),
    ];
    for (endpoint, text) in cases {
        let attempt = Attempt::new(POSTGRES).set(&format!("storage.endpoint={endpoint}"));
        assert_eq!(attempt.problems(), format!("--set: storage.endpoint: {text}"));
    }
}

#[test]
fn keys_of_the_store_come_in_pairs() {
    let missing = |given: &str| format!("missing although {given} is given; give both, or neither to use a role");
    assert_line(
        "  url: s3://reports/cost",
        "  url: s3://reports/cost\n  access_key: abc",
        &[&format!("config.yaml:10:1: storage.secret_key: {}", missing("storage.access_key"))],
    );
    assert_line(
        "  url: s3://reports/cost",
        "  url: s3://reports/cost\n  secret_key: abc",
        &[&format!("config.yaml:10:1: storage.access_key: {}", missing("storage.secret_key"))],
    );
}

#[test]
fn secrets_are_refused_on_the_command_line_and_never_shown() {
    let attempt = Attempt::new(POSTGRES)
        .set("target.postgres.password=hunter2")
        .set("storage={url: 's3://b', access_key: hunter2}")
        .set("storage.secret_keys=hunter2")
        .set("target.postgres.pasword: hunter2")
        .set("target.postgres.port=hunter2x");
    let text = attempt.problems();
    let refused = "a secret does not belong on the command line; set";
    let expected = [
        format!("--set: target.postgres.password: {refused} target.postgres.password_file or use the environment"),
        format!("--set: storage.access_key: {refused} storage.access_key_file or use the environment"),
        "--set: storage.secret_keys: unknown key; did you mean storage.secret_key?".to_owned(),
        "--set: needs the form key.path=value".to_owned(),
        "--set: target.postgres.port: `hunter2x` is not a whole number; write a whole number, 1 to 65535".to_owned(),
    ];
    assert_eq!(text, expected.join("\n"));
    let typed = Attempt::new(format!("{POSTGRES}    password: [hunter2]\n"));
    assert_problems(&typed, &["config.yaml:17:15: target.postgres.password: is a list; expected text, never printed"]);
    let faulty = Attempt::new(format!("{POSTGRES}    password: \"hunter2\\0\"\n"));
    assert_problems(&faulty, &["config.yaml:17:15: target.postgres.password: holds a NUL character; remove it"]);
    let reference = Attempt::new(format!("{POSTGRES}    password: *hunter2\n"));
    assert_problems(
        &reference,
        &[
            "config.yaml:17:15: target.postgres.password: begins with `*`, a reference that nothing defines; quote the value",
        ],
    );
}

#[test]
fn what_stands_in_the_wrong_place_is_shown_in_part_at_most() {
    const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";
    let in_flow = format!("storage={{access_key:{SECRET}, url: 's3://b'}}");
    let after_a_sign = "target={postgres: {password:hunter2: 5}}".to_owned();
    for (attempt, expected) in [
        (
            format!("target.postgres.port={SECRET}"),
            "target.postgres.port: `wJalrXUtnFEMI-K7MDENG-bP…` is not a whole number",
        ),
        (format!("target.kind={SECRET}"), "target.kind: `wJalrXUtnFEMI-K7MDENG-bP…` is none of postgres, file, none"),
        // A secret alone, whose encoding ends with a sign of equality.
        (format!("{SECRET}="), "wJalrXUt…: unknown key"),
        ("hunter2+more/of+it=".to_owned(), "hunter2…: unknown key"),
        // Names that sound like those of secrets.
        (format!("storage.secret_token={SECRET}"), "storage.secret_token: unknown key"),
        (
            format!("target.postgres.passwd={SECRET}"),
            "target.postgres.passwd: unknown key; did you mean target.postgres.password?",
        ),
        (format!("api_key={SECRET}"), "api_key: unknown key"),
        (format!("target.postgres.password_file={SECRET}"), "target.postgres.password_file: the file cannot be read"),
        // Without a blank after the colon all of it is the key.
        (in_flow, "storage.access_key…: unknown key"),
        (after_a_sign, "target.postgres.password…: unknown key"),
    ] {
        let found = Attempt::new(POSTGRES).set(&attempt).problems();
        assert!(found.contains(&format!("--set: {expected}")), "{attempt}: {found}");
        assert!(!found.contains(&SECRET[..25]) && !found.contains("hunter2:") && !found.contains("more"), "{found}");
    }
    let nul = Attempt::new(format!("{POSTGRES}    password_file: \"{SECRET}\\0\"\n"));
    assert_problems(&nul, &["config.yaml:17:20: target.postgres.password_file: holds a NUL character; remove it"]);
    let flow = Attempt::new(format!("{POSTGRES}logging: {{level:{SECRET}}}\n"));
    assert_problems(
        &flow,
        &["config.yaml:17:11: logging.level…: unknown key; known here: format, level, termination_log"],
    );
}

#[test]
fn values_of_variables_are_not_shown() {
    let attempt = Attempt::new(format!("{POSTGRES}    port: ${{PORT}}\n")).env("PORT", "hunter2");
    assert_problems(
        &attempt,
        &["config.yaml:17:11: target.postgres.port: `${PORT}` is not a whole number; write a whole number, 1 to 65535"],
    );
}

#[test]
fn secret_files_are_checked() {
    let attempt = |lines: &str| Attempt::new(format!("{POSTGRES}{lines}"));
    assert_problems(
        &attempt("    password_file: /run/secret\n"),
        &[
            "config.yaml:17:20: target.postgres.password_file: the file cannot be read (no such file); check the path and its mount",
        ],
    );
    assert_problems(
        &attempt("    password_file: /run/secret\n").secret_file("/run/secret", "\n"),
        &["config.yaml:17:20: target.postgres.password_file: the file is empty; write the secret into it"],
    );
    assert_problems(
        &attempt("    password_file: /run/secret\n    password: b\n").secret_file("/run/secret", "a"),
        &[
            "config.yaml:17:20: target.postgres.password_file: target.postgres.password is given as well; keep one of the two",
        ],
    );
}

#[test]
fn variables_are_checked() {
    let cases = [
        ("${NO}", "environment variable NO is not set; set it, or give a default: `${NO:-default}`"),
        ("${}", "`${…}` must hold a variable's name (letters, digits, `_`), optionally `:-` and a default"),
        ("${1A}", "`${…}` must hold a variable's name (letters, digits, `_`), optionally `:-` and a default"),
        ("a${NO", "`${` without `}`; close it, or write `$${` for the two characters"),
        ("${NO:-${B}}", "the default of `${NO:-…}` holds another `${`; nesting is not supported"),
    ];
    for (value, text) in cases {
        let attempt = Attempt::new(with(POSTGRES, "    host: db", &format!("    host: '{value}'")));
        assert_eq!(attempt.problems(), format!("config.yaml:14:11: target.postgres.host: {text}"));
    }
    let empty = Attempt::new(with(POSTGRES, "    host: db", "    host: ${HOST:-}"));
    assert_problems(
        &empty,
        &[
            "config.yaml:14:11: target.postgres.host: missing (required because target.kind is postgres): `${HOST:-}` is empty; \
         Host name, address, or folder of a Unix socket (begins with a slash)",
        ],
    );
}
