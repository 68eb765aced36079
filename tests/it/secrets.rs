//! Access key, secret key and password: in the configuration, its files, variables and overrides, in use, wrong, at every log
//! level, and never in any output. What the libraries would log is searched by tests/soak.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::binary::Invocation;
use crate::database;
use crate::delivery::{Delivery, from_server, into_postgres, settings};
use crate::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
const PLANTED: [&str; 3] = ["PLANTEDACCESSKEY7", "planted/secret+key=7", "planted-p@ssword-7"];

/// The assertion's own message must not print what it looks for.
fn shows_none(what: &str, text: &str, secrets: &[&str]) {
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!text.contains(secret), "{what} shows secret {number}");
    }
}

async fn say_nothing(settings: &Value, secrets: &[&str], codes: [i32; 4]) {
    for (command, code) in ["config", "check", "plan", "run"].into_iter().zip(codes) {
        for level in ["debug", "trace"] {
            for format in ["text", "json"] {
                let overrides = [format!("logging.level={level}"), format!("logging.format={format}")];
                let arguments = ["--set", &overrides[0], "--set", &overrides[1]];
                let ended = Invocation::with(command, settings).arguments(&arguments).run().await;
                ended.expect(code, &[]);
                shows_none(&format!("{command} at {level} as {format}"), &ended.all_text(), secrets);
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
    shows_none("init-db", &ended.all_text(), &secrets);
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
        shows_none(command, &ended.all_text(), &PLANTED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_variables_and_files_appear_nowhere_not_even_in_the_process_list() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = into_postgres(from_server(settings(folder.path(), DAYS[0], DAYS[1]), &server), &postgres);
    let password = postgres.password.as_ref().expect("the test server asks for a password").expose_secret();
    let (secret_file, password_file) = (folder.path().join("secret"), folder.path().join("password"));
    std::fs::write(&secret_file, format!("{SECRET_KEY}\n")).unwrap();
    std::fs::write(&password_file, format!("{password}\n")).unwrap();
    let storage = settings["storage"].as_object_mut().unwrap();
    storage.remove("secret_key");
    storage.insert("access_key".to_owned(), json!("${ACCESS}"));
    storage.insert("secret_key_file".to_owned(), json!(secret_file));
    let target = settings["target"]["postgres"].as_object_mut().unwrap();
    target.remove("password");
    target.insert("password_file".to_owned(), json!(password_file));
    let secrets = [ACCESS_KEY, SECRET_KEY, password];
    let invocation = |command| Invocation::with(command, &settings).variable("ACCESS", ACCESS_KEY);
    invocation("init-db").run().await.expect(0, &[]);
    for command in ["config", "check", "plan", "run"] {
        let ended = invocation(command).arguments(&["--set", "logging.level=trace"]).run().await;
        ended.expect(0, &[]);
        shows_none(command, &ended.all_text(), &secrets);
    }
    server.set_latency(std::time::Duration::from_millis(300));
    let asked = server.counters().requests;
    let running = invocation("run").start();
    while server.counters().requests == asked {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let arguments = running.visible_arguments();
    assert!(arguments.contains("--config"), "{arguments}");
    shows_none("the process list", &arguments, &secrets);
    running.end().await.expect(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_take_no_secrets_and_repeat_none() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), DAYS[0], DAYS[1]);
    let [access, secret, password] = PLANTED;
    for override_text in [
        format!("storage.secret_key={secret}"),
        format!("storage={{url: s3://b, secret_key: {secret}}}"),
        format!("storage={{secret_key: \"{secret}\""),
        format!("storage.url=s3://{access}:{secret}@bucket"),
        format!("storage.endpoint=https://{access}:{secret}@host"),
        format!("target.postgres.password={password}"),
        format!("target.postgres.pasword={password}"),
        format!("target.postgres.host=postgres://user:{password}@host/db"),
        format!("target={{postgres: {{password: [{password}]}}}}"),
        format!("target={{postgres: {{password:{password}}}}}"),
        format!("target.postgres.password_file={password}"),
        format!("target.postgres.passwords.of_role={password}"),
        format!("{access}="),
        password.to_owned(),
    ] {
        for command in ["config", "check", "plan", "run"] {
            let ended = Invocation::with(command, &settings).arguments(&["--set", &override_text]).run().await;
            let key = override_text.split(['=', '{']).next().filter(|key| key.contains('.')).unwrap_or("--set");
            shows_none(&format!("{command} --set {key}"), &ended.all_text(), &PLANTED);
            assert_eq!(ended.code, 78, "{command} --set {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_a_proxy_appears_nowhere() {
    let server = S3Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = from_server(settings(folder.path(), DAYS[0], DAYS[1]), &server);
    let proxy = format!("http://user:{}@127.0.0.1:9", PLANTED[0]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        for command in ["check", "plan"] {
            let invocation = Invocation::with(command, &settings).variable(name, &proxy);
            let ended = invocation.arguments(&["--set", "logging.level=trace"]).run().await;
            assert_ne!(ended.code, 0, "{command} finds nothing");
            shows_none(&format!("{command} with {name}"), &ended.all_text(), &PLANTED);
        }
    }
}
