//! The command line, one file a verb. Exit code 0: done; 1: refused or failed; 2: the command line itself
//! is wrong. The only layer that writes to the terminal.
#![expect(clippy::print_stderr, reason = "this is the layer that talks to the terminal")]

mod check;
mod demo;
mod findings;
mod init;
mod ledger;
mod mount;
mod mount_call;
mod stage;
mod status;
mod table;
mod target;
mod umount;
mod units;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use mount_call::MountCall;

/// One directory over two object stores: move a company's files from one cloud to another while everything
/// keeps running.
#[derive(Debug, Parser)]
#[command(name = "bridgefs", version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write an annotated configuration to start from
    Init(init::Init),
    /// Look before the first mount: stores, permissions, clocks, folders; and what to do
    Check(check::Check),
    /// Mount a bridge; returns when the mount can be used
    Mount(mount::Mount),
    /// Unmount a bridge: ends it in order and says what stays in the journal
    Umount(umount::Umount),
    /// Show slices, queues and findings, or one file on both stores
    Status(status::Status),
    /// Change the stage of a slice, at once, under load
    Stage(stage::Stage),
    /// List what a person must know
    Findings(findings::Findings),
    /// Look into the ledger, mounted or not
    Ledger(ledger::LedgerCommand),
    /// A guided tour over two local folders; needs nothing but FUSE
    Demo(demo::Demo),
}

/// The error and its causes in one line; a cause that the text before already says is not said again.
fn message_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        before if before.contains(&cause) => said,
        before => format!("{before}: {cause}"),
    })
}

/// What a verb that ran to its end has to say to the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Done.
    Done,
    /// It was refused, or a check failed; the reasons are on the terminal already.
    Refused,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match MountCall::read(&words, is_verb) {
        Some(call) => call.and_then(MountCall::run),
        None => run(Cli::parse().verb),
    };
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::FAILURE,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bridgefs: {}", message_of(&error));
            ExitCode::FAILURE
        }
    }
}

fn is_verb(word: &str) -> bool {
    word == "help" || Cli::command().find_subcommand(word).is_some()
}

fn run(verb: Verb) -> anyhow::Result<Outcome> {
    match verb {
        Verb::Init(init) => init.run(),
        Verb::Check(check) => check.run(),
        Verb::Mount(mount) => mount.run(),
        Verb::Umount(umount) => umount.run(),
        Verb::Status(status) => status.run(),
        Verb::Stage(stage) => stage.run(),
        Verb::Findings(findings) => findings.run(),
        Verb::Ledger(ledger) => ledger.run(),
        Verb::Demo(demo) => demo.run(),
    }
}

/// `bridgefs status | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes a report to standard output in one piece.
fn show(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Writes a value as JSON.
fn show_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    show(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Runs the client's side of a verb: one thread is enough.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

/// The configuration given with `--config`, else `$BRIDGEFS_CONFIG`.
fn chosen_config(given: Option<&PathBuf>) -> Option<PathBuf> {
    given.cloned().or_else(|| std::env::var_os("BRIDGEFS_CONFIG").map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::message_of;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("no such folder");
        let error = error.context("opening x: no such folder");
        let error = Err::<(), _>(error).context("mounting").expect_err("failed");
        assert_eq!(message_of(&error), "mounting: opening x: no such folder");
    }
}
