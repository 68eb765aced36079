//! The binary: parse, synchronous set-up, runtime, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use gristmill::cli::{Cli, execute};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe behind them is nobody's concern.
            let _unread = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    ExitCode::from(execute(cli))
}
