//! Settings → `Config`: everything that several keys say together. Each part collects its findings before it gives up,
//! so that one pass reports them all.

use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;

use super::header_text::{check_control_characters, check_header_text};
use super::location::{parse_endpoint, parse_url};
use super::problem::Problems;
use super::settings::Settings;
use super::value::Value;
use super::{
    Claims, CompareObjectsBy, Config, FileFormat, Location, Logging, NodeRoles, OnBadDay, OnDisappeared,
    OnMalformedLabel, OnTwoManifests, Performance, Postgres, Reference, ReferenceFrom, Replace, SslMode, Storage,
    Target,
};
use super::{period, registry, sources};
use crate::rollups::semantics::Semantics;
use crate::units::Bytes;

/// Checks and builds. `None` if, and only if, something was reported.
pub(super) fn build(settings: &mut Settings, now: DateTime<Utc>, problems: &mut Problems) -> Option<Config> {
    let is_single = !settings.is_given("sources");
    let of_source = |key: &registry::Key| matches!(key.path, "source.uuid" | "source.cluster_id");
    for key in registry::keys() {
        if key.default == registry::Fallback::Required || (is_single && of_source(key)) {
            settings.require(key.path, "", problems);
        }
    }
    let org_id = org_id(settings, problems);
    let sources = sources::resolve(settings, problems);
    let period = period::resolve(settings, now, problems);
    sources::refuse_too_many(&sources, period, settings, problems);
    let storage = storage(settings, problems);
    let target = target(settings, problems);
    let kind = settings.choice("target.kind");
    derive_reference_from(settings, kind);
    let from = settings.choice("reference.from");
    let postgres = postgres(settings, kind, from, problems);
    let reference = reference(settings, from, problems);
    let semantics = semantics(settings);
    let on_malformed_label = on_malformed_label(settings, semantics, problems);
    let metrics_listen = metrics_listen(settings, problems);
    let mut sources = sources?.into_iter();
    let config = Config {
        org_id: org_id?,
        source: sources.next()?,
        other_sources: sources.collect(),
        period: period?,
        storage: storage?,
        target: target?,
        postgres: postgres?,
        semantics: semantics?,
        on_malformed_label: on_malformed_label?,
        on_bad_day: match settings.choice("on_bad_day")? {
            "stop" => OnBadDay::Stop,
            _ => OnBadDay::Continue,
        },
        on_two_manifests: match settings.choice("input.on_two_manifests")? {
            "error" => OnTwoManifests::Error,
            _ => OnTwoManifests::Warn,
        },
        on_disappeared: match settings.choice("input.on_disappeared")? {
            "accept" => OnDisappeared::Accept,
            _ => OnDisappeared::Error,
        },
        max_change_percent: match settings.value("target.guard.max_change_percent") {
            Some(Value::Number(percent)) => Some(*percent),
            _ => None,
        },
        min_objects_percent: match settings.value("target.guard.min_objects_percent") {
            Some(Value::Number(percent)) => *percent,
            _ => 0.0,
        },
        reference: Arc::new(reference?),
        performance: performance(settings)?,
        claims: Claims {
            lease_seconds: settings.number("claims.lease_seconds")?,
            wait_seconds: settings.number("claims.wait_seconds")?,
        },
        stopping_grace_seconds: settings.number("stopping.grace_seconds")?,
        logging: Logging {
            json: settings.choice("logging.format")? == "json",
            level: settings.choice("logging.level")?.to_owned(),
            termination_log: settings.path("logging.termination_log")?,
        },
        metrics_listen: metrics_listen?,
    };
    problems.is_empty().then_some(config)
}

fn org_id(settings: &mut Settings, problems: &mut Problems) -> Option<String> {
    const PATH: &str = "organization.org_id";
    let written = settings.text(PATH)?;
    let org_id = written.strip_prefix("acct").unwrap_or(&written).to_owned();
    let fault = if org_id.is_empty() {
        "is only the prefix acct; append the account number"
    } else if org_id.contains('/') {
        "holds a slash; give the one segment of the object key"
    } else if matches!(org_id.as_str(), "." | "..") || org_id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "is no segment of an object key; give the organisation as it shows in data/parquet/<org_id>/OCP"
    } else {
        settings.derive("target.postgres.schema", Value::Text(written), "from organization.org_id");
        settings.normalise(PATH, Value::Text(org_id.clone()));
        return Some(org_id);
    };
    problems.add(settings.place(PATH), PATH, fault);
    None
}

fn storage(settings: &mut Settings, problems: &mut Problems) -> Option<Storage> {
    let location = location(settings, problems);
    let is_folder = matches!(location, Some(Location::Folder(_)));
    // Checked for a folder as well, where it is not used: a password in it would be printed.
    let endpoint = endpoint(settings, is_folder, problems).filter(|_| !is_folder);
    let has_endpoint = settings.is_given("storage.endpoint");
    settings.derive("storage.path_style", Value::Flag(has_endpoint), "from storage.endpoint");
    if !is_folder {
        key_pair(settings, problems);
        header_texts(settings, problems);
    }
    Some(Storage {
        location: location?,
        endpoint,
        region: settings.text("storage.region")?,
        access_key: settings.secret("storage.access_key"),
        secret_key: settings.secret("storage.secret_key"),
        allow_http: settings.flag("storage.allow_http")?,
        path_style: settings.flag("storage.path_style")?,
        ca_file: settings.path("storage.ca_file"),
        compare_objects_by: match settings.choice("storage.compare_objects_by")? {
            "size_and_time" => CompareObjectsBy::SizeAndTime,
            _ => CompareObjectsBy::Etag,
        },
        concurrent_requests: settings.number("storage.concurrent_requests")?,
        connect_timeout_seconds: settings.number("storage.connect_timeout_seconds")?,
        request_timeout_seconds: settings.number("storage.request_timeout_seconds")?,
        retries: settings.number("storage.retries")?,
        retry_seconds: settings.number("storage.retry_seconds")?,
    })
}

fn location(settings: &Settings, problems: &mut Problems) -> Option<Location> {
    let fault = match parse_url(&settings.text("storage.url")?) {
        Ok(location) => return Some(location),
        Err(fault) => fault,
    };
    problems.add(settings.place("storage.url"), "storage.url", fault);
    None
}

fn endpoint(settings: &mut Settings, is_folder: bool, problems: &mut Problems) -> Option<String> {
    let written = settings.text("storage.endpoint")?;
    // An unusable allow_http is reported already; what the endpoint would need then is not known.
    let allow_http = is_folder || settings.flag("storage.allow_http").unwrap_or(true);
    match parse_endpoint(&written, allow_http) {
        Ok(endpoint) => {
            settings.normalise("storage.endpoint", Value::Text(endpoint.clone()));
            Some(endpoint)
        }
        Err(fault) => {
            problems.add(settings.place("storage.endpoint"), "storage.endpoint", fault);
            None
        }
    }
}

fn key_pair(settings: &Settings, problems: &mut Problems) {
    const PAIR: [&str; 2] = ["storage.access_key", "storage.secret_key"];
    for (given, other) in [(PAIR[0], PAIR[1]), (PAIR[1], PAIR[0])] {
        if settings.is_given(given) && !settings.is_given(other) {
            let text = format!("missing although {given} is given; give both, or neither to use a role");
            problems.add(settings.place(other), other, text);
        }
    }
}

/// The access key and the region stand in a header of every request. The secret key only signs, so it may hold any character that
/// somebody would choose.
fn header_texts(settings: &Settings, problems: &mut Problems) {
    let mut check = |path: &str, fault: Result<(), &'static str>| {
        if let Err(fault) = fault {
            let (place, from) = (settings.place(path), settings.secret_source(path));
            problems.add(place, path, format!("{from}{fault}"));
        }
    };
    for (path, is_fit) in [
        ("storage.access_key", check_header_text as fn(&str) -> Result<(), &'static str>),
        ("storage.secret_key", check_control_characters),
    ] {
        if let Some(secret) = settings.secret(path) {
            check(path, is_fit(secret.expose_secret()));
        }
    }
    if let Some(region) = settings.text("storage.region") {
        let is_region_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let fault = "has characters other than letters, digits, `-`, `_`, `.`; write the region's name alone";
        check("storage.region", if region.chars().all(is_region_character) { Ok(()) } else { Err(fault) });
    }
}

fn target(settings: &Settings, problems: &mut Problems) -> Option<Target> {
    match settings.choice("target.kind")? {
        "file" => {
            settings.require("target.file.path", "target.kind is file", problems);
            let format = match settings.choice("target.file.format")? {
                "parquet" => FileFormat::Parquet,
                _ => FileFormat::Csv,
            };
            Some(Target::File { path: settings.path("target.file.path")?, format })
        }
        "none" => Some(Target::None),
        _ => Some(Target::Postgres),
    }
}

fn derive_reference_from(settings: &mut Settings, kind: Option<&'static str>) {
    let from = match kind {
        Some("postgres") => "postgres",
        Some(_) => "inline",
        None => return,
    };
    settings.derive("reference.from", Value::Choice(from), "from target.kind");
}

/// Outer `None`: reported. Inner `None`: no database is needed.
fn postgres(
    settings: &Settings,
    kind: Option<&'static str>,
    from: Option<&'static str>,
    problems: &mut Problems,
) -> Option<Option<Postgres>> {
    let host = host(settings, problems);
    let case = match (kind, from) {
        (Some("postgres"), _) => "target.kind is postgres",
        (_, Some("postgres")) => "reference.from is postgres",
        (Some(_), Some(_)) => return Some(None),
        _ => return None,
    };
    for path in ["target.postgres.host", "target.postgres.database", "target.postgres.user"] {
        settings.require(path, case, problems);
    }
    let replace = match settings.choice("target.postgres.replace")? {
        "reference" => Replace::Reference,
        _ => Replace::Own,
    };
    let ssl_mode = match settings.choice("target.postgres.ssl_mode")? {
        "disable" => SslMode::Disable,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        _ => SslMode::VerifyFull,
    };
    Some(Some(Postgres {
        host: host?,
        port: settings.number("target.postgres.port")?,
        database: settings.text("target.postgres.database")?,
        user: settings.text("target.postgres.user")?,
        password: settings.secret("target.postgres.password"),
        schema: settings.text("target.postgres.schema")?,
        table: settings.text("target.postgres.table")?,
        replace,
        ssl_mode,
        ca_file: settings.path("target.postgres.ca_file"),
        connections: settings.number("target.postgres.connections")?,
        connect_timeout_seconds: settings.number("target.postgres.connect_timeout_seconds")?,
        statement_timeout_seconds: settings.number("target.postgres.statement_timeout_seconds")?,
        lock_timeout_seconds: settings.number("target.postgres.lock_timeout_seconds")?,
        retries: settings.number("target.postgres.retries")?,
        retry_seconds: settings.number("target.postgres.retry_seconds")?,
        reference_locks: settings.flag("target.postgres.reference_locks")?,
        max_writers: settings.number("target.postgres.max_writers"),
    }))
}

fn host(settings: &Settings, problems: &mut Problems) -> Option<String> {
    const PATH: &str = "target.postgres.host";
    let host = settings.text(PATH)?;
    let is_socket_folder = host.starts_with('/');
    let is_url = host.contains("://") || host.contains('@');
    let fault = if is_url {
        "is a URL or names a user; give the host alone, and port, database and user under their own keys"
    } else if host.contains(char::is_whitespace) || (!is_socket_folder && host.contains('/')) {
        "is not a host name, an address or an absolute path of a socket folder"
    } else {
        return Some(host);
    };
    problems.add(settings.place(PATH), PATH, fault);
    None
}

fn reference(settings: &mut Settings, from: Option<&'static str>, problems: &mut Problems) -> Option<Reference> {
    match from? {
        "inline" => {
            let path = "reference.schema";
            if settings.is_given(path) {
                let text = "has no meaning with reference.from: inline; remove it, or set reference.from: postgres";
                problems.add(settings.place(path), path, text);
            }
            inline_reference(settings)
        }
        _ => postgres_reference(settings, problems),
    }
}

fn inline_reference(settings: &mut Settings) -> Option<Reference> {
    settings.derive("reference.enabled_tag_keys", Value::Texts(Vec::new()), "none given");
    settings.derive("reference.cost_categories", Value::Categories(Vec::new()), "none given");
    settings.derive("reference.node_roles", Value::Roles(Vec::new()), "none given");
    let node_roles = match settings.value("reference.node_roles")? {
        Value::Roles(roles) => NodeRoles::Inline(roles.clone()),
        _ => NodeRoles::Derive,
    };
    let Value::Texts(enabled_tag_keys) = settings.value("reference.enabled_tag_keys")?.clone() else { return None };
    let Value::Categories(cost_categories) = settings.value("reference.cost_categories")?.clone() else { return None };
    Some(Reference { from: ReferenceFrom::Inline { enabled_tag_keys, cost_categories }, node_roles })
}

fn postgres_reference(settings: &mut Settings, problems: &mut Problems) -> Option<Reference> {
    const FIX: &str = "remove it, or set reference.from: inline";
    for path in ["reference.enabled_tag_keys", "reference.cost_categories"] {
        if settings.is_given(path) {
            let text = format!("the table in the database is used with reference.from: postgres; {FIX}");
            problems.add(settings.place(path), path, text);
        }
    }
    let node_roles = match settings.value("reference.node_roles") {
        Some(Value::Derive) => NodeRoles::Derive,
        Some(_) => {
            let text = format!("only `derive` goes together with reference.from: postgres; {FIX}");
            problems.add(settings.place("reference.node_roles"), "reference.node_roles", text);
            return None;
        }
        None => NodeRoles::Postgres,
    };
    if let Some(schema) = settings.text("target.postgres.schema") {
        settings.derive("reference.schema", Value::Text(schema), "from target.postgres.schema");
    }
    Some(Reference { from: ReferenceFrom::Postgres { schema: settings.text("reference.schema")? }, node_roles })
}

fn semantics(settings: &Settings) -> Option<Semantics> {
    Some(match settings.choice("semantics")? {
        "self_hosted" => Semantics::SelfHosted,
        "trino" => Semantics::Trino,
        _ => Semantics::Balanced,
    })
}

fn on_malformed_label(
    settings: &Settings,
    semantics: Option<Semantics>,
    problems: &mut Problems,
) -> Option<OnMalformedLabel> {
    const PATH: &str = "labels.on_malformed";
    match settings.choice(PATH)? {
        "empty" => {
            if let Some(other) = semantics.filter(|semantics| *semantics != Semantics::Balanced) {
                let text = format!("empty is allowed only under semantics: balanced, not {other}; set error");
                problems.add(settings.place(PATH), PATH, text);
            }
            Some(OnMalformedLabel::Empty)
        }
        _ => Some(OnMalformedLabel::Error),
    }
}

fn performance(settings: &Settings) -> Option<Performance> {
    let max_workers = match settings.value("performance.max_workers")? {
        Value::Integer(workers) => Some(usize::try_from(*workers).ok()?),
        _ => None,
    };
    let size = |path: &str| match settings.value(path)? {
        Value::Bytes(size) => Some(Some(Bytes(*size))),
        _ => Some(None),
    };
    Some(Performance {
        max_workers,
        memory_budget: size("performance.memory_budget")?,
        memory_limit: size("performance.memory_limit")?,
    })
}

/// Outer `None`: reported. Inner `None`: nothing is served.
fn metrics_listen(settings: &Settings, problems: &mut Problems) -> Option<Option<SocketAddr>> {
    const PATH: &str = "metrics.listen";
    let Some(written) = settings.text(PATH) else { return Some(None) };
    if let Ok(address) = written.parse() {
        return Some(Some(address));
    }
    let text = "is no ADDRESS:PORT; give an address and a port such as 0.0.0.0:9090 or [::]:9090";
    problems.add(settings.place(PATH), PATH, text);
    None
}
