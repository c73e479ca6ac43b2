use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::protocol::{MountStatus, Refusal, StageRequest, StopRequest, Stopped, UnsettledFile};
use super::socket::{Peer, PrivateListener};
use crate::bridge::{Bridge, BridgeError};
use crate::fs::Fs;

/// At most so many findings in one answer.
const FINDINGS_MAX: usize = 1000;

/// What the server shows and steers.
pub struct ControlPanel {
    /// The bridge.
    pub bridge: Arc<Bridge>,
    /// Its files, which know what could not be committed.
    pub files: Arc<Fs>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The configuration it was started with.
    pub config: PathBuf,
    /// The text of all metrics, in Prometheus' format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Where an order to stop goes; the daemon takes the first one.
    pub stop: mpsc::Sender<StopOrder>,
}

impl fmt::Debug for ControlPanel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPanel").field("mountpoint", &self.mountpoint).finish_non_exhaustive()
    }
}

/// An order to unmount, drain and end.
#[derive(Debug)]
pub struct StopOrder {
    /// How.
    pub request: StopRequest,
    /// Where the outcome goes: what stays in the journal, or why the mount stays.
    pub done: oneshot::Sender<Result<Stopped, String>>,
}

/// Serves until `end` is ready; answers under way are finished first.
pub async fn serve(
    listener: PrivateListener,
    panel: ControlPanel,
    end: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router(Arc::new(panel)).into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).with_graceful_shutdown(end).await
}

fn router(panel: Arc<ControlPanel>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/file", get(file))
        .route("/findings", get(findings))
        .route("/check", get(check))
        .route("/metrics", get(metrics))
        .route("/stage", post(stage))
        .route("/shutdown", post(shutdown))
        .fallback(unknown)
        .with_state(panel)
}

/// An answer that is a refusal, with its status code.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(Refusal { error: self.1 })).into_response()
    }
}

impl From<BridgeError> for Refused {
    fn from(error: BridgeError) -> Refused {
        Refused(StatusCode::CONFLICT, error.to_string())
    }
}

type Answer<T> = Result<Json<T>, Refused>;
type Panel = State<Arc<ControlPanel>>;

async fn status(State(panel): Panel) -> Answer<MountStatus> {
    Ok(Json(MountStatus {
        mountpoint: panel.mountpoint.clone(),
        config: panel.config.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        unsettled: unsettled(&panel.files),
        bridge: panel.bridge.status()?,
    }))
}

fn unsettled(files: &Fs) -> Vec<UnsettledFile> {
    let unsettled = files.unsettled().into_iter();
    unsettled.map(|file| UnsettledFile { ino: file.ino.0, error: file.error }).collect()
}

#[derive(Deserialize)]
struct FileQuery {
    path: String,
}

async fn file(State(panel): Panel, Query(query): Query<FileQuery>) -> Answer<crate::bridge::FileStatus> {
    Ok(Json(panel.bridge.file_status(query.path.trim_matches('/')).await?))
}

async fn findings(State(panel): Panel) -> Answer<Vec<crate::ledger::Finding>> {
    Ok(Json(panel.bridge.findings(false, FINDINGS_MAX)?))
}

async fn check(State(panel): Panel) -> Answer<Vec<String>> {
    Ok(Json(panel.bridge.check()?))
}

async fn metrics(State(panel): Panel) -> String {
    (panel.metrics)()
}

async fn stage(
    State(panel): Panel,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(wish): Json<StageRequest>,
) -> Answer<crate::bridge::StageChange> {
    if wish.read_percent > 100 {
        let problem = "read_percent is from 0 to 100".to_owned();
        return Err(Refused(StatusCode::BAD_REQUEST, problem));
    }
    let bridge = &panel.bridge;
    let (who, why) = (peer.name(), &wish.reason);
    Ok(Json(bridge.set_stage(&wish.prefix, wish.stage, wish.read_percent, &who, why).await?))
}

async fn shutdown(State(panel): Panel, Json(request): Json<StopRequest>) -> Answer<Stopped> {
    let ending = |_| Refused(StatusCode::CONFLICT, "the daemon is already ending".to_owned());
    let (done, outcome) = oneshot::channel();
    panel.stop.try_send(StopOrder { request, done }).map_err(ending)?;
    match outcome.await {
        Ok(Ok(stopped)) => Ok(Json(stopped)),
        Ok(Err(why)) => Err(Refused(StatusCode::CONFLICT, why)),
        Err(gone) => Err(Refused(StatusCode::INTERNAL_SERVER_ERROR, gone.to_string())),
    }
}

async fn unknown(request: Request) -> Refused {
    let problem = format!(
        "the daemon ({}) does not know {} {}; it may be older than this command",
        env!("CARGO_PKG_VERSION"),
        request.method(),
        request.uri().path()
    );
    Refused(StatusCode::NOT_FOUND, problem)
}
