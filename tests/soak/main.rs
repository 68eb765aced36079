//! Faults that need a process of their own, many times over: SIGKILL at random moments, and every library's traces while
//! secrets are in use. `scripts/soak.sh` runs this with the large numbers, `cargo test` with a few.
//!
//! `SOAK_KILLS` says how often the program is killed, `SOAK_ROUNDS` how often two of four pods are, `SOAK_SEED` where the random
//! numbers begin. Called as `soak serve FOLDER` this is the S3 server, so that the storage does not live in the process that
//! judges.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::cast_possible_truncation)]

#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/postgres.rs"]
mod database;
#[path = "../support/delivery.rs"]
mod delivery;
mod kills;
mod pods;
#[path = "../support/s3_server.rs"]
mod s3_server;
mod traces;
#[path = "../support/usage.rs"]
mod usage;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A request takes as long as within one data centre, so that reading has a length that a kill can fall into.
const LATENCY: Duration = Duration::from_millis(3);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, folder] = &arguments[..]
        && command == "serve"
    {
        return serve(Path::new(folder)).await;
    }
    let seed = setting("SOAK_SEED", 4);
    kills::run(setting("SOAK_KILLS", 4), seed).await;
    pods::run(setting("SOAK_ROUNDS", 2), seed).await;
    traces::run_traced().await;
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Answers until standard input ends.
async fn serve(folder: &Path) {
    let server = s3_server::S3Server::start_on(folder).await.unwrap();
    server.set_latency(LATENCY);
    println!("{}", server.endpoint());
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await.unwrap().unwrap();
}

/// An S3 server that is a process; it ends with this value.
struct Storage {
    server: Child,
    endpoint: String,
}

impl Storage {
    fn of(folder: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let mut endpoint = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
        Self { server, endpoint: endpoint.trim().to_owned() }
    }

    /// Settings of the storage section.
    fn settings(&self, prefix: &str) -> Value {
        json!({
            "url": format!("s3://{}/{prefix}", s3_server::BUCKET),
            "endpoint": self.endpoint,
            "allow_http": true,
            "access_key": s3_server::ACCESS_KEY,
            "secret_key": s3_server::SECRET_KEY,
        })
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
