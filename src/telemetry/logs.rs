//! Logging settings → a subscriber on standard error, as text or JSON lines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Logging;

/// Starts logging. A second call changes nothing.
pub fn start(logging: &Logging) {
    // Spans of a run and of a day stand in every line, whatever the level: as `spans` in JSON, before the message in text.
    // Libraries speak up from warnings on; our own level is the configured one.
    let filter = EnvFilter::new(format!("warn,gristmill={}", logging.level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let already_started = if logging.json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(true).try_init().is_err()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init().is_err()
    };
    if already_started {
        tracing::debug!("logging was started before");
    }
}
