//! The only writer: a thread that takes what waits and has it done in one transaction, so that callers
//! who come at the same time share one sync.

use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::transaction::{Core, Durability, Tx};
use super::{LedgerError, LedgerErrorKind, LedgerMode, LedgerResult};

/// How many operations wait at most; further callers wait for a place.
const QUEUE_OPERATIONS_MAX: usize = 1024;

/// How many operations one transaction takes at most.
const BATCH_OPERATIONS_MAX: usize = 256;

/// An operation, whatever it answers.
pub(super) trait Job: Send {
    fn durability(&self) -> Durability;
    /// Does the work inside the savepoint; an error means that it is to be rolled back.
    fn run(&mut self, tx: &mut Tx<'_>) -> LedgerResult<()>;
    /// Answers, once it is known what became of the transaction.
    fn answer(self: Box<Self>, committed: LedgerResult<()>);
}

struct Operation<T, W> {
    durability: Durability,
    work: Option<W>,
    result: Option<LedgerResult<T>>,
    reply: oneshot::Sender<LedgerResult<T>>,
}

impl<T, W> Job for Operation<T, W>
where
    T: Send,
    W: FnOnce(&mut Tx<'_>) -> LedgerResult<T> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> LedgerResult<()> {
        let work = self.work.take().expect("an operation runs once");
        let result = work(tx);
        let verdict = result.as_ref().map(|_| ()).map_err(LedgerError::clone);
        self.result = Some(result);
        verdict
    }

    fn answer(self: Box<Self>, committed: LedgerResult<()>) {
        let result = match committed {
            Ok(()) => self.result.expect("an operation runs before it is answered"),
            Err(error) => Err(error),
        };
        // Nobody listens when the caller was cancelled; the operation counts all the same.
        drop(self.reply.send(result));
    }
}

/// The way to the writer.
pub(super) struct Writer {
    mode: Mode,
}

enum Mode {
    Threaded { queue: Option<mpsc::Sender<Box<dyn Job>>>, thread: Option<JoinHandle<()>> },
    Inline(Box<Mutex<Core>>),
}

impl Writer {
    pub(super) fn start(core: Core, mode: LedgerMode) -> LedgerResult<Writer> {
        let mode = match mode {
            LedgerMode::Inline => Mode::Inline(Box::new(Mutex::new(core))),
            LedgerMode::Threaded => {
                let (queue, waiting) = mpsc::channel(QUEUE_OPERATIONS_MAX);
                let thread = std::thread::Builder::new()
                    .name("ledger-writer".to_owned())
                    .spawn(move || write_all(core, waiting))
                    .map_err(|error| {
                        let detail = format!("cannot start the ledger's writer: {error}");
                        LedgerError::caused(LedgerErrorKind::Io, detail, error)
                    })?;
                Mode::Threaded { queue: Some(queue), thread: Some(thread) }
            }
        };
        Ok(Writer { mode })
    }

    /// Runs `work` and answers after its commit. Once queued it runs even if the caller goes away.
    pub(super) async fn write<T, W>(&self, durability: Durability, work: W) -> LedgerResult<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Tx<'_>) -> LedgerResult<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Operation { durability, work: Some(work), result: None, reply });
        match &self.mode {
            Mode::Inline(core) => core.lock().run(vec![job]),
            Mode::Threaded { queue, .. } => {
                let queue = queue.as_ref().expect("the queue is closed only by drop");
                queue.send(job).await.map_err(|gone| writer_died(&gone))?;
            }
        }
        answer.await.map_err(|gone| writer_died(&gone))?
    }
}

fn writer_died(gone: &impl std::fmt::Display) -> LedgerError {
    LedgerError::new(
        LedgerErrorKind::Io,
        format!("the ledger's writer has died; restart the bridge ({gone})"),
    )
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Mode::Threaded { queue, thread } = &mut self.mode {
            drop(queue.take());
            // What is queued is still written; a panic of the writer was reported by the panic itself.
            drop(thread.take().map(JoinHandle::join));
        }
    }
}

fn write_all(mut core: Core, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_OPERATIONS_MAX
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        core.run(batch);
    }
}
