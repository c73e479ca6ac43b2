//! Calls that wait for a silent store, and signals that come meanwhile.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bridgefs::bridge::BridgeSettings;
use bridgefs::object::{Key, Side};
use bridgefs::store::faulty::{Fault, Rule};
use bridgefs::store::limit::Limits;
use bridgefs::store::metered::Operation;
use bridgefs::store::{ErrorKind, ObjectMeta};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::uio::pread;
use nix::unistd::Pid;

use crate::rig::{Rig, Setup};

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Without SA_RESTART: a call that can be interrupted would end with EINTR.
fn count_signals() {
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("a handler");
}

fn silence(rig: &Rig, operation: Operation) {
    for side in Side::BOTH {
        rig.faults[side].push(Rule::always(Fault::Stall).on(&[operation]));
    }
}

fn end_of_silence(rig: &Rig) {
    for side in Side::BOTH {
        rig.faults[side].clear();
    }
}

fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Runs `call` on a thread that gets a signal while a store does not answer `operation` -> what it returned.
fn interrupted(
    rig: &Rig,
    operation: Operation,
    call: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    count_signals();
    silence(rig, operation);
    let asked = rig.requests_for(operation);
    let signals = SIGNALS.load(Ordering::SeqCst);
    let (tell, told) = mpsc::channel();
    let done = thread::scope(|scope| {
        let caller = scope.spawn(move || {
            tell.send(nix::unistd::gettid()).expect("heard");
            call()
        });
        let thread = told.recv().expect("it runs");
        wait_for(|| rig.requests_for(operation) > asked);
        // SAFETY: a call without pointers.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread.as_raw(), libc::SIGUSR1) };
        assert_eq!(sent, 0);
        // It has seen the signal when nothing but the answer can wake it any more.
        wait_for(|| is_uninterruptible(thread));
        end_of_silence(rig);
        caller.join().expect("no panic")
    });
    assert!(SIGNALS.load(Ordering::SeqCst) > signals, "the signal came");
    done
}

fn is_uninterruptible(thread: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("it is there");
    status.lines().any(|line| line.starts_with("State:\tD"))
}

fn stored(rig: &Rig, key: &str) -> Vec<bool> {
    rig.drain();
    let key = Key::new(key).expect("a key");
    Side::BOTH.map(|side| rig.stores[side].snapshot().contains_key(&key)).to_vec()
}

#[test]
fn a_signal_does_not_cancel_a_close_an_fsync_or_a_rename() {
    let rig = Rig::over(["tree/below/x"].map(str::to_owned).into_iter());
    let mut file = File::create(rig.at("closed")).expect("made");
    file.write_all(b"content").expect("written");
    let close = || Ok(nix::unistd::close(file.into_raw_fd())?);
    interrupted(&rig, Operation::Put, close).expect("acknowledged");
    assert_eq!(stored(&rig, "closed"), [true, true]);

    let mut file = File::create(rig.at("synced")).expect("made");
    file.write_all(b"content").expect("written");
    interrupted(&rig, Operation::Put, || Ok(nix::unistd::fsync(&file)?)).expect("acknowledged");
    assert!(stored(&rig, "synced").contains(&true));
    drop(file);

    // What is below is not known yet, so it is listed first.
    fs::metadata(rig.at("tree")).expect("there");
    let rename = || fs::rename(rig.at("tree"), rig.at("moved"));
    interrupted(&rig, Operation::List, rename).expect("renamed");
    assert!(fs::metadata(rig.at("tree")).is_err());
    assert_eq!(fs::read(rig.at("moved/below/x")).expect("there"), b"x");
}

fn impatient() -> Setup {
    let soon = Duration::from_millis(300);
    Setup {
        keys: vec!["f".to_owned(), "g".to_owned()],
        settings: BridgeSettings { op_deadline: Duration::from_secs(1), ..BridgeSettings::default() },
        limits: Limits { call_deadline: soon, stall: soon, ..Limits::default() },
        ..Setup::default()
    }
}

#[test]
fn a_read_of_a_silent_store_is_eio_at_the_deadline_and_who_reads_can_be_killed() {
    let rig = Rig::with(impatient());
    // Opened before: what is tried is the read.
    let (file, other) = (File::open(rig.at("f")).expect("there"), File::open(rig.at("g")).expect("there"));
    silence(&rig, Operation::Get);
    let asked = rig.requests_for(Operation::Get);
    let mut reader = Command::new("cat").stdin(file).stdout(Stdio::null()).spawn().expect("cat");
    wait_for(|| rig.requests_for(Operation::Get) > asked);
    kill(Pid::from_raw(reader.id().try_into().expect("a process")), Signal::SIGKILL).expect("killed");
    assert_eq!(reader.wait().expect("it ends").signal(), Some(libc::SIGKILL));

    let read = pread(&other, &mut [0; 1], 0);
    assert_eq!(read, Err(nix::errno::Errno::EIO));
    end_of_silence(&rig);
    wait_for(|| pread(&other, &mut [0; 1], 0).is_ok());
}

#[test]
fn what_is_local_is_read_beside_a_hundred_stalled_reads() {
    const READERS: usize = 100;
    let never = Duration::from_secs(3600);
    let keys: Vec<String> = (0..READERS).map(|n| format!("far/{n}")).collect();
    let rig = Rig::with(Setup {
        keys: keys.clone(),
        limits: Limits {
            call_deadline: never,
            stall: never,
            queue_wait: never,
            requests_in_flight: READERS,
            ..Limits::default()
        },
        ..Setup::default()
    });
    // So large that the kernel reads ahead.
    for key in &keys {
        rig.stores.old.bypass_put(
            &Key::new(key.as_str()).expect("a key"),
            vec![1; 1 << 20],
            ObjectMeta::default(),
        );
    }
    fs::write(rig.at("near"), b"near").expect("written");
    let near = File::open(rig.at("near")).expect("there");
    let far: Vec<File> = keys.iter().map(|key| File::open(rig.at(key)).expect("there")).collect();
    posix_fadvise(&near, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("dropped");
    silence(&rig, Operation::Get);
    let asked = rig.requests_for(Operation::Get);
    thread::scope(|scope| {
        for file in &far {
            scope.spawn(move || pread(file, &mut [0; 1], 0).expect("read in the end"));
        }
        wait_for(|| rig.requests_for(Operation::Get) >= asked + 64);
        let (tell, told) = mpsc::channel();
        scope.spawn(move || tell.send(pread(&near, &mut [0; 4], 0)).expect("heard"));
        let read = told.recv_timeout(Duration::from_secs(60));
        end_of_silence(&rig);
        assert_eq!(read.expect("it waits for no store"), Ok(4));
    });
}

#[test]
fn a_length_that_no_store_acknowledged_is_the_length_all_the_same() {
    let ack_deadline = Duration::from_millis(300);
    let settings = BridgeSettings { ack_deadline, ..BridgeSettings::default() };
    let rig = Rig::with(Setup { settings, ..Setup::default() });
    fs::write(rig.at("f"), b"0123456789").expect("written");
    rig.drain();
    let file = File::open(rig.at("f")).expect("there");
    let seen = || {
        let len = file.metadata().expect("open").len();
        (len, pread(&file, &mut [0; 20], 0).expect("read"))
    };
    // The second time the kernel has both and asks for nothing.
    assert_eq!([seen(), seen()], [(10, 10); 2]);
    for side in Side::BOTH {
        rig.faults[side].push(Rule::always(Fault::Fail(ErrorKind::Unavailable)).on(&[Operation::Put]));
    }
    let cut = nix::unistd::truncate(&rig.at("f"), 4);
    assert_eq!(cut, Err(nix::errno::Errno::EIO), "it is only here");
    assert_eq!(seen(), (4, 4));
    end_of_silence(&rig);
    rig.drain();
}
