//! One seed: runs its case, and if it fails makes the list of steps as short as it gets.

use crate::converge::case;
use crate::step::{Dimensions, Setup, Step, generate};

/// Cases that are run for making one failure shorter.
const TRIES_MAX: u32 = 400;

/// Runs one case in a runtime of its own; the answer is the broken promise.
pub fn run(setup: Setup, steps: &[Step]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(case(setup, steps))));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    })
}

/// Runs the case of a seed; the error is a short list of steps that break a promise.
pub fn check_seed(seed: u64, dims: Dimensions) -> Result<(), String> {
    let (setup, steps) = generate(seed, dims);
    tracing::info!(seed, "a case");
    let Err(first) = run(setup, &steps) else { return Ok(()) };
    let (steps, why) = shorten(setup, steps, first);
    let list: String = steps.iter().enumerate().map(|(i, step)| format!("  {i:2} {step:?}\n")).collect();
    Err(format!("\nBRIDGEFS_SEED={seed} ({dims:?})\n{setup:?}\n{list}{why}\n"))
}

/// Leaves out whatever can be left out while the case still breaks the same promise.
fn shorten(setup: Setup, mut steps: Vec<Step>, mut why: String) -> (Vec<Step>, String) {
    let mut tries = 0;
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() && tries < TRIES_MAX {
            let end = (at + size).min(steps.len());
            let fewer: Vec<Step> = steps[..at].iter().chain(&steps[end..]).cloned().collect();
            tries += 1;
            match run(setup, &fewer) {
                Err(now) if promise(&now) == promise(&why) => (steps, why) = (fewer, now),
                Err(_) | Ok(()) => at = end,
            }
        }
        size /= 2;
    }
    (steps, why)
}

/// Which promise a message is about, so that a shorter list of steps is one of the same failure: its
/// numbers, or the words before the first path or number.
fn promise(why: &str) -> &str {
    let said = why.rsplit_once("}: ").map_or(why, |(_, said)| said);
    let said = why.find(": P").map_or(said, |at| &why[at + 2..]);
    let end = said.find(['`', ':']).unwrap_or(said.len());
    said[..end].trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ')
}
