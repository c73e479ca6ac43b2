//! Where an operation runs: on the kernel's thread while memory, the ledger or the local disk can answer,
//! on the runtime once it has to wait.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

/// Polls `work` once here. If it is not done, the runtime takes it over, with the reply that it owns. A
/// panic drops the reply, which answers EIO, and does not cost the mount one of its threads.
pub(super) fn run(
    runtime: &Handle,
    operation: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let mut work = Box::pin(work);
    let mut context = Context::from_waker(Waker::noop());
    match at_once(runtime, operation, || work.as_mut().poll(&mut context)) {
        Some(Poll::Ready(())) | None => {}
        // Polled again there: a wake-up that the first waker swallowed is not missed.
        Some(Poll::Pending) => drop(runtime.spawn(work)),
    }
}

/// Runs `work` here, inside the runtime's context -> nothing if it panicked.
pub(super) fn at_once<T>(runtime: &Handle, operation: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    let _inside = runtime.enter();
    let done = catch_unwind(AssertUnwindSafe(work));
    done.inspect_err(|_panic| {
        tracing::error!(operation, "a bug: the operation panicked; it was answered EIO");
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::run;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
    }

    #[test]
    fn what_is_ready_runs_on_the_calling_thread() {
        let runtime = runtime();
        let (tell, told) = mpsc::channel();
        run(runtime.handle(), "test", async move { tell.send(thread::current().id()).expect("heard") });
        assert_eq!(told.try_recv(), Ok(thread::current().id()));
    }

    #[test]
    fn what_must_wait_ends_on_the_runtime() {
        let runtime = runtime();
        let (tell, told) = mpsc::channel();
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        run(runtime.handle(), "test", async move {
            gate.await.expect("opened");
            tell.send(thread::current().id()).expect("heard");
        });
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
        open.send(()).expect("waited for");
        assert_ne!(told.recv(), Ok(thread::current().id()));
    }

    #[test]
    fn a_panic_stays_inside() {
        let runtime = runtime();
        run(runtime.handle(), "test", async { panic!("on purpose") });
        what_is_ready_runs_on_the_calling_thread();
    }
}
