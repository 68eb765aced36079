//! File, environment, clock and `--set` → `Config`. `resolve` is pure; only `load` touches the outside world.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use chrono::{DateTime, Utc};

use super::Config;
use super::effective::Effective;
use super::problem::{ConfigProblems, Place, Problems};
use super::settings::Settings;
use super::value::Reader;
use super::{overrides, tree, validate};

/// Far more than a configuration with ten thousand inline node roles.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Far more than any key or password.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Everything a configuration is made from.
pub struct Input<'a> {
    /// Text of the YAML file.
    pub text: &'a str,
    /// Its name, for messages.
    pub file_name: &'a str,
    /// `key.path=value` from `--set`, in order.
    pub overrides: &'a [String],
    /// Looks an environment variable up.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file that a `…_file` key names.
    pub secret_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The clock: `current`, `previous`, `last_days` and what is not over yet follow from it.
    pub now: DateTime<Utc>,
}

/// A configuration, and the same as `gristmill config` prints it.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the program uses.
    pub config: Config,
    /// Every key with its value and where it came from.
    pub effective: Effective,
}

/// Parses and validates. Errors: all problems at once, unless the YAML itself cannot be read.
pub fn parse(input: &Input<'_>) -> Result<Config, ConfigProblems> {
    resolve(input).map(|resolved| resolved.config)
}

/// As `parse`, and keeps what is needed to print the effective configuration.
pub fn resolve(input: &Input<'_>) -> Result<Resolved, ConfigProblems> {
    let mut problems = Problems::default();
    let resolved = resolve_into(input, &mut problems);
    match resolved {
        Some(resolved) if problems.is_empty() => Ok(resolved),
        _ => {
            assert!(!problems.is_empty(), "a configuration is refused only with a reason");
            Err(ConfigProblems::new(input.file_name, problems.into_list()))
        }
    }
}

fn resolve_into(input: &Input<'_>, problems: &mut Problems) -> Option<Resolved> {
    let mut root = tree::parse_tree(input.text, problems)?;
    overrides::apply(&mut root, input.overrides, problems);
    let mut settings = Settings::read(&root, &mut Reader { environment: input.environment, problems });
    settings.fill_defaults();
    settings.read_secret_files(input.secret_file, problems);
    let config = validate::build(&mut settings, input.now, problems)?;
    Some(Resolved { config, effective: Effective::new(settings) })
}

/// Reads the file, the process environment and the clock.
pub fn load(path: &Path, overrides: &[String]) -> Result<Config, ConfigProblems> {
    load_resolved(path, overrides).map(|resolved| resolved.config)
}

/// As `load`, and keeps what is needed to print the effective configuration.
pub fn load_resolved(path: &Path, overrides: &[String]) -> Result<Resolved, ConfigProblems> {
    let file_name = path.display().to_string();
    let text = read_text(path, MAX_CONFIG_BYTES).map_err(|error| {
        let mut problems = Problems::default();
        problems.add(Place::File, "", format!("the configuration cannot be read: {error}; check --config"));
        ConfigProblems::new(&file_name, problems.into_list())
    })?;
    resolve(&Input {
        text: &text,
        file_name: &file_name,
        overrides,
        environment: &|name| std::env::var(name).ok(),
        secret_file: &|path| read_text(path, MAX_SECRET_BYTES),
        now: Utc::now(),
    })
}

fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(max_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max_bytes {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("the file has more than {max_bytes} bytes")));
    }
    Ok(text)
}
