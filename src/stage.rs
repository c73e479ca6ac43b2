//! The stages of a slice and the route that each gives: the only place that knows the table of the
//! design's section 4.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::object::Side;

/// Where a slice is on its way from old to new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Only old is used.
    Off,
    /// Both are written, old acknowledges, old is read.
    DualWrite,
    /// As dual-write; sampled reads are repeated on new.
    Shadow,
    /// Both are written, new acknowledges, new is read.
    Live,
    /// As live; a read served by old is an incident.
    RampDown,
    /// Only new is used.
    Complete,
}

/// What a stage says of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The store that acknowledges a write (ack `primary`) and is preferred for reads.
    pub primary: Side,
    /// Whether new content also goes to the other store.
    pub both: bool,
}

impl Route {
    /// Whether new content goes to `side`.
    pub fn writes(self, side: Side) -> bool {
        self.both || side == self.primary
    }

    /// The sides that new content goes to, primary first.
    pub fn write_sides(self) -> impl Iterator<Item = Side> {
        let secondary = self.both.then(|| self.primary.other());
        std::iter::once(self.primary).chain(secondary)
    }
}

/// A word that is no stage.
#[derive(Debug, Error)]
#[error("`{0}` is no stage; the stages are off, dual-write, shadow, live, ramp-down, complete")]
pub struct UnknownStage(pub String);

impl Stage {
    /// All stages, in order.
    pub const ALL: [Stage; 6] =
        [Stage::Off, Stage::DualWrite, Stage::Shadow, Stage::Live, Stage::RampDown, Stage::Complete];

    /// The stage's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Off => "off",
            Stage::DualWrite => "dual-write",
            Stage::Shadow => "shadow",
            Stage::Live => "live",
            Stage::RampDown => "ramp-down",
            Stage::Complete => "complete",
        }
    }

    /// The route of this stage.
    pub const fn route(self) -> Route {
        match self {
            Stage::Off => Route { primary: Side::Old, both: false },
            Stage::DualWrite | Stage::Shadow => Route { primary: Side::Old, both: true },
            Stage::Live | Stage::RampDown => Route { primary: Side::New, both: true },
            Stage::Complete => Route { primary: Side::New, both: false },
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(word: &str) -> Result<Stage, UnknownStage> {
        let known = Stage::ALL.into_iter().find(|stage| stage.as_str() == word);
        known.ok_or_else(|| UnknownStage(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Stage;
    use crate::object::Side;

    #[test]
    fn the_table_of_the_design() {
        let table = [
            ("off", vec![Side::Old]),
            ("dual-write", vec![Side::Old, Side::New]),
            ("shadow", vec![Side::Old, Side::New]),
            ("live", vec![Side::New, Side::Old]),
            ("ramp-down", vec![Side::New, Side::Old]),
            ("complete", vec![Side::New]),
        ];
        for (word, sides) in table {
            let stage: Stage = word.parse().expect("a stage");
            assert_eq!(stage.route().write_sides().collect::<Vec<_>>(), sides, "{word}");
            assert_eq!(stage.to_string(), word);
        }
        assert!("Live".parse::<Stage>().is_err());
    }
}
