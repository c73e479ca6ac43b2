use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// What is wrong with a configuration, and where. Written `FILE:LINE: [SECTION] what`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place} {message}")]
pub struct ConfigError {
    /// Where it stands.
    pub place: Place,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// The line from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The table, without brackets; empty at the top.
    pub section: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.section.is_empty() {
            write!(f, " [{}]", self.section)?;
        }
        Ok(())
    }
}

impl Place {
    /// An error at this place.
    pub fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError { place: self.clone(), message: message.into() }
    }
}
