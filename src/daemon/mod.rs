//! The composition root: builds the stacks, starts the tasks, stops them in order.
//!
//! Started from the inside out, stopped from the outside in; each part that was started is taken back by
//! its `Drop` when a later one fails, so a failed start leaves nothing mounted:
//!
//! ```text
//! state directory locked (ledger) -> stores -> cache -> bridge -> tasks -> mount -> control socket -> "ready"
//! control refuses <- ledger closed <- tasks stopped <- queues drained <- kernel has let go (unmounted)
//! ```

mod alias;
mod detach;
mod error;
mod log;
mod memo;
mod mountpoint;
mod owner;
mod parts;
pub mod preflight;
mod run;
mod state_dir;
mod stores;

pub use detach::{Detached, Report, Waiting, detach};
pub use error::DaemonError;
pub use log::{LogTo, start_log};
pub use mountpoint::prepare_mountpoint;
pub use run::run;
