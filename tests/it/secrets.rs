//! Access key, secret key and password: in the configuration, in use, wrong, at every log level, and never in any output.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::binary::Invocation;
use crate::database;
use crate::delivery::{Delivery, from_server, into_postgres, settings};
use crate::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const PLANTED: [&str; 3] = ["PLANTEDACCESSKEY7", "planted/secret+key=7", "planted-p@ssword-7"];

async fn say_nothing(settings: &Value, secrets: &[&str], codes: [i32; 4]) {
    for (command, code) in ["config", "check", "plan", "run"].into_iter().zip(codes) {
        for level in ["debug", "trace"] {
            for format in ["text", "json"] {
                let overrides = [format!("logging.level={level}"), format!("logging.format={format}")];
                let arguments = ["--set", &overrides[0], "--set", &overrides[1]];
                let ended = Invocation::with(command, settings).arguments(&arguments).run().await;
                ended.expect(code, &[]);
                for secret in secrets {
                    // The assertion's own message must not print what it looks for.
                    assert!(!ended.all_text().contains(secret), "{command} at {level} as {format} shows a secret");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_use_appear_nowhere() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let postgres = database::database().await;
    let folder = std::path::Path::new("/nowhere");
    let settings = into_postgres(from_server(settings(folder, DAYS[0], DAYS[1]), &server), &postgres);
    let password = postgres.password.as_ref().expect("the test server asks for a password").expose_secret();
    let secrets = [ACCESS_KEY, SECRET_KEY, password];
    let ended = Invocation::with("init-db", &settings).arguments(&["--set", "logging.level=trace"]).run().await;
    ended.expect(0, &[]);
    assert!(secrets.iter().all(|secret| !ended.all_text().contains(secret)));
    say_nothing(&settings, &secrets, [0, 0, 0, 0]).await;
    let ended = Invocation::with("config", &settings).run().await;
    ended.expect(0, &["access_key: <redacted>", "secret_key: <redacted>", "password: <redacted>", "cluster-7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_appear_nowhere() {
    let server = S3Server::start().await;
    let postgres = database::database().await;
    let folder = std::path::Path::new("/nowhere");
    let mut settings = into_postgres(from_server(settings(folder, DAYS[0], DAYS[1]), &server), &postgres);
    settings["storage"]["access_key"] = json!(PLANTED[0]);
    settings["storage"]["secret_key"] = json!(PLANTED[1]);
    settings["target"]["postgres"]["password"] = json!(PLANTED[2]);
    say_nothing(&settings, &PLANTED, [0, 78, 78, 78]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_a_broken_configuration_appear_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{}\n", PLANTED[1])).unwrap();
    // Twice given, in the wrong place, of the wrong type, from the environment.
    let mut settings = settings(folder.path(), DAYS[0], DAYS[1]);
    settings["storage"] = json!({
        "url": format!("s3://{}:{}@bucket", PLANTED[0], PLANTED[1]),
        "endpoint": format!("https://{}:{}@host", PLANTED[0], PLANTED[1]),
        "access_key": [PLANTED[0]],
        "secret_key": PLANTED[1],
        "secret_key_file": file,
    });
    settings["target"] = json!({"postgres": {
        "host": format!("postgres://user:{}@host/db", PLANTED[2]),
        "password": {"text": PLANTED[2]},
        "port": "${PASSWORD}",
        "database": "d",
        "user": "u",
    }});
    for command in ["config", "check", "plan", "run", "init-db"] {
        let ended = Invocation::with(command, &settings).variable("PASSWORD", PLANTED[2]).run().await;
        ended.expect(78, &["storage.endpoint", "target.postgres.port"]);
        for secret in PLANTED {
            assert!(!ended.all_text().contains(secret), "{command} shows a secret");
        }
    }
}
