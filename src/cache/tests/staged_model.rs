//! A staged file against a plain vector.

use proptest::prelude::*;

use super::{new_cache, open};
use crate::cache::staged::Copying;
use crate::cache::{FileEnd, Lease, RangeChange, Region};
use crate::object::Ino;

#[derive(Debug, Clone)]
enum Step {
    Edit(Edit),
    Seek(u16),
    Read {
        offset: u16,
        len: u16,
    },
    /// A copy, and what is written in the middle of it: that has to be in it.
    Snapshot(Vec<Vec<Edit>>),
    Lease,
    Restart,
}

#[derive(Debug, Clone)]
enum Edit {
    Write { offset: u16, data: Vec<u8> },
    Append(Vec<u8>),
    SetLen(u16),
    Change { change: RangeChange, offset: u16, len: u16 },
    CopyWithin { from: u16, to: u16, len: u16 },
}

fn change() -> impl Strategy<Value = RangeChange> {
    let end = prop_oneof![Just(FileEnd::Stays), Just(FileEnd::Reaches)];
    (end, 0..3).prop_map(|(end, which)| match which {
        0 => RangeChange::Allocate(end),
        1 => RangeChange::Zero(end),
        _ => RangeChange::Punch,
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    let data = || prop::collection::vec(any::<u8>(), 0..5000);
    prop_oneof![
        3 => (any::<u16>(), data()).prop_map(|(offset, data)| Edit::Write { offset, data }),
        2 => data().prop_map(Edit::Append),
        1 => any::<u16>().prop_map(Edit::SetLen),
        2 => (change(), any::<u16>(), 1..u16::MAX)
            .prop_map(|(change, offset, len)| Edit::Change { change, offset, len }),
        1 => (any::<u16>(), any::<u16>(), any::<u16>())
            .prop_map(|(from, to, len)| Edit::CopyWithin { from, to, len }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let meanwhile = prop::collection::vec(prop::collection::vec(edit(), 0..3), 0..4);
    prop_oneof![
        9 => edit().prop_map(Step::Edit),
        1 => any::<u16>().prop_map(Step::Seek),
        3 => (any::<u16>(), any::<u16>()).prop_map(|(offset, len)| Step::Read { offset, len }),
        1 => meanwhile.prop_map(Step::Snapshot),
        1 => Just(Step::Lease),
        1 => Just(Step::Restart),
    ]
}

/// The same to the file and to the model.
fn apply(edit: &Edit, lease: &Lease, model: &mut Vec<u8>) {
    let before = lease.generation();
    match edit {
        Edit::Write { offset, data } => {
            lease.write_at(u64::from(*offset), data).unwrap();
            write(model, usize::from(*offset), data);
        }
        Edit::Append(data) => {
            assert_eq!(lease.append(data).unwrap(), model.len() as u64);
            model.extend_from_slice(data);
        }
        Edit::SetLen(len) => {
            lease.set_len(u64::from(*len)).unwrap();
            model.resize(usize::from(*len), 0);
        }
        Edit::Change { change, offset, len } => {
            lease.change_range(*change, u64::from(*offset), u64::from(*len)).unwrap();
            change_range(model, *change, usize::from(*offset), usize::from(*len));
        }
        Edit::CopyWithin { from, to, len } => {
            let len = *len.min(&from.abs_diff(*to));
            let copied = lease.copy_from(lease, (*from).into(), (*to).into(), len.into()).unwrap();
            let bytes = part(model, usize::from(*from), usize::from(len)).to_vec();
            assert_eq!(copied, bytes.len() as u64);
            write(model, usize::from(*to), &bytes);
        }
    }
    assert_ne!(lease.generation(), before);
}

fn write(model: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if !data.is_empty() {
        model.resize(model.len().max(offset + data.len()), 0);
        model[offset..offset + data.len()].copy_from_slice(data);
    }
}

fn change_range(model: &mut Vec<u8>, change: RangeChange, offset: usize, len: usize) {
    let (end, zeroed) = match change {
        RangeChange::Allocate(end) => (end, false),
        RangeChange::Zero(end) => (end, true),
        RangeChange::Punch => (FileEnd::Stays, true),
    };
    if end == FileEnd::Reaches {
        model.resize(model.len().max(offset + len), 0);
    }
    if zeroed {
        let to = model.len().min(offset + len);
        model[offset.min(to)..to].fill(0);
    }
}

/// What is called a hole is zeros, and data begins where it ends.
fn check_holes(lease: &Lease, model: &[u8], offset: u64) {
    for region in [Region::Data, Region::Hole] {
        let Some(found) = lease.seek(region, offset).unwrap() else {
            assert!(offset >= model.len() as u64, "only beyond the end is nothing");
            return;
        };
        assert_eq!(found.len, model.len() as u64);
        let hole = found.hole.start..found.hole.end;
        let bytes = part(
            model,
            usize::try_from(hole.start).unwrap(),
            usize::try_from(hole.end - hole.start).unwrap(),
        );
        assert!(bytes.iter().all(|byte| *byte == 0), "{region:?} at {offset}: {found:?}");
        assert!(found.at.is_none_or(|at| at >= offset && at <= found.len));
    }
}

fn part(model: &[u8], offset: usize, len: usize) -> &[u8] {
    let start = offset.min(model.len());
    &model[start..(start + len).min(model.len())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_staged_file_is_a_vector_of_bytes(steps in prop::collection::vec(step(), 1..40)) {
        let (dir, mut cache) = new_cache();
        let mut lease = cache.stage_empty(Ino(9)).unwrap();
        let mut model = Vec::new();
        let mut snapshots = Vec::new();
        for step in steps {
            let before = lease.generation();
            match step {
                Step::Edit(edit) => apply(&edit, &lease, &mut model),
                Step::Seek(offset) => check_holes(&lease, &model, offset.into()),
                Step::Read { offset, len } => {
                    let got = lease.read_at(u64::from(offset), usize::from(len)).unwrap();
                    prop_assert_eq!(&got[..], part(&model, usize::from(offset), usize::from(len)));
                }
                Step::Snapshot(meanwhile) => {
                    let copying = Copying::begin(&lease).unwrap();
                    for edits in meanwhile {
                        copying.pass().unwrap();
                        edits.iter().for_each(|edit| apply(edit, &lease, &mut model));
                    }
                    snapshots.push((copying.finish().unwrap(), model.clone()));
                }
                Step::Lease => {
                    drop(lease);
                    lease = cache.lease(Ino(9)).unwrap().unwrap();
                    prop_assert_eq!(lease.generation(), before);
                }
                Step::Restart => {
                    drop((lease, cache));
                    cache = open(dir.path());
                    lease = cache.lease(Ino(9)).unwrap().unwrap();
                }
            }
            prop_assert_eq!(lease.len(), model.len() as u64);
            prop_assert_eq!(lease.file().metadata().unwrap().len(), model.len() as u64);
            prop_assert_eq!(lease.stable(), Some(lease.generation()));
        }
        prop_assert_eq!(&lease.read_at(0, usize::MAX).unwrap()[..], &model[..]);
        for (snapshot, then) in &snapshots {
            prop_assert_eq!(&snapshot.read_at(0, usize::MAX).unwrap()[..], &then[..]);
        }
        drop(snapshots);
        drop(lease);
        cache.discard(Ino(9)).unwrap();
        prop_assert_eq!(cache.staged_bytes(), 0);
    }
}
