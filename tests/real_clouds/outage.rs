//! One cloud is taken away in the middle of a copy, in each way, as primary and as secondary.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bridgefs::clock::Instant;

use super::probe::{self, History, Seen};
use super::tree::{Shape, Tree, assert_same_tree};
use super::{alone, block_on, table};
use crate::support::compare::compare;
use crate::support::mount::{Mount, Site, pause, tail, wait_until};
use crate::support::proxy::{Mode, Proxy};
use crate::support::servers::{Kind, Place, Server};

/// What P9 promises for the first operation that meets the sick store.
const STALL_MAX: Duration = Duration::from_secs(5);
/// The store stays away for so long at least, with the copy done or not.
const AWAY: Duration = Duration::from_secs(10);
/// The probe goes on for so long after it is back.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// How long the copy may take; how long the stores may need to become equal.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a store goes away.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -STOP`: connections are accepted, nothing is answered.
    Stopped,
    /// The process is killed, and started again at the end.
    Killed,
    /// The connection is refused.
    Refused,
    /// Every request is answered 503.
    Unavailable,
}

#[test]
fn nothing_fails_while_the_s3_server_is_stopped() {
    outage(Kind::SeaweedFs, Fault::Stopped);
}

#[test]
fn nothing_fails_while_the_s3_server_is_killed_and_restarted() {
    outage(Kind::SeaweedFs, Fault::Killed);
}

#[test]
fn nothing_fails_while_the_s3_server_refuses_connections() {
    outage(Kind::SeaweedFs, Fault::Refused);
}

#[test]
fn nothing_fails_while_the_s3_server_answers_503() {
    outage(Kind::SeaweedFs, Fault::Unavailable);
}

#[test]
fn nothing_fails_while_the_azure_server_is_stopped() {
    outage(Kind::Azurite, Fault::Stopped);
}

#[test]
fn nothing_fails_while_the_azure_server_is_ended_and_restarted() {
    outage(Kind::Azurite, Fault::Killed);
}

#[test]
fn nothing_fails_while_the_azure_server_refuses_connections() {
    outage(Kind::Azurite, Fault::Refused);
}

#[test]
fn nothing_fails_while_the_azure_server_answers_503() {
    outage(Kind::Azurite, Fault::Unavailable);
}

/// Two servers; the sick one is behind a proxy.
struct Clouds {
    s3: Server,
    azurite: Server,
    sick: Kind,
    proxy: Proxy,
}

impl Clouds {
    fn start(sick: Kind) -> Clouds {
        let (s3, azurite) = (Server::start(Kind::SeaweedFs), Server::start(Kind::Azurite));
        let endpoint = if sick == Kind::Azurite { azurite.field("endpoint") } else { s3.field("endpoint") };
        let address = endpoint.trim_start_matches("http://").split('/').next().and_then(|a| a.parse().ok());
        let proxy = Proxy::to(address.expect("the endpoint is an address and a port"));
        Clouds { s3, azurite, sick, proxy }
    }

    async fn buckets(&self) -> (Place, Place) {
        (self.s3.fresh_bucket().await, self.azurite.fresh_bucket().await)
    }

    /// A bridge from S3 to Azure, with little cache, so that old files must be read from a store.
    fn site(&self, s3: &Place, azure: &Place) -> Site {
        let through = |kind: Kind, path: &str| {
            (self.sick == kind).then(|| format!("http://{}{path}", self.proxy.address()))
        };
        let account = format!("/{}", self.azurite.field("account_name"));
        let old = table(s3, through(Kind::SeaweedFs, ""));
        let mut site = Site::new(old, table(azure, through(Kind::Azurite, &account)));
        site.set_cache("size", "16MiB");
        site
    }

    fn break_it(&mut self, fault: Fault) {
        match fault {
            Fault::Stopped => self.sick_server().pause(),
            // Azurite keeps its index in memory and writes it every few seconds: killed, it forgets what it
            // acknowledged, which no bridge can make good. It is ended in order instead.
            Fault::Killed if self.sick == Kind::Azurite => self.sick_server().stop(),
            Fault::Killed => self.sick_server().kill(),
            Fault::Refused => self.proxy.set(Mode::Refuse),
            Fault::Unavailable => self.proxy.set(Mode::Unavailable),
        }
    }

    fn mend_it(&mut self, fault: Fault) {
        match fault {
            Fault::Stopped => self.sick_server().resume(),
            Fault::Killed => self.sick_server().restart(),
            Fault::Refused | Fault::Unavailable => self.proxy.set(Mode::Pass),
        }
    }

    fn sick_server(&mut self) -> &mut Server {
        if self.sick == Kind::Azurite { &mut self.azurite } else { &mut self.s3 }
    }
}

fn outage(sick: Kind, fault: Fault) {
    let _alone = alone();
    let mut clouds = Clouds::start(sick);
    for stage in ["dual-write", "live"] {
        let (s3, azure) = block_on(clouds.buckets());
        let site = clouds.site(&s3, &azure);
        let shape = Shape { files: 300, large: vec![9 << 20], small_max: 64 << 10 };
        let tree = Tree::make(site.home().join("tree"), &shape, 2);
        let mount = site.mount();
        mount.stage(stage);
        let history = History::make(mount.path().join("history"), 40, 1 << 20);
        mount.settle(PATIENCE);
        let (seen, mended) = copy_through(&mut clouds, fault, &mount, &tree, &history);
        report(sick, fault, stage, &seen);
        let objects = become_equal(&s3, &azure);
        assert!(objects >= tree.files.len() + history.files, "only {objects} objects on each side");
        // S3 is the old store: it acknowledges in dual-write, Azure in live.
        let is_primary = (sick == Kind::SeaweedFs) == (stage == "dual-write");
        judge(&seen, mended, usize::from(is_primary), &site);
    }
}

/// Asks only the stores, and gives no command.
fn become_equal(first: &Place, second: &Place) -> usize {
    let back = Instant::now();
    let mut last = compare(first, second);
    wait_until(PATIENCE, || {
        last = compare(first, second);
        last.is_equal()
    });
    println!("  equal {:.1} s after the store was back", back.elapsed().as_secs_f64());
    last.assert_equal()
}

/// The copy and the probe work; the store goes away in the middle and comes back after the copy's end.
/// Answers what the probe saw, and when the store came back.
fn copy_through(
    clouds: &mut Clouds,
    fault: Fault,
    mount: &Mount<'_>,
    tree: &Tree,
    history: &History,
) -> (Seen, Duration) {
    let (copy, work) = (mount.path().join("copy"), mount.path().join("work"));
    fs::create_dir(&work).expect("a directory in the mount");
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe::work(&work, history, start, &stop));
        let _stop = StopAtEnd(&stop);
        let cp = Command::new("cp").arg("-a").arg(&tree.root).arg(&copy).spawn().expect("cp runs");
        let begun = wait_until(PATIENCE, || count_files(&copy) >= tree.files.len() / 3);
        assert!(begun, "the copy goes on");
        clouds.break_it(fault);
        let away = Instant::now();
        finish(cp);
        println!("  the copy ended {:.1} s after the store went away", away.elapsed().as_secs_f64());
        assert_same_tree(&tree.root, &copy);
        pause(AWAY.saturating_sub(away.elapsed()));
        let mended = start.elapsed();
        clouds.mend_it(fault);
        pause(AFTERWARDS);
        stop.store(true, Ordering::SeqCst);
        (probe.join().expect("the probe does not panic"), mended)
    })
}

/// A test that fails lets the probe end, or its scope would wait for ever.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn finish(mut cp: Child) {
    let mut status = None;
    wait_until(PATIENCE, || {
        status = cp.try_wait().expect("cp is our child");
        status.is_some()
    });
    if status.is_none() {
        cp.kill().ok();
    }
    assert!(status.is_some_and(|status| status.success()), "cp -a: {status:?}");
}

fn count_files(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let count = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count_files(&entry.path()),
        Ok(_) | Err(_) => 1,
    };
    entries.filter_map(Result::ok).map(count).sum()
}

fn report(sick: Kind, fault: Fault, stage: &str, seen: &Seen) {
    println!(
        "{} {fault:?} in {stage}: {} operations, longest {:.2} s, {} over {:?}: {:?}",
        sick.as_str(),
        seen.operations,
        seen.longest.as_secs_f64(),
        seen.stalls.len(),
        probe::STALL,
        seen.stalls
    );
}

/// No operation failed; the first stall is bounded, and there is no second one while the breaker is open. A sick
/// secondary stalls nothing. A store that is just back is slow with its backlog, which is no stall of ours.
fn judge(seen: &Seen, mended: Duration, stalls_max: usize, site: &Site) {
    let log = site.log();
    let log = tail(&log);
    assert_eq!(
        seen.failures,
        Vec::<String>::new(),
        "operations that failed or read wrong bytes; the log:\n{log}"
    );
    assert!(seen.longest <= STALL_MAX, "an operation took {:?}: {:?}\n{log}", seen.longest, seen.stalls);
    assert!(
        seen.stalls_before(mended) <= stalls_max,
        "more than {stalls_max} had to wait: {:?}\n{log}",
        seen.stalls
    );
}
