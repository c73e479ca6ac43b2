use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

use super::protocol::{MountStatus, Refusal, StageRequest, StopRequest, Stopped};
use crate::bridge::{FileStatus, StageChange};
use crate::ledger::Finding;

/// Why the daemon gave no answer, or not the one that was asked for.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no bridgefs is mounted for this state directory ({}): start it with `bridgefs mount CONFIG MOUNTPOINT`",
        .socket.display()
    )]
    NotRunning {
        /// Where nobody listens.
        socket: PathBuf,
    },
    /// The socket is someone else's.
    #[error("{} belongs to another user: use the account that runs the mount, or root", .socket.display())]
    NotAllowed {
        /// Whose socket it is.
        socket: PathBuf,
    },
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or the answer is not of this protocol.
    #[error("the daemon at {} broke off: {detail}; look at its log, and whether it still runs", .socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// How.
        detail: String,
    },
}

/// Talks to the daemon of one mount; one connection a call.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

type Answer<T> = Result<T, ClientError>;

impl Client {
    /// A client for the daemon behind `socket`. Nothing is sent yet.
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// The mount and its bridge.
    pub async fn status(&self) -> Answer<MountStatus> {
        self.get("/status").await
    }

    /// What each store holds of one file; `path` is below the mountpoint.
    pub async fn file(&self, path: &str) -> Answer<FileStatus> {
        self.get(&format!("/file?path={}", utf8_percent_encode(path, NON_ALPHANUMERIC))).await
    }

    /// What a person must know.
    pub async fn findings(&self) -> Answer<Vec<Finding>> {
        self.get("/findings").await
    }

    /// What in the ledger and the staging area is damaged or cannot be true, one sentence each.
    pub async fn check(&self) -> Answer<Vec<String>> {
        self.get("/check").await
    }

    /// Changes the stage of a slice.
    pub async fn stage(&self, request: &StageRequest) -> Answer<StageChange> {
        self.post("/stage", request).await
    }

    /// Unmounts, drains and ends the daemon; answers when that is done.
    pub async fn stop(&self, request: StopRequest) -> Answer<Stopped> {
        self.post("/shutdown", &request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Answer<T> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Answer<T> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bridgefs")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| self.broken(error))?.to_bytes();
        driver.abort();
        self.judge(status, &body)
    }

    fn judge<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Answer<T> {
        if status.is_success() {
            return serde_json::from_slice(body).map_err(|error| self.broken(error));
        }
        match serde_json::from_slice::<Refusal>(body) {
            Ok(refusal) => Err(ClientError::Refused(refusal.error)),
            Err(_) => Err(self.broken(format!("{status}: {}", String::from_utf8_lossy(body)))),
        }
    }

    fn unreachable(&self, error: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ECONNREFUSED) => ClientError::NotRunning { socket },
            Some(libc::EACCES) => ClientError::NotAllowed { socket },
            _ => self.broken(error),
        }
    }

    fn broken(&self, detail: impl ToString) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), detail: detail.to_string() }
    }
}
