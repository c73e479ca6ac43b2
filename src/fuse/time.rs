//! The kernel's times and ours.

use std::time::{Duration, SystemTime};

use fuser::TimeOrNow;

use crate::object::NanoTime;

const SECOND: NanoTime = 1_000_000_000;

/// For the kernel.
pub(super) fn system(time: NanoTime) -> SystemTime {
    let distance = Duration::from_nanos(time.unsigned_abs());
    if time < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

/// From the kernel; what lies beyond the years 1677 to 2262 becomes the nearest that we can say. The kernel
/// counts nanoseconds forward also before 1970, and fuser 0.18 takes them for backward: it makes
/// 6.000000001 s before 1970 of (-6 s, 1 ns), which is undone here. On the way back it does it right.
pub(super) fn nanos(time: SystemTime) -> NanoTime {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => NanoTime::try_from(after.as_nanos()).unwrap_or(NanoTime::MAX),
        Err(before) => {
            let (seconds, nanos) = (before.duration().as_secs(), before.duration().subsec_nanos());
            let seconds = NanoTime::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(-SECOND));
            seconds.map_or(NanoTime::MIN, |seconds| seconds + NanoTime::from(nanos))
        }
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
    use std::time::{Duration, SystemTime};

    use super::{nanos, system};

    #[test]
    fn nanoseconds_before_1970_count_forward() {
        let fusers = |seconds, nanos| SystemTime::UNIX_EPOCH - Duration::new(seconds, nanos);
        assert_eq!(nanos(fusers(6, 999_999_999)), -5_000_000_001);
        assert_eq!(nanos(fusers(6, 0)), -6_000_000_000);
        assert_eq!(system(-5_000_000_001), SystemTime::UNIX_EPOCH - Duration::new(5, 1));
    }

    #[test]
    fn times_since_1970_survive_the_way_to_the_kernel_and_back() {
        for time in [0, 1, 1_700_000_000_123_456_789] {
            assert_eq!(nanos(system(time)), time);
        }
    }
}
