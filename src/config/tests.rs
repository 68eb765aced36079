//! Tests of the configuration: helpers here, cases in the files beside.

mod combinations;
mod files;
mod keys;
mod meaning;
mod messages;
mod sources;
mod yaml;

use std::collections::BTreeMap;
use std::io;

use chrono::{DateTime, Utc};

use super::{Config, ConfigProblems, Input, Resolved, resolve};

/// A configuration for everything that a test does not care about.
const POSTGRES: &str = "\
version: 1
organization:
  org_id: org1234567
source:
  uuid: 0A1B2C3D-0000-4000-8000-000000000001
  cluster_id: my-cluster
period:
  start_date: 2025-10-01
  end_date: 2025-10-31
storage:
  url: s3://reports/cost
target:
  postgres:
    host: db
    database: koku
    user: writer
";

/// The same with files instead of a database.
const FILE: &str = "\
version: 1
organization: {org_id: org1234567}
source: {uuid: 0a1b2c3d-0000-4000-8000-000000000001, cluster_id: my-cluster}
period: {month: 2025-10}
storage: {url: 'file:///reports'}
target: {kind: file, file: {path: out}}
";

fn noon() -> DateTime<Utc> {
    "2025-11-15T12:00:00Z".parse().expect("a time")
}

/// One attempt to read a configuration.
struct Attempt<'a> {
    text: String,
    overrides: Vec<String>,
    environment: BTreeMap<&'a str, &'a str>,
    secret_files: BTreeMap<&'a str, &'a str>,
    now: DateTime<Utc>,
}

impl<'a> Attempt<'a> {
    fn new(text: impl Into<String>) -> Self {
        let (environment, secret_files) = (BTreeMap::new(), BTreeMap::new());
        Self { text: text.into(), overrides: Vec::new(), environment, secret_files, now: noon() }
    }

    fn set(mut self, text: &str) -> Self {
        self.overrides.push(text.to_owned());
        self
    }

    fn env(mut self, name: &'a str, value: &'a str) -> Self {
        self.environment.insert(name, value);
        self
    }

    fn secret_file(mut self, path: &'a str, content: &'a str) -> Self {
        self.secret_files.insert(path, content);
        self
    }

    fn at(mut self, now: &str) -> Self {
        self.now = now.parse().expect("a time");
        self
    }

    fn resolve(&self) -> Result<Resolved, ConfigProblems> {
        resolve(&Input {
            text: &self.text,
            file_name: "config.yaml",
            overrides: &self.overrides,
            environment: &|name| self.environment.get(name).map(|value| (*value).to_owned()),
            secret_file: &|path| match path.to_str().and_then(|path| self.secret_files.get(path)) {
                Some(content) => Ok((*content).to_owned()),
                None => Err(io::Error::from(io::ErrorKind::NotFound)),
            },
            now: self.now,
        })
    }

    #[track_caller]
    fn config(&self) -> Config {
        self.resolve().unwrap_or_else(|problems| panic!("refused:\n{problems}")).config
    }

    #[track_caller]
    fn effective(&self) -> String {
        let resolved = self.resolve().unwrap_or_else(|problems| panic!("refused:\n{problems}"));
        super::effective_yaml(&resolved.effective)
    }

    #[track_caller]
    fn problems(&self) -> String {
        self.resolve().expect_err("the configuration should be refused").to_string()
    }
}

/// `text` with one line replaced.
#[track_caller]
fn with(text: &str, line: &str, replacement: &str) -> String {
    assert!(text.contains(line), "no such line: {line}");
    text.replace(line, replacement)
}
