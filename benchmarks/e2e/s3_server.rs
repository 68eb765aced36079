//! The tests' S3 server as a process of its own: a folder → an S3 endpoint, for benchmarks of the whole program.
//!
//! `s3_server FOLDER [LATENCY_MILLISECONDS]` prints one line `ready {"endpoint": …, "bucket": …, "access_key": …,
//! "secret_key": …}` and answers until its standard input ends. The files of the folder are its objects, uploads become
//! files there. Each request waits for the latency. Its last line is `counters {…}`: requests and bytes of bodies sent.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "../../tests/support/s3_server.rs"]
mod s3_server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo bench` passes `--bench`; what is left are our own arguments.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let latency = arguments.get(1).map_or(Ok(0), |text| text.parse());
    let (Some(folder), Ok(latency)) = (arguments.first().map(PathBuf::from), latency) else {
        eprintln!("usage: s3_server FOLDER [LATENCY_MILLISECONDS]");
        return ExitCode::from(64);
    };
    let server = match S3Server::start_on(&folder).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("s3_server: folder `{}` cannot be served: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    };
    server.set_latency(Duration::from_millis(latency));
    let ready = serde_json::json!({
        "endpoint": server.endpoint(), "bucket": BUCKET, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY,
    });
    println!("ready {ready}");
    // Until the caller closes our standard input, by intent or because it died.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await.unwrap().unwrap();
    let counters = server.counters();
    println!("counters {}", serde_json::json!({"requests": counters.requests, "bytes_sent": counters.bytes_sent}));
    ExitCode::SUCCESS
}
