use std::fmt;

/// The calls of [`Store`](crate::store::Store), by name: in metrics, counters and fault rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `head`.
    Head,
    /// `get`.
    Get,
    /// `put`.
    Put,
    /// `start_upload`.
    StartUpload,
    /// `put_part`.
    PutPart,
    /// `complete_upload`.
    CompleteUpload,
    /// `abort_upload`.
    AbortUpload,
    /// `copy`.
    Copy,
    /// `set_meta`.
    SetMeta,
    /// `delete`.
    Delete,
    /// `list`.
    List,
    /// `probe`.
    Probe,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 12] = [
        Operation::Head,
        Operation::Get,
        Operation::Put,
        Operation::StartUpload,
        Operation::PutPart,
        Operation::CompleteUpload,
        Operation::AbortUpload,
        Operation::Copy,
        Operation::SetMeta,
        Operation::Delete,
        Operation::List,
        Operation::Probe,
    ];

    /// The operations that change what a reader sees.
    pub const MUTATIONS: [Operation; 5] =
        [Operation::Put, Operation::CompleteUpload, Operation::Copy, Operation::SetMeta, Operation::Delete];

    /// The operation's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Head => "head",
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::StartUpload => "start_upload",
            Operation::PutPart => "put_part",
            Operation::CompleteUpload => "complete_upload",
            Operation::AbortUpload => "abort_upload",
            Operation::Copy => "copy",
            Operation::SetMeta => "set_meta",
            Operation::Delete => "delete",
            Operation::List => "list",
            Operation::Probe => "probe",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
