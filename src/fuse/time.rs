//! The kernel's times and ours.

use std::time::{Duration, SystemTime};

use fuser::TimeOrNow;

use crate::object::NanoTime;

/// For the kernel.
pub(super) fn system(time: NanoTime) -> SystemTime {
    let distance = Duration::from_nanos(time.unsigned_abs());
    if time < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

/// From the kernel; what lies beyond the years 1677 to 2262 becomes the nearest that we can say.
pub(super) fn nanos(time: SystemTime) -> NanoTime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => NanoTime::try_from(after.as_nanos()).unwrap_or(NanoTime::MAX),
        Err(before) => NanoTime::try_from(before.duration().as_nanos()).map_or(NanoTime::MIN, |nanos| -nanos),
    }
}

/// `UTIME_NOW` is our now.
pub(super) fn resolve(time: TimeOrNow, now: NanoTime) -> NanoTime {
    match time {
        TimeOrNow::SpecificTime(time) => nanos(time),
        TimeOrNow::Now => now,
    }
}

#[cfg(test)]
mod tests {
    use super::{nanos, system};

    #[test]
    fn times_survive_the_way_to_the_kernel_and_back() {
        for time in [0, 1, -1, 1_700_000_000_123_456_789, -1_500_000_000_000_000_001] {
            assert_eq!(nanos(system(time)), time);
        }
    }
}
