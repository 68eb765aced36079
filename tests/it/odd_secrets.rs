//! Keys, tokens and addresses as people store them by accident: with a line end, in several lines, with characters that no header
//! takes. One line end is removed; whatever cannot be sent is refused with its key or variable, and nothing panics.

use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::binary::Invocation;
use crate::database;
use crate::delivery::{Delivery, from_server, into_csv, into_postgres, settings};
use crate::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
/// Commands that reach the storage.
const COMMANDS: [&str; 3] = ["run", "plan", "check"];

fn of_server(server: &S3Server, output: &Path) -> Value {
    into_csv(from_server(settings(output, DAYS[0], DAYS[1]), server), output)
}

/// Without keys: credentials come from the environment.
fn without_keys(server: &S3Server, output: &Path) -> Value {
    let mut settings = of_server(server, output);
    for key in ["access_key", "secret_key"] {
        settings["storage"].as_object_mut().unwrap().remove(key);
    }
    settings["storage"]["retries"] = json!(0);
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn one_line_end_of_a_secret_is_removed_wherever_it_comes_from() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    let password = postgres.password.as_ref().unwrap().expose_secret().to_owned();
    let user = postgres.user.clone();
    for end in ["\n", "\r\n"] {
        let written = |text: &str| format!("{text}{end}");
        // As `kubectl create secret --from-file` stores them, and the chart hands them on.
        let mut settings = into_postgres(from_server(settings(folder.path(), DAYS[0], DAYS[1]), &server), &postgres);
        settings["storage"]["access_key"] = json!("${KEY}");
        settings["storage"]["secret_key"] = json!("${SECRET}");
        settings["target"]["postgres"]["user"] = json!("${ROLE}");
        settings["target"]["postgres"]["password"] = json!("${PASSWORD}");
        let with_variables = |command| {
            let run = Invocation::with(command, &settings).variable("KEY", &written(ACCESS_KEY));
            let run = run.variable("SECRET", &written(SECRET_KEY)).variable("ROLE", &written(&user));
            run.variable("PASSWORD", &written(&password))
        };
        with_variables("init-db").run().await.expect(0, &[]);
        with_variables("run").run().await.expect(0, &[]);
        // As files, and as a block in the configuration itself.
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, written(text)).unwrap();
            path
        };
        let mut in_files = settings.clone();
        let storage = in_files["storage"].as_object_mut().unwrap();
        storage.remove("access_key");
        storage.insert("access_key_file".to_owned(), json!(file("access_key", ACCESS_KEY)));
        storage.insert("secret_key".to_owned(), json!(written(SECRET_KEY)));
        let database = in_files["target"]["postgres"].as_object_mut().unwrap();
        database.insert("password".to_owned(), json!(written(&password)));
        database.insert("user".to_owned(), json!(user));
        Invocation::with("run", &in_files).run().await.expect(0, &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_header_takes_are_refused_by_name() {
    let server = S3Server::start().await;
    let output = tempfile::tempdir().unwrap();
    let cases = [
        ("access_key", "PLANTED\nKEY", "storage.access_key", "holds a line end"),
        ("access_key", "PLANTED\n\n", "storage.access_key", "holds a line end"),
        ("access_key", "PLANTED\u{7}KEY", "storage.access_key", "holds a control character"),
        ("access_key", "\u{201c}PLANTED\u{201d}", "storage.access_key", "outside of ASCII"),
        ("secret_key", "PLANTED\rKEY", "storage.secret_key", "holds a line end"),
        ("region", "eu-west-1\neu", "storage.region", "characters other than letters"),
        ("region", "eu west", "storage.region", "characters other than letters"),
        ("endpoint", "http://h\u{f6}st:9000", "storage.endpoint", "is not the address of a server"),
        ("endpoint", "http://host:99999", "storage.endpoint", "is not the address of a server"),
        ("endpoint", "http://ho^st", "storage.endpoint", "make no address"),
        ("endpoint", "http://1.2.3.4.5", "storage.endpoint", "make no address"),
    ];
    for (key, value, named, says) in cases {
        for command in COMMANDS {
            let mut settings = of_server(&server, output.path());
            settings["storage"][key] = json!(value);
            let ended = Invocation::with(command, &settings).run().await;
            ended.expect(78, &[named, says]);
            assert!(!ended.all_text().contains("PLANTED"), "{key} is shown");
        }
        // By way of a variable, which is named as well.
        let mut settings = of_server(&server, output.path());
        settings["storage"][key] = json!("${FROM_OUTSIDE}");
        let ended = Invocation::with("run", &settings).variable("FROM_OUTSIDE", value).run().await;
        ended.expect(78, &[named, says]);
        assert!(!key.ends_with("_key") || ended.all_text().contains("FROM_OUTSIDE"));
        assert!(!ended.all_text().contains("PLANTED"), "{key} is shown");
    }
    // A bucket in front of the address of a machine is no host.
    let mut settings = of_server(&server, output.path());
    settings["storage"]["path_style"] = json!(false);
    settings["storage"]["endpoint"] = json!("http://127.0.0.1:9000");
    Invocation::with("run", &settings).run().await.expect(78, &["make no address", "storage.path_style: true"]);
    assert_eq!(server.counters().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_the_environment_that_no_header_takes_are_refused_by_name() {
    let server = S3Server::start().await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let output = tempfile::tempdir().unwrap();
    let settings = without_keys(&server, output.path());
    let with_keys = |command, key: &str, secret: &str, token: Option<&str>| {
        let run = Invocation::with(command, &settings).variable("AWS_ACCESS_KEY_ID", key);
        let run = run.variable("AWS_SECRET_ACCESS_KEY", secret);
        if let Some(token) = token { run.variable("AWS_SESSION_TOKEN", token) } else { run }
    };
    // A line end is removed here, too.
    let (key, secret) = (format!("{ACCESS_KEY}\n"), format!("{SECRET_KEY}\r\n"));
    with_keys("run", &key, &secret, None).run().await.expect(0, &["written"]);
    for command in COMMANDS {
        for (key, secret, token, named) in [
            ("PLANTED\nKEY", SECRET_KEY, None, "AWS_ACCESS_KEY_ID"),
            ("PL\u{c4}NTED", SECRET_KEY, None, "AWS_ACCESS_KEY_ID"),
            (ACCESS_KEY, "PLANTED\nKEY", None, "AWS_SECRET_ACCESS_KEY"),
            (ACCESS_KEY, SECRET_KEY, Some("PLANTED\n\nTOKEN"), "AWS_SESSION_TOKEN"),
            (ACCESS_KEY, SECRET_KEY, Some("PL\u{c4}NTED"), "AWS_SESSION_TOKEN"),
        ] {
            let ended = with_keys(command, key, secret, token).run().await;
            ended.expect(78, &["environment variable", named]);
            assert!(
                !ended.all_text().contains("PLANTED") && !ended.all_text().contains("PL\u{c4}NTED"),
                "{named} is shown"
            );
        }
    }
    // Tokens in files, which the library reads by itself.
    let token = output.path().join("token");
    std::fs::write(&token, "PLANTED-TOKEN\n").unwrap();
    let token = token.display().to_string();
    let of_pod = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
    ];
    let of_web = [("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader"), ("AWS_WEB_IDENTITY_TOKEN_FILE", &token)];
    for variables in [of_pod, of_web] {
        let run =
            variables.iter().fold(Invocation::with("run", &settings), |run, (name, value)| run.variable(name, value));
        let ended = run.run().await;
        ended.expect(78, &["the file that", variables[1].0, "names holds a line end"]);
        assert!(!ended.all_text().contains("PLANTED"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_a_service_gives_out_are_looked_at_before_they_sign() {
    let server = S3Server::start().await;
    let output = tempfile::tempdir().unwrap();
    for (key, token, part) in [("PLANTED\nKEY", "token", "access key"), ("KEY", "PLANTED\u{e4}", "session token")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let expiry = (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339();
        let text =
            json!({"AccessKeyId": key, "SecretAccessKey": "s", "Token": token, "Expiration": expiry}).to_string();
        let answers = tokio::spawn(answer_all(listener, Arc::new(text)));
        let file = output.path().join("token");
        std::fs::write(&file, "the-token").unwrap();
        let run = Invocation::with("run", &without_keys(&server, output.path()))
            .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://127.0.0.1:{port}/"))
            .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file.display().to_string());
        let ended = run.run().await;
        ended.expect(78, &["the credentials that were given out cannot be used", part]);
        assert!(!ended.all_text().contains("PLANTED"));
        answers.abort();
    }
    assert_eq!(server.counters().requests, 0);
}

async fn answer_all(listener: TcpListener, text: Arc<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4096];
        // One small request per connection.
        let _read = stream.read(&mut request).await;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        let _written = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_for_postgresql_end_without_a_panic_whatever_they_hold() {
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    Delivery::of(&DAYS, 1.0).write(folder.path());
    let usual = into_postgres(settings(folder.path(), DAYS[0], DAYS[1]), &postgres);
    for key in ["user", "database", "password", "host", "schema"] {
        for value in ["a\u{0}b", "a\nb", "\u{fffd}\u{202e}", "\u{7f}", "x\ty", "%00", "'; --"] {
            let mut settings = usual.clone();
            settings["target"]["postgres"][key] = json!(value);
            settings["target"]["postgres"]["retries"] = json!(0);
            let ended = Invocation::with("check", &settings).run().await;
            assert!(matches!(ended.code, 75 | 78), "{key} {value:?}: {ended:#?}");
            if value.contains('\0') {
                ended.expect(78, &["NUL", key]);
            }
        }
    }
}
