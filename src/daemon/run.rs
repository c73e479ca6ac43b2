use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{DaemonError, parts, stores};
use crate::bridge::{Bridge, BridgeParts, BridgeResult, BridgeStatus, BridgeTasks, Coherence, Drained};
use crate::clock::{Clock, Instant};
use crate::config::Config;
use crate::control::{
    ControlPanel, PrivateListener, Registration, RunningMount, StopOrder, Stopped, serve, socket_path,
};
use crate::fs::{Fs, FsOptions};
use crate::fuse::{self, MountError, MountFlags, MountOptions, Mounted, Unmount};
use crate::ledger::SideSummary;

/// How long the queues may take to empty after SIGTERM or an unmount from outside; the rest stays in the
/// journal. Within the 90 seconds that systemd gives.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How much longer the file system waits for an answer than the bridge does, which knows why there is none.
const BRIDGE_SPEAKS_FIRST: Duration = Duration::from_secs(2);

/// How long answers and uploads under way may take at the very end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// glibc raises its limit for memory that goes back to the system when it is freed to the largest buffer that it has
/// seen, and then keeps parts of uploads (8 MiB) in one heap a thread: 600 MB after a few large files.
fn return_large_buffers() {
    const MMAP_THRESHOLD: libc::c_int = 2 << 20;
    // SAFETY: `mallopt` only sets a number inside the allocator, and no other thread runs yet.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD) };
}

/// Mounts the bridge, calls `ready`, and serves until it is told to stop or the mount is taken away. Says
/// what stays in the journal.
pub fn run(
    config: &Config,
    mountpoint: &Path,
    flags: MountFlags,
    ready: impl FnOnce(),
) -> Result<Stopped, DaemonError> {
    // Ledger, journal and log are the owner's; modes of the mount's files do not come from here.
    umask(Mode::from_bits_truncate(0o077));
    raise_descriptor_limit();
    return_large_buffers();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("bridgefs").build();
    let runtime = runtime.map_err(|source| DaemonError::SetUp { what: "the runtime", source })?;
    let outcome = runtime.block_on(start_and_serve(config, mountpoint, flags, ready));
    runtime.shutdown_timeout(LAST_WORDS);
    outcome
}

async fn start_and_serve(
    config: &Config,
    mountpoint: &Path,
    flags: MountFlags,
    ready: impl FnOnce(),
) -> Result<Stopped, DaemonError> {
    let metrics = install_metrics();
    let mut signals = Signals::listen()?;
    let bridge = build(config).await?;
    let tasks = bridge.run();
    let deadline = config.bridge.op_deadline + BRIDGE_SPEAKS_FIRST;
    let files = Fs::new(
        Arc::clone(&bridge),
        FsOptions { deadline, sync_names: flags.sync_names(), ..FsOptions::default() },
    );
    let options = MountOptions { flags, ..mount_options(config) };
    let mounted = Arc::new(fuse::mount(Arc::clone(&files), mountpoint, &options, Handle::current())?);
    let mut control = Control::start(config, mountpoint, &bridge, &files, metrics)?;
    tracing::info!(mountpoint = %mountpoint.display(), "mounted");
    ready();
    let end = wait_for_end(&mounted, &mut signals, &mut control).await;
    let stopped = stop(&bridge, tasks, &end, &mut signals).await;
    control.finish(end, stopped).await;
    Ok(stopped)
}

/// Ledger first: its lock keeps a second daemon away from everything else.
async fn build(config: &Config) -> Result<Arc<Bridge>, DaemonError> {
    let ledger = parts::open_ledger(&config.bridge.state_dir)?;
    let raw = stores::open(&config.stores, &config.bridge.state_dir, &ledger).await?;
    let stores = crate::object::PerSide {
        old: stores::stack(&config.stores.old, raw.old),
        new: stores::stack(&config.stores.new, raw.new),
    };
    let cache = parts::open_cache(&config.cache, &ledger)?;
    parts::make_slices(config, &ledger).await?;
    let settings = parts::settings(config);
    Ok(Bridge::start(BridgeParts { ledger, cache, stores, clock: Clock::System, settings }).await?)
}

/// How it ends.
struct End {
    drain: Duration,
    /// Whether a signal said so.
    signalled: bool,
    /// Who waits for the outcome, when it was ordered over the socket.
    done: Option<oneshot::Sender<Result<Stopped, String>>>,
}

/// Returns when the mount is gone: taken away from outside, by a signal or by an order.
async fn wait_for_end(mounted: &Arc<Mounted>, signals: &mut Signals, control: &mut Control) -> End {
    loop {
        tokio::select! {
            outcome = mounted.wait() => {
                tracing::info!(?outcome, "the mount was taken away from outside");
                return End { drain: DRAIN_LIMIT, signalled: false, done: None };
            }
            () = signals.next() => {
                tracing::info!("told to stop by a signal");
                detach_mount(mounted).await;
                return End { drain: DRAIN_LIMIT, signalled: true, done: None };
            }
            Some(order) = control.orders.recv() => {
                if let Some(end) = obey(mounted, order).await {
                    return end;
                }
            }
        }
    }
}

/// Unmounts as ordered; if programs still use the mount, says so and goes on.
async fn obey(mounted: &Arc<Mounted>, order: StopOrder) -> Option<End> {
    let drain = Duration::from_secs(order.request.drain_s);
    if order.request.lazy {
        detach_mount(mounted).await;
        return Some(End { drain, signalled: false, done: Some(order.done) });
    }
    match unmount(mounted, Unmount::Clean).await {
        Ok(()) => {
            wait_until_unserved(mounted).await;
            Some(End { drain, signalled: false, done: Some(order.done) })
        }
        Err(error) => {
            if order.done.send(Err(format!("{error}. It stays mounted"))).is_err() {
                tracing::debug!("whoever ordered the stop is gone");
            }
            None
        }
    }
}

/// The kernel may wait for our answers before it lets go, so this is done on a thread that gives none.
async fn unmount(mounted: &Arc<Mounted>, how: Unmount) -> Result<(), MountError> {
    let mount = Arc::clone(mounted);
    match tokio::task::spawn_blocking(move || mount.unmount(how)).await {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn detach_mount(mounted: &Arc<Mounted>) {
    if let Err(error) = unmount(mounted, Unmount::Detach).await {
        tracing::warn!(%error, "cannot unmount");
    }
    wait_until_unserved(mounted).await;
}

/// After a detach programs may keep files open for ever; what they write from now on is not ours to wait
/// for, so only the requests under way are.
async fn wait_until_unserved(mounted: &Mounted) {
    match crate::clock::timeout(LAST_WORDS, mounted.wait()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the mount ended badly"),
        Err(_elapsed) => tracing::warn!("programs still have files of the mount open; they will get errors"),
    }
}

/// How long the kernel may believe what it was told: as long as nobody else can change it.
fn mount_options(config: &Config) -> MountOptions {
    let default = MountOptions::default();
    let ttl = match config.bridge.coherence {
        Coherence::Exclusive => default.ttl,
        Coherence::Ttl(ttl) => ttl.min(default.ttl),
    };
    let threads = usize::try_from(config.mount.threads).unwrap_or(default.threads);
    MountOptions { ttl, threads, suid_and_dev: config.mount.suid_and_dev, ..default }
}

/// Drains as long as may be. The first signal leaves it as long as one does that ends the mount; a second one ends
/// it.
async fn drain(bridge: &Bridge, end: &End, signals: &mut Signals) -> BridgeResult<Drained> {
    let deadline = Instant::now() + end.drain;
    if !end.signalled {
        tokio::select! {
            drained = bridge.drain(end.drain) => return drained,
            () = signals.next() => tracing::info!("told to stop by a signal; what is under way may still end"),
        }
    }
    let left = deadline.saturating_duration_since(Instant::now()).min(DRAIN_LIMIT);
    tokio::select! {
        drained = bridge.drain(left) => drained,
        () = signals.next() => bridge.left(),
    }
}

/// Drains, then stops the tasks.
async fn stop(bridge: &Bridge, tasks: BridgeTasks, end: &End, signals: &mut Signals) -> Stopped {
    let drained = drain(bridge, end, signals).await;
    if crate::clock::timeout(LAST_WORDS, tasks.stop()).await.is_err() {
        tracing::warn!("an upload under way did not end; the next mount repeats it");
    }
    match drained.and_then(|_| left_in_journal(bridge)) {
        Ok(left) => {
            tracing::info!(
                pending = left.pending,
                deletions = left.deletions,
                bytes = left.bytes,
                "stopped; this much stays in the journal"
            );
            left
        }
        Err(error) => {
            tracing::error!(%error, "stopped; the ledger could not say what stays in the journal");
            Stopped::default()
        }
    }
}

/// Counted once nothing changes any more.
fn left_in_journal(bridge: &Bridge) -> BridgeResult<Stopped> {
    let BridgeStatus { stores, given_up, .. } = bridge.status()?;
    let sum = |of: fn(&SideSummary) -> u64| stores.iter().map(|store| of(&store.counts)).sum();
    Ok(Stopped {
        pending: sum(|counts| counts.pending + counts.deletions),
        deletions: sum(|counts| counts.deletions),
        bytes: sum(|counts| counts.pending_bytes),
        blocked: sum(|counts| counts.blocked),
        given_up,
    })
}

/// The control socket, its server, and the entry among the running mounts.
struct Control {
    orders: mpsc::Receiver<StopOrder>,
    end: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
    registration: Option<Registration>,
}

impl Control {
    fn start(
        config: &Config,
        mountpoint: &Path,
        bridge: &Arc<Bridge>,
        files: &Arc<Fs>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Control, DaemonError> {
        let socket = socket_path(&config.bridge.state_dir);
        let listener = PrivateListener::bind(&socket);
        let listener =
            listener.map_err(|source| DaemonError::SetUp { what: "the control socket", source })?;
        let (stop, orders) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let panel = ControlPanel {
            bridge: Arc::clone(bridge),
            files: Arc::clone(files),
            mountpoint: mountpoint.to_owned(),
            config: config.file.clone(),
            metrics: Box::new(move || metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default()),
            stop,
        };
        let until = async move {
            // Sent or dropped: both mean the end.
            ended.await.unwrap_or_default();
        };
        let server = tokio::spawn(serve(listener, panel, until));
        let mount = RunningMount {
            mountpoint: mountpoint.to_owned(),
            config: config.file.clone(),
            state_dir: config.bridge.state_dir.clone(),
            socket,
            pid: std::process::id(),
        };
        Ok(Control { orders, end, server, registration: register(&mount) })
    }

    /// Gives the outcome to whoever ordered the end, lets answers under way finish, and closes.
    async fn finish(self, end: End, stopped: Stopped) {
        // Whoever hears that it is unmounted must not find it among the running mounts any more.
        drop(self.registration);
        if end.done.is_some_and(|done| done.send(Ok(stopped)).is_err()) {
            tracing::debug!("whoever ordered the stop is gone");
        }
        if self.end.send(()).is_err() {
            tracing::debug!("the control server had already ended");
        }
        match crate::clock::timeout(LAST_WORDS, self.server).await {
            Ok(Ok(Ok(()))) => {}
            unusual => tracing::debug!(?unusual, "the control server did not end in order"),
        }
    }
}

/// Without an entry the mount works; only `status` and `umount` then need `--config`.
fn register(mount: &RunningMount) -> Option<Registration> {
    let registered = mount.register();
    registered.inspect_err(|error| tracing::warn!(%error, "not listed among the running mounts")).ok()
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, DaemonError> {
        let on =
            |kind| signal(kind).map_err(|source| DaemonError::SetUp { what: "a signal handler", source });
        Ok(Signals { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn install_metrics() -> Option<PrometheusHandle> {
    let installed = PrometheusBuilder::new().install_recorder();
    let handle = installed.inspect_err(|error| tracing::warn!(%error, "there will be no metrics")).ok();
    crate::metrics::describe_all();
    handle
}

/// Each open file of the mount may need a descriptor here; the usual limit of 1024 is soon reached.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
