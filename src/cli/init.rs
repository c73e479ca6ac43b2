use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::{Outcome, show};
use crate::config::EXAMPLE;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The file to write; must not exist
    #[arg(default_value = "bridgefs.toml")]
    file: PathBuf,
}

impl Init {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let shown = self.file.display();
        // 0600: sooner or later someone writes a secret into it.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file);
        let refused = || format!("{shown} was not written; an existing file is never replaced");
        file.and_then(|mut file| file.write_all(EXAMPLE.as_bytes())).with_context(refused)?;
        show(&format!("{shown} is written. Fill in your two stores, then: bridgefs check {shown}\n"))?;
        Ok(Outcome::Done)
    }
}
