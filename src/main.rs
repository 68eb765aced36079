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
    std::panic::set_hook(Box::new(report_panic));
    ExitCode::from(std::panic::catch_unwind(|| execute(cli)).unwrap_or(BUG))
}

/// Exit code of a broken promise of ours (docs/operations.md).
const BUG: u8 = 70;

/// A panic of a worker thread becomes an error that names the object; on the main thread it is a defect, told in one line.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let is_worker = std::thread::current().name() != Some("main");
    if is_worker {
        tracing::debug!("{panic}");
    } else {
        eprintln!("error: defect of gristmill {}: {panic}; please report this", env!("CARGO_PKG_VERSION"));
    }
}
