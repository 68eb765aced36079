//! The program itself, run as a user runs it: arguments, a configuration file and an environment of the test's own.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A command line to run.
pub struct Invocation {
    command: Command,
    folder: TempDir,
    report: PathBuf,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The file of `--report`; null without one.
    pub report: Value,
}

impl Invocation {
    /// `gristmill COMMAND --config FILE`, and `--report FILE` if it runs or plans; the environment is empty.
    pub fn new(command: &str, config_text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, report) = (folder.path().join("config.yaml"), folder.path().join("report.json"));
        std::fs::write(&config, config_text).unwrap();
        let mut invocation = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        invocation.env_clear().arg(command).arg("--config").arg(&config);
        if command == "run" || command == "plan" {
            invocation.arg("--report").arg(&report);
        }
        Self { command: invocation, folder, report }
    }

    /// `gristmill COMMAND` without a configuration.
    pub fn bare(command: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.json");
        let mut invocation = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        invocation.env_clear().arg(command);
        Self { command: invocation, folder, report }
    }

    /// The same with settings as JSON, which is YAML.
    pub fn with(command: &str, settings: &Value) -> Self {
        Self::new(command, &settings.to_string())
    }

    /// Adds arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it starts: a folder that holds the configuration only.
    pub fn working_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs it to its end while the test's own servers go on answering.
    pub async fn run(mut self) -> Ended {
        let ended = tokio::task::spawn_blocking(move || {
            let output = self.command.output().expect("the program starts");
            Ended::new(output, &self.report)
        });
        ended.await.unwrap()
    }

    /// Starts it and does not wait.
    pub fn start(mut self) -> Running {
        let child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        Running { child: Some(child), invocation: self }
    }
}

/// A program under way; it is killed if the test ends before it does.
pub struct Running {
    child: Option<Child>,
    invocation: Invocation,
}

impl Running {
    /// The arguments that any user of the machine can see.
    pub fn visible_arguments(&self) -> String {
        let id = self.child.as_ref().expect("it runs").id();
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{id}/cmdline")).expect("the process list")).into_owned()
    }

    /// Whether it has a file open.
    pub fn has_open(&self, path: &Path) -> bool {
        let id = self.child.as_ref().expect("it runs").id();
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").filter_map(Result::ok);
        open.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|target| target == path)
    }

    /// Sends SIGTERM to it and to nothing else.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal to it and to nothing else.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let arguments = ["-c", "kill -s \"$1\" \"$0\"", &id, name];
        let sent = Command::new("/bin/sh").args(arguments).status().expect("a shell");
        assert!(sent.success(), "the signal is sent");
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ended {
        let child = self.child.take().expect("it runs");
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().expect("its output"));
        Ended::new(output.await.unwrap(), &self.invocation.report)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ended {
    fn new(output: Output, report: &Path) -> Self {
        let report = std::fs::read_to_string(report).ok();
        Self {
            code: output.status.code().expect("it ended by itself, not by a signal"),
            stdout: String::from_utf8(output.stdout).expect("standard output is text"),
            stderr: String::from_utf8(output.stderr).expect("standard error is text"),
            report: report.map_or(Value::Null, |text| serde_json::from_str(&text).expect("the report is JSON")),
        }
    }

    /// Asserts the exit code and that standard output or standard error hold each part.
    pub fn expect(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        for part in parts {
            assert!(self.stderr.contains(part) || self.stdout.contains(part), "{part} is not in {self:#?}");
        }
        self
    }

    /// What the report of a run, or the plan, says about a day.
    pub fn day(&self, day: &str) -> &Value {
        let windows = self.report["windows"].as_array().into_iter().flatten();
        let of_windows = windows.filter_map(|window| window["days"].as_array());
        let days = self.report["days"].as_array().into_iter().chain(of_windows).flatten();
        days.into_iter().find(|entry| entry["day"] == day).unwrap_or_else(|| panic!("{day} in {self:#?}"))
    }

    /// Everything that it said.
    pub fn all_text(&self) -> String {
        format!("{}\n{}\n{}", self.stdout, self.stderr, self.report)
    }
}
