//! P9 in virtual time: one store is down or silent, and the mount goes on at the speed of the other.

use std::time::Duration;

use bridgefs::bridge::{AckPolicy, UnprovenReads};
use bridgefs::clock::{Instant, sleep};
use bridgefs::object::Side;
use bridgefs::stage::Stage;

use crate::run::{Check, Run};
use crate::step::{End, How, Op, Path, Setup, Step, Trouble};

/// What the sick store may cost once.
const FIRST: Duration = Duration::from_secs(5);

/// What an operation may take while the breaker is open: only the healthy store is asked.
const THEN: Duration = Duration::from_millis(100);

const FILES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn write(name: &'static str, len: usize, end: End) -> Op {
    Op::Write { path: Path { dir: "", name }, how: How::Whole, len, end }
}

async fn timed(run: &mut Run, op: Op, side: Side) -> Check {
    let limit = if run.world.is_open(side) || !run.waits_for(side) { THEN } else { FIRST };
    let start = Instant::now();
    run.step(&Step::Do(op.clone())).await?;
    let took = start.elapsed();
    if took > limit { Err(format!("P9: {op:?} took {took:?}, more than {limit:?}")) } else { Ok(()) }
}

async fn outage(setup: Setup, side: Side, trouble: Trouble) -> Check {
    let mut run = Run::new(setup).await?;
    for name in FILES {
        run.step(&Step::Do(write(name, 1900, End::Ack))).await?;
    }
    let left = run.bridge().drain(Duration::from_secs(60)).await.map_err(|e| format!("drain: {e}"))?;
    assert_eq!(left.pending, 0, "nothing is wrong yet");
    // Started again with an empty cache: the first reads ask a store.
    run.step(&Step::Restart).await?;
    run.world.stop().await?;
    run.world.forget_cache();
    run.world.start().await?;
    sleep(Duration::from_secs(1)).await;
    run.step(&Step::Trouble(side, trouble)).await?;
    for round in 0..3_usize {
        // Time for the background to find out, where nothing waits for the store.
        sleep(Duration::from_secs(10)).await;
        for (number, name) in FILES.into_iter().enumerate() {
            timed(&mut run, Op::Read(Path { dir: "", name }), side).await?;
            timed(&mut run, write(name, 1000 + round * 10 + number, End::Ack), side).await?;
            timed(&mut run, Op::List(""), side).await?;
        }
    }
    if run.world.is_open(side) || !run.waits_for(side) {
        Ok(())
    } else {
        Err(format!("P9: the breaker of {side} never opened"))
    }
}

#[test]
fn a_store_that_does_not_answer_costs_one_bounded_delay() {
    let stages = [Stage::DualWrite, Stage::Shadow, Stage::Live, Stage::RampDown];
    for (seed, stage) in (0..).zip(stages) {
        for ack in [AckPolicy::Journal, AckPolicy::Primary, AckPolicy::Both] {
            for (side, trouble) in
                Side::BOTH.into_iter().flat_map(|side| [(side, Trouble::Down), (side, Trouble::Stall)])
            {
                let setup = Setup {
                    seed,
                    ack,
                    unproven: UnprovenReads::Deny,
                    stage,
                    history: false,
                    last_stage: Stage::Live,
                };
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .start_paused(true)
                    .build()
                    .expect("a runtime");
                if let Err(why) = runtime.block_on(Box::pin(outage(setup, side, trouble))) {
                    panic!("{side} {trouble:?}, {setup:?}: {why}");
                }
            }
        }
    }
}
