//! The protocol between the command line and the running mount: JSON over HTTP over a Unix socket that
//! only root and the daemon's own user may talk to.

mod client;
mod protocol;
mod registry;
mod server;
mod socket;

pub use client::{Client, ClientError};
pub use protocol::{MountStatus, Refusal, StageRequest, StopRequest, Stopped, UnsettledFile};
pub use registry::{Registration, RunningMount};
pub use server::{ControlPanel, StopOrder, serve};
pub use socket::{PrivateListener, socket_path};
