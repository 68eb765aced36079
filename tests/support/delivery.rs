//! A small cluster's reports as objects: two pods on two nodes, hour by hour, one object per report and day.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use gristmill::config::Postgres;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::s3_server::S3Server;
use crate::usage::{self, PodRow};

/// Organisation segment of the keys.
pub const ORG: &str = "org7";
/// Source of all reports.
pub const SOURCE: &str = "00000000-0000-0000-0000-00000000abcd";
/// Rows of a day: two pods, hourly.
pub const ROWS_PER_DAY: usize = 48;

/// Key → content.
#[derive(Debug, Clone, Default)]
pub struct Delivery(pub BTreeMap<String, Vec<u8>>);

/// A day as `YYYY-MM-DD`, as everywhere here.
pub fn milliseconds(day: &str) -> i64 {
    let date: chrono::NaiveDate = day.parse().expect("a date");
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()
}

/// Key of the pod object of a day, named as the reference names it.
pub fn pod_key(day: &str) -> String {
    key("pod_usage", day)
}

/// Key of a report's object of a day.
pub fn key(report: &str, day: &str) -> String {
    let (year, month) = (&day[..4], &day[5..7]);
    format!("data/parquet/{ORG}/OCP/{report}/source={SOURCE}/year={year}/month={month}/{report}.{day}.1.0_0.parquet")
}

/// The rows of a day; each pod uses `cores` cores all day.
pub fn pod_rows(day: &str, cores: f64) -> Vec<PodRow> {
    let mut rows = Vec::with_capacity(ROWS_PER_DAY);
    for hour in 0..24 {
        for pod in ["a", "b"] {
            rows.push(PodRow {
                milliseconds: milliseconds(day) + hour * 3_600_000,
                namespace: Some(format!("namespace-{pod}")),
                node: Some(format!("node-{pod}")),
                pod: Some(format!("pod-{pod}")),
                resource_id: Some(format!("i-{pod}")),
                labels: Some(format!("{{\"app\": \"{pod}\"}}")),
                usage: [Some(3_600.0 * cores); 8],
                capacity: [Some(8.0), Some(8.0 * 3_600.0), Some(64.0), Some(64.0 * 3_600.0)],
            });
        }
    }
    rows
}

/// The pod object of a day.
pub fn pod_object(day: &str, cores: f64) -> Vec<u8> {
    usage::parquet(usage::pod_columns(&pod_rows(day, cores)), ROWS_PER_DAY)
}

impl Delivery {
    /// Pod objects of some days.
    pub fn of(days: &[&str], cores: f64) -> Self {
        Self(days.iter().map(|day| (pod_key(day), pod_object(day, cores))).collect())
    }

    /// The same with one object replaced or added.
    pub fn with(mut self, key: String, content: Vec<u8>) -> Self {
        self.0.insert(key, content);
        self
    }

    /// The same objects as those of another source.
    pub fn delivered_by(self, source: &str) -> Self {
        let key = |key: String| key.replace(&format!("source={SOURCE}"), &format!("source={source}"));
        Self(self.0.into_iter().map(|(old, content)| (key(old), content)).collect())
    }

    /// These objects and others.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Makes these objects the only ones in a folder.
    pub fn write(&self, folder: &Path) {
        let data = folder.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data).unwrap();
        }
        for (key, content) in &self.0 {
            let path = folder.join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    /// Stores the objects on a server.
    pub fn store(&self, server: &S3Server) {
        for (key, content) in &self.0 {
            server.put(key, content.clone());
        }
    }
}

/// Settings that lack a target: the reports of a folder, everything inline.
pub fn settings(input: &Path, first_day: &str, last_day: &str) -> Value {
    json!({
        "version": 1,
        "organization": {"org_id": ORG},
        "source": {"uuid": SOURCE, "cluster_id": "cluster-7", "cluster_alias": "Cluster Seven"},
        "period": {"start_date": first_day, "end_date": last_day},
        "storage": {"url": format!("file://{}", input.display())},
        "reference": {"from": "inline", "enabled_tag_keys": ["app"]},
    })
}

/// Adds the target: CSV files.
pub fn into_csv(mut settings: Value, output: &Path) -> Value {
    settings["target"] = json!({"kind": "file", "file": {"path": output, "format": "csv"}});
    settings
}

/// Adds the target: a database, from which the small tables are read as well.
pub fn into_postgres(mut settings: Value, postgres: &Postgres) -> Value {
    settings["target"] = json!({"kind": "postgres", "postgres": {
        "host": postgres.host,
        "port": postgres.port,
        "database": postgres.database,
        "user": postgres.user,
        "password": postgres.password.as_ref().map(|password| password.expose_secret().to_owned()),
        "schema": postgres.schema,
        "ssl_mode": "disable",
    }});
    settings["reference"] = json!({"from": "postgres", "node_roles": "derive"});
    settings
}

/// Sets the storage to a bucket of a server in this process.
pub fn from_server(mut settings: Value, server: &S3Server) -> Value {
    settings["storage"] = json!({
        "url": format!("s3://{}", crate::s3_server::BUCKET),
        "endpoint": server.endpoint(),
        "allow_http": true,
        "access_key": crate::s3_server::ACCESS_KEY,
        "secret_key": crate::s3_server::SECRET_KEY,
        "retries": 1,
    });
    settings
}
