use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{BACKOFF_MAX, BACKOFF_MIN, Breaker, BreakerState, PROBE_DEADLINE};
use crate::clock::{Clock, Instant, sleep};
use crate::object::Key;
use crate::store::faulty::{Fault, Faults, Faulty, Rule};
use crate::store::limit::{Limited, Limits};
use crate::store::memory::MemoryStore;
use crate::store::metered::{Metered, Operation, RequestCounts};
use crate::store::{ByteRange, Condition, ErrorKind, ObjectMeta, Store};

struct Stack {
    breaker: Arc<Breaker>,
    faults: Faults,
    counts: Arc<RequestCounts>,
    key: Key,
}

/// A breaker over a limited, counted, faulty memory that holds one object; its prober runs.
async fn stack() -> Stack {
    let (faulty, faults) = Faulty::new(Arc::new(MemoryStore::new("m", Clock::System)), 1);
    let metered = Metered::new("m", Arc::new(faulty));
    let counts = metered.counts();
    let limited = Limited::new(Arc::new(metered), Limits::default());
    let breaker = Arc::new(Breaker::new("aws", Arc::new(limited), 1));
    tokio::spawn(Arc::clone(&breaker).run_probe());
    let key = Key::new("a").expect("a key");
    let meta = ObjectMeta::default();
    breaker.put(&key, "content".into(), &meta, &Condition::Always).await.expect("a put");
    Stack { breaker, faults, counts, key }
}

impl Stack {
    async fn fail(&self, times: usize) {
        for _ in 0..times {
            self.breaker.head(&self.key).await.expect_err("the store is sick");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_silence_opens_it_and_then_calls_fail_at_once_without_a_request() {
    let stack = stack().await;
    stack.faults.push(Rule::always(Fault::Stall));
    stack.fail(1).await;
    assert!(stack.breaker.is_open());
    stack.counts.reset();
    let before = Instant::now();
    let error = stack.breaker.head(&stack.key).await.expect_err("open");
    assert_eq!((error.kind(), before.elapsed()), (ErrorKind::Unavailable, Duration::ZERO));
    assert!(error.to_string().contains("the breaker of aws is open"), "{error}");
    assert!(!error.may_yet_happen(), "it was never sent");
    assert_eq!(stack.counts.total(), 0);
    assert!(stack.breaker.last_error().expect("an error").contains("no answer within"));
}

#[tokio::test(start_paused = true)]
async fn refusals_open_it_at_the_third_in_a_row() {
    let stack = stack().await;
    stack.faults.down();
    stack.fail(2).await;
    assert!(!stack.breaker.is_open());
    stack.faults.up();
    stack.breaker.head(&stack.key).await.expect("up");
    stack.faults.down();
    stack.fail(2).await;
    assert!(!stack.breaker.is_open(), "an answer starts the count again");
    stack.fail(1).await;
    assert!(stack.breaker.is_open());
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_outage_never_open_it() {
    let stack = stack().await;
    for kind in ErrorKind::ALL.into_iter().filter(|kind| *kind != ErrorKind::Unavailable) {
        stack.faults.clear();
        stack.faults.push(Rule::always(Fault::Fail(kind)));
        stack.fail(10).await;
        assert_eq!(stack.breaker.state(), BreakerState::Closed, "{}", kind.as_str());
    }
}

#[tokio::test(start_paused = true)]
async fn downloads_that_never_finish_open_it() {
    let stack = stack().await;
    stack.faults.push(Rule::always(Fault::Truncate { after_bytes: 2 }).on(&[Operation::Get]));
    for _ in 0..3 {
        let download = stack.breaker.get(&stack.key, ByteRange::All, None).await.expect("it begins");
        assert!(download.body.collect::<Vec<_>>().await.iter().any(Result::is_err));
    }
    assert!(stack.breaker.is_open());
}

#[tokio::test(start_paused = true)]
async fn it_closes_by_itself_when_the_store_is_back() {
    let stack = stack().await;
    stack.faults.down();
    stack.fail(3).await;
    sleep(Duration::from_secs(600)).await;
    assert!(stack.breaker.is_open());
    let probes = stack.counts.of(Operation::Probe);
    assert!((40..100).contains(&probes), "{probes} probes in ten minutes");
    stack.faults.up();
    let mut states = stack.breaker.watch();
    let before = Instant::now();
    states.wait_for(|state| *state == BreakerState::Closed).await.expect("the breaker lives");
    assert!(before.elapsed() <= BACKOFF_MAX, "{:?}", before.elapsed());
    stack.breaker.head(&stack.key).await.expect("calls pass again");
}

#[tokio::test(start_paused = true)]
async fn the_first_probe_comes_soon() {
    let stack = stack().await;
    stack.faults.down();
    stack.fail(3).await;
    stack.faults.up();
    let before = Instant::now();
    let mut states = stack.breaker.watch();
    states.wait_for(|state| *state == BreakerState::Closed).await.expect("the breaker lives");
    assert!(before.elapsed() <= BACKOFF_MIN, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_suspicion_opens_it_only_if_the_probe_fails() {
    let stack = stack().await;
    stack.breaker.suspect();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((stack.breaker.state(), stack.counts.of(Operation::Probe)), (BreakerState::Closed, 1));
    stack.faults.push(Rule::always(Fault::Stall));
    let mut states = stack.breaker.watch();
    let before = Instant::now();
    stack.breaker.suspect();
    states.wait_for(|state| *state != BreakerState::Closed).await.expect("the breaker lives");
    assert_eq!(before.elapsed(), PROBE_DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn anybodys_probe_passes_and_closes_it() {
    let stack = stack().await;
    stack.faults.down();
    stack.fail(3).await;
    stack.breaker.probe().await.expect_err("it is asked and still down");
    stack.faults.up();
    stack.breaker.probe().await.expect("it is asked and up");
    assert_eq!(stack.breaker.state(), BreakerState::Closed);
}
