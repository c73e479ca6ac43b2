//! The `bridgefs` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    bridgefs::cli::main()
}
