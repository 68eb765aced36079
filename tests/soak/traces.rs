//! Every library's traces, and the program's own, while secrets are in use and while they are wrong: none shows one.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gristmill::config::{self, Config};
use gristmill::run::check::check;
use gristmill::run::{RunOptions, run};
use gristmill::telemetry::progress::Progress;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::binary::Invocation;
use crate::delivery::{Delivery, into_postgres, settings};
use crate::s3_server::{ACCESS_KEY, SECRET_KEY};
use crate::{Storage, database};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const PLANTED: [&str; 3] = ["PLANTEDACCESSKEY7", "planted/secret+key=7", "planted-p@ssword-7"];

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn parse(settings: &Value) -> Config {
    let text = settings.to_string();
    let input = config::Input {
        text: &text,
        file_name: "traces",
        overrides: &[],
        environment: &|_| None,
        secret_file: &|_| Err(std::io::Error::other("no secrets")),
        now: chrono::Utc::now(),
    };
    config::parse(&input).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Runs well, then with wrong secrets, with everything logged that any library logs.
pub async fn run_traced() {
    let kept = Kept::default();
    // Records of the `log` crate are taken along.
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(kept.clone());
    subscriber.with_ansi(false).init();
    let folder = tempfile::tempdir().unwrap();
    Delivery::of(&DAYS, 1.0).write(&folder.path().join("c"));
    let storage = Storage::of(folder.path());
    let postgres = database::database().await;
    let mut settings = into_postgres(settings(Path::new("/nowhere"), DAYS[0], DAYS[1]), &postgres);
    settings["storage"] = storage.settings("c");
    Invocation::with("init-db", &settings).run().await.expect(0, &[]);
    let mut said = String::new();
    let config = parse(&settings);
    let report = run(&config, &RunOptions::default(), &Progress::hidden()).await;
    assert_eq!(report.exit_code, 0, "the run went well");
    said.push_str(&format!("{config:?} {report:?} {}", check(&config).await.text()));
    let mut wrong = settings.clone();
    wrong["storage"]["access_key"] = json!(PLANTED[0]);
    wrong["storage"]["secret_key"] = json!(PLANTED[1]);
    for password in [None, Some(PLANTED[2])] {
        if let Some(password) = password {
            wrong["target"]["postgres"]["password"] = json!(password);
        }
        let config = parse(&wrong);
        let report = run(&config, &RunOptions::default(), &Progress::hidden()).await;
        assert_eq!(report.exit_code, 78, "the wrong secrets are refused");
        said.push_str(&format!("{config:?} {report:?} {}", check(&config).await.text()));
    }
    let traces = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let password = postgres.password.as_ref().unwrap().expose_secret().to_owned();
    let secrets = [SECRET_KEY, &password, PLANTED[1], PLANTED[2], ACCESS_KEY, PLANTED[0]];
    for (number, secret) in secrets.iter().enumerate() {
        // The assertion's own message must not print what it looks for.
        let line = traces.lines().find(|line| line.contains(secret));
        let shown = line.map(|line| line.replace(secret, "<the secret>"));
        assert_eq!(shown, None, "secret {number} is in the traces");
        assert!(!said.contains(secret), "secret {number} is in a report or a configuration");
    }
    let libraries = ["hyper", "gristmill"];
    assert!(libraries.iter().all(|library| traces.contains(library)), "the libraries are heard");
    println!("| secrets | traces searched | bytes of reports and configurations searched | found |");
    println!("|---|---|---|---|");
    println!("| {} | {} lines, {} bytes | {} | 0 |", secrets.len(), traces.lines().count(), traces.len(), said.len());
}
