use std::ops::Range;
use std::time::Duration;

use crate::object::Key;
use crate::store::ErrorKind;
use crate::store::metered::Operation;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and nothing happens.
    Fail(ErrorKind),
    /// It happens, and the answer is lost: the caller sees [`ErrorKind::Unavailable`].
    FailAfter,
    /// No answer until the rule is taken away; then the call goes on as if nothing had been.
    Stall,
    /// The answer comes so much later.
    Delay(Duration),
    /// The body of a download ends in an error after so many bytes.
    Truncate {
        /// Bytes that still come.
        after_bytes: u64,
    },
    /// The body of a download falls silent after so many bytes, until the rule is taken away.
    StallBody {
        /// Bytes that still come.
        after_bytes: u64,
    },
    /// One bit of the download's body is another, and nobody says so.
    FlipBit,
    /// `head` and `get` say a tag that the object does not have.
    WrongEtag,
    /// The caller of a mutation sees a silence, and it is applied when the test says
    /// [`release_late`](super::Faults::release_late): an upload that was still on its way.
    Late,
}

/// When something goes wrong. A call meets the first rule that applies to it and no other.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The operations it is about.
    pub operations: Vec<Operation>,
    /// The start of the keys it is about; a listing has its prefix in the place of a key.
    pub key_prefix: String,
    /// What goes wrong.
    pub fault: Fault,
    /// How often, of the calls it is about: 0.0 never, 1.0 always.
    pub probability: f64,
    /// Which of the calls it is about, counted from 0 since the rule was pushed.
    pub window: Range<u64>,
}

impl Rule {
    /// Every call, every time.
    pub fn always(fault: Fault) -> Rule {
        let operations = Operation::ALL.to_vec();
        Rule { operations, key_prefix: String::new(), fault, probability: 1.0, window: 0..u64::MAX }
    }

    /// The same, for these operations only.
    #[must_use]
    pub fn on(mut self, operations: &[Operation]) -> Rule {
        self.operations = operations.to_vec();
        self
    }

    /// The same, for keys with this prefix only.
    #[must_use]
    pub fn below(mut self, key_prefix: impl Into<String>) -> Rule {
        self.key_prefix = key_prefix.into();
        self
    }

    /// The same, with this probability.
    #[must_use]
    pub fn sometimes(mut self, probability: f64) -> Rule {
        self.probability = probability.clamp(0.0, 1.0);
        self
    }

    /// The same, for these of the calls only: `0..1` is the first.
    #[must_use]
    pub fn within(mut self, window: Range<u64>) -> Rule {
        self.window = window;
        self
    }

    pub(super) fn is_about(&self, operation: Operation, key: Option<&str>) -> bool {
        self.operations.contains(&operation) && key.unwrap_or("").starts_with(&self.key_prefix)
    }

    /// The key as rules compare it.
    pub(super) fn subject(key: Option<&Key>) -> Option<&str> {
        key.map(Key::as_str)
    }
}
