use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::poll;

use super::{MIB, content, files_below, new_cache, open};
use crate::cache::{Fill, NoSpace, Snapshot};
use crate::object::{ContentDigest, Ino, Version};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn an_inode_has_one_staged_file() {
    let (_dir, cache) = new_cache();
    assert!(cache.lease(Ino(1)).unwrap().is_none());
    let lease = cache.stage_empty(Ino(1)).unwrap();
    assert_eq!(cache.stage_empty(Ino(1)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let other = cache.lease(Ino(1)).unwrap().unwrap();
    other.append(b"seen by both").unwrap();
    assert_eq!(lease.read_at(5, 100).unwrap(), "by both");
    assert_eq!(cache.staged_inos().unwrap(), [Ino(1)]);
}

#[test]
fn a_discarded_file_lives_on_for_those_who_hold_it() {
    let (dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(b"deleted, still open").unwrap();
    assert!(cache.discard(Ino(1)).unwrap());
    assert!(!cache.discard(Ino(1)).unwrap());
    assert!(cache.lease(Ino(1)).unwrap().is_none());
    assert_eq!(cache.staged_inos().unwrap(), []);
    assert_eq!(files_below(&dir.path().join("staged")).len(), 0);
    lease.append(b"!").unwrap();
    assert_eq!(lease.read_at(0, 100).unwrap(), "deleted, still open!");
    assert!(cache.staged_bytes() > 0);
    let next = cache.stage_empty(Ino(1)).unwrap();
    drop(lease);
    assert_eq!(cache.staged_bytes(), 0);
    assert!(cache.discard(Ino(1)).unwrap(), "the next content is another one");
    drop(next);
}

#[test]
fn a_fill_appears_whole_or_not_at_all() {
    let (dir, cache) = new_cache();
    let bytes = content(1, 3 * MIB + 5);
    let fill = cache.begin_fill(Ino(1), bytes.len() as u64).unwrap();
    let (head, tail) = bytes.split_at(1 << 20);
    fill.write_at(1 << 20, tail).unwrap();
    assert!(fill.write_at(bytes.len() as u64, b"x").is_err(), "beyond the announced end");
    assert!(cache.lease(Ino(1)).unwrap().is_none());
    fill.write_at(0, head).unwrap();
    let (lease, own) = fill.finish().unwrap();
    assert!(own && lease.generation() == Fill::GENERATION);
    assert_eq!(lease.read_at(0, usize::MAX).unwrap(), bytes);

    let gap = cache.begin_fill(Ino(2), 10).unwrap();
    gap.write_at(0, &[1; 4]).unwrap();
    gap.write_at(5, &[1; 5]).unwrap();
    assert_eq!(gap.finish().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    drop(cache.begin_fill(Ino(3), 10).unwrap());
    assert_eq!(cache.staged_inos().unwrap(), [Ino(1)]);
    assert_eq!(files_below(&dir.path().join("staged")).len(), 1);
}

#[test]
fn a_fill_that_is_not_wanted_any_more_leaves_nothing_and_is_not_asked_for_beside_another() {
    let (dir, cache) = new_cache();
    let filled = || {
        let fill = cache.begin_fill(Ino(1), 3).unwrap();
        fill.write_at(0, b"old").unwrap();
        fill
    };
    assert!(filled().finish_if(|| false).unwrap().is_none());
    assert_eq!((cache.staged_inos().unwrap(), cache.staged_bytes()), (vec![], 0));
    assert_eq!(filled().finish_if(|| true).unwrap().expect("wanted").len(), 3);
    assert!(filled().finish_if(|| panic!("the inode has a staged file")).unwrap().is_none());
    assert_eq!(files_below(&dir.path().join("staged")).len(), 1);
}

#[test]
fn an_empty_file_is_made_unless_another_is_there_which_is_taken_then() {
    let (_dir, cache) = new_cache();
    let (made, is_new) = cache.lease_or_stage_empty(Ino(1)).unwrap();
    assert!(is_new && made.is_empty());
    made.append(b"brought in").unwrap();
    let (taken, is_new) = cache.lease_or_stage_empty(Ino(1)).unwrap();
    assert!(!is_new);
    assert_eq!(taken.read_at(0, 100).unwrap(), "brought in");
    drop((made, taken));
    assert_eq!(cache.lease_or_stage_empty(Ino(1)).unwrap().0.len(), 10, "nobody has it open");
}

#[test]
fn a_fill_that_comes_second_is_thrown_away() {
    let (dir, cache) = new_cache();
    let fill = cache.begin_fill(Ino(1), 3).unwrap();
    fill.write_at(0, b"old").unwrap();
    cache.stage_empty(Ino(1)).unwrap().append(b"written meanwhile").unwrap();
    let (lease, own) = fill.finish().unwrap();
    assert!(!own);
    assert_eq!(lease.read_at(0, 100).unwrap(), "written meanwhile");
    assert_eq!(files_below(&dir.path().join("staged")).len(), 1);
}

#[test]
fn a_snapshot_stays_as_it_was_and_is_counted_while_it_lives() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 2 * MIB + 3);
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(&bytes).unwrap();
    let alone = cache.staged_bytes();
    let snapshot = lease.snapshot().unwrap();
    assert_eq!(cache.staged_bytes(), 2 * alone);
    assert_eq!(Some(snapshot.generation()), lease.stable());
    lease.set_len(1).unwrap();
    assert_ne!(snapshot.generation(), lease.generation());
    assert_eq!(snapshot.len(), bytes.len() as u64);
    assert_eq!(snapshot.read_at(1, usize::MAX).unwrap(), bytes.slice(1..));
    drop(snapshot);
    lease.set_len(0).unwrap();
    assert_eq!(cache.staged_bytes(), 0);
}

#[test]
fn a_snapshot_of_a_file_that_is_being_written_is_of_one_moment() {
    let (_dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    let last = 8 * MIB;
    lease.append(&content(1, last + 8)).unwrap();
    for at in [0, last] {
        lease.write_at(at, &[0; 8]).unwrap();
    }
    let number = |snapshot: &Snapshot, at| {
        u64::from_be_bytes(snapshot.read_at(at, 8).unwrap()[..].try_into().unwrap())
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Always at the start first, so the end is never ahead, nor two behind.
            for count in 0_u64.. {
                lease.write_at(0, &count.to_be_bytes()).unwrap();
                lease.write_at(last, &count.to_be_bytes()).unwrap();
                if over.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let numbers = |snapshot: Snapshot| (number(&snapshot, 0), number(&snapshot, last));
        let seen: Result<Vec<_>, _> = (0..50).map(|_| lease.snapshot().map(numbers)).collect();
        over.store(true, Ordering::SeqCst);
        let seen: Vec<(u64, u64)> = seen.unwrap();
        assert!(seen.iter().all(|(start, end)| (*end..=end + 1).contains(start)), "{seen:?}");
    });
}

#[test]
fn many_appenders_lose_nothing_and_the_generation_settles() {
    let (_dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4u8 {
            let lease = lease.clone();
            scope.spawn(move || {
                for _ in 0..200 {
                    lease.append(&[writer; 10]).unwrap();
                }
            });
        }
    });
    assert_eq!(lease.stable(), Some(lease.generation()));
    let bytes = lease.read_at(0, usize::MAX).unwrap();
    assert_eq!(bytes.len(), 4 * 200 * 10);
    assert!(bytes.chunks(10).all(|record| record.iter().all(|byte| *byte == record[0])));
}

#[test]
fn staged_files_survive_a_restart() {
    let (dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(0xabc)).unwrap();
    lease.append(&content(1, MIB)).unwrap();
    lease.sync().unwrap();
    let bytes = cache.staged_bytes();
    drop((lease, cache));
    let cache = open(dir.path());
    assert_eq!(cache.staged_inos().unwrap(), [Ino(0xabc)]);
    assert_eq!((cache.staged_bytes(), cache.stats().staged_files), (bytes, 1));
    let lease = cache.lease(Ino(0xabc)).unwrap().unwrap();
    assert_eq!((lease.ino(), lease.len()), (Ino(0xabc), MIB));
    assert_eq!(lease.read_at(0, usize::MAX).unwrap(), content(1, MIB));
}

#[test]
fn an_end_that_no_file_can_have_is_an_error() {
    let (_dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    assert!(lease.write_at(u64::MAX, b"ab").is_err());
    assert!(lease.write_at(i64::MAX.unsigned_abs(), b"ab").is_err());
    assert_eq!(lease.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_waits_for_room_and_is_woken_by_a_discard() {
    let (_dir, cache) = new_cache();
    cache.stage_empty(Ino(1)).unwrap().append(&content(1, 40 * MIB)).unwrap();
    cache.reserve(20 * MIB, LONG).await.unwrap();
    let mut waiting = Box::pin(cache.reserve(30 * MIB, LONG));
    assert!(poll!(&mut waiting).is_pending());
    cache.discard(Ino(1)).unwrap();
    assert_eq!(poll!(&mut waiting), std::task::Poll::Ready(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_woken_by_a_promotion() {
    let (_dir, cache) = new_cache();
    let bytes = content(1, 40 * MIB);
    cache.stage_empty(Ino(1)).unwrap().append(&bytes).unwrap();
    let generation = cache.lease(Ino(1)).unwrap().unwrap().generation();
    let mut waiting = Box::pin(cache.reserve(30 * MIB, LONG));
    assert!(poll!(&mut waiting).is_pending());
    cache.promote(Ino(1), Version(1), &ContentDigest::of(&bytes), generation).unwrap();
    assert_eq!(poll!(&mut waiting), std::task::Poll::Ready(Ok(())));
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_there_is_no_space() {
    let (_dir, cache) = new_cache();
    cache.stage_empty(Ino(1)).unwrap().append(&content(1, 40 * MIB)).unwrap();
    let refused = cache.reserve(30 * MIB, LONG).await.unwrap_err();
    assert_eq!(refused, NoSpace { staged: cache.staged_bytes(), wanted: 30 * MIB, limit: 64 * MIB });
    let mut never = Box::pin(cache.reserve(65 * MIB, LONG));
    assert!(poll!(&mut never).is_ready(), "what never fits is not waited for");
}

#[tokio::test(start_paused = true)]
async fn those_who_cannot_be_refused_wait_together_and_then_exceed_the_limit() {
    let (_dir, cache) = new_cache();
    cache.stage_empty(Ino(1)).unwrap().append(&content(1, 60 * MIB)).unwrap();
    let begin = crate::clock::Instant::now();
    for _ in 0..100 {
        cache.reserve_or_exceed(30 * MIB, LONG).await;
    }
    assert_eq!(crate::clock::Instant::now() - begin, LONG, "not each after the other");
    let mut waiting = Box::pin(cache.reserve(30 * MIB, LONG));
    assert!(poll!(&mut waiting).is_pending(), "others are refused as ever");
    // Something moves: then it is worth waiting again.
    cache.stage_empty(Ino(2)).unwrap().append(&content(1, MIB)).unwrap();
    cache.discard(Ino(2)).unwrap();
    let mut patient = Box::pin(cache.reserve_or_exceed(30 * MIB, LONG));
    assert!(poll!(&mut patient).is_pending());
    cache.discard(Ino(1)).unwrap();
    assert_eq!(poll!(&mut patient), std::task::Poll::Ready(()));
}

#[test]
fn condemned_content_is_neither_synced_nor_copied_and_not_found_by_a_later_run() {
    let (dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(b"half of it").unwrap();
    lease.condemn();
    lease.set_len(0).unwrap();
    assert!(lease.sync().is_err() && lease.snapshot().is_err(), "not even when it is empty");
    lease.append(b"half of it").unwrap();
    let aside = cache.set_aside(Ino(1)).unwrap().expect("it was there");
    assert!(cache.lease(Ino(1)).unwrap().is_none());
    assert_eq!(std::fs::read(&aside).unwrap(), b"half of it");
    assert_eq!(lease.read_at(0, 4).unwrap()[..], *b"half", "who has it open keeps it");
    let other = cache.stage_empty(Ino(1)).unwrap();
    other.append(b"other").unwrap();
    let second = cache.set_aside(Ino(1)).unwrap().expect("it was there");
    assert_ne!(aside, second, "nothing is replaced");
    drop((lease, other, cache));
    let cache = open(dir.path());
    assert_eq!(cache.staged_inos().unwrap(), []);
    cache.remove_aside(&aside);
    assert!(!aside.exists() && second.exists());
}

/// Whether content of a file is only in memory yet; `None` where the file system does not say.
fn is_unwritten(path: &Path) -> Option<bool> {
    // FS_IOC_FIEMAP: a header, and room for extents of 56 bytes with their flags at 40.
    const FIEMAP: libc::c_ulong = 0xc020_660b;
    const DELAYED: u32 = 4;
    let mut map = vec![0_u8; 32 + 16 * 56];
    map[8..16].fill(0xff);
    map[24] = 16;
    let file = File::open(path).unwrap();
    // SAFETY: the descriptor is open, and the buffer has room for as many extents as its header says.
    if unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP, map.as_mut_ptr()) } != 0 {
        return None;
    }
    let number = |at: usize| u32::from_ne_bytes(map[at..at + 4].try_into().unwrap());
    Some((0..number(20) as usize).any(|extent| number(32 + 56 * extent + 40) & DELAYED != 0))
}

#[test]
fn a_fill_has_its_name_when_its_bytes_are_on_the_disk() {
    let (dir, cache) = new_cache();
    let lease = cache.stage_empty(Ino(1)).unwrap();
    lease.append(&content(1, MIB)).unwrap();
    // Where the file system does not say, or writes at once, a power failure finds nothing that is only in memory.
    if is_unwritten(&dir.path().join("staged/1")) != Some(true) {
        return;
    }
    let fill = cache.begin_fill(Ino(2), MIB).unwrap();
    fill.write_at(0, &content(2, MIB)).unwrap();
    fill.finish().unwrap();
    assert_eq!(is_unwritten(&dir.path().join("staged/2")), Some(false));
}
