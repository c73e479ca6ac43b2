//! What a case does, as data: made from a seed, printed when it fails, shortened by leaving steps out.

use bridgefs::bridge::{AckPolicy, UnprovenReads};
use bridgefs::ledger::RenameMode;
use bridgefs::object::Side;
use bridgefs::stage::Stage;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Directories that names are made in; the names of the first ones are also names of files.
const PARENTS: [&str; 5] = ["", "a", "b", "a/c", "h"];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Requests of a killed process arrive at most this many milliseconds after the next one has started:
/// less than the bridge allows for.
const LATE_AFTER_START_MS: u64 = 4500;

/// A name in a directory, below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The directory's path; empty is the root.
    pub dir: &'static str,
    /// The name in it.
    pub name: &'static str,
}

impl Path {
    /// The whole path, which is also the key.
    pub fn full(self) -> String {
        if self.dir.is_empty() { self.name.to_owned() } else { format!("{}/{}", self.dir, self.name) }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Truncated and written anew; made if it is not there.
    Whole,
    /// Some bytes in the middle.
    InPlace,
    /// At the end.
    Append,
    /// Cut.
    Truncate,
}

/// What follows the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing: the file stays open and dirty.
    Dirty,
    /// A commit.
    Commit,
    /// A commit, and waiting for the ack.
    Ack,
}

/// One operation on the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Write { path: Path, how: How, len: usize, end: End },
    CommitDirty,
    Read(Path),
    ReadPart(Path),
    Lookup(Path),
    List(&'static str),
    Unlink { path: Path, open: bool },
    Link { from: Path, to: Path },
    Rename { from: Path, to: Path, mode: RenameMode, open: bool },
    Mkdir(Path),
    Rmdir(Path),
    Symlink(Path),
    Chmod(Path, u32),
    Sync,
    Pin(Path),
    ReadPins,
    DropPins,
}

/// What goes wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Down,
    Stall,
    Slow,
    LostAnswers,
    Late,
    Truncated,
    Flipped,
    Denied,
    Throttled,
    Flaky,
}

/// One step of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Do(Op),
    /// The process dies this many milliseconds into the operation.
    CrashDuring(Op, u64),
    /// The stage changes while the operation runs, that many milliseconds after its start.
    FlipDuring(Op, Stage, u64),
    Run(u64),
    Trouble(Side, Trouble),
    Heal(Side),
    ReleaseLate,
    Crash,
    /// The process dies and starts again; what was on its way arrives this many milliseconds later.
    CrashLate(u64),
    Restart,
    Stage(Stage, u8),
    ClockJump(i64),
    CheckAll,
}

/// What is true for the whole of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub seed: u64,
    pub ack: AckPolicy,
    pub unproven: UnprovenReads,
    pub stage: Stage,
    /// Objects stand on old before the first start.
    pub history: bool,
    /// The stage of the end.
    pub last_stage: Stage,
}

/// What kinds of steps a case has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    pub crashes: bool,
    pub troubles: bool,
    pub flips: bool,
    pub history: bool,
}

impl Dimensions {
    /// Everything.
    pub const ALL: Dimensions = Dimensions { crashes: true, troubles: true, flips: true, history: true };
    /// Only operations.
    pub const NONE: Dimensions = Dimensions { crashes: false, troubles: false, flips: false, history: false };
}

/// The case of a seed.
pub fn generate(seed: u64, dims: Dimensions) -> (Setup, Vec<Step>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let favourites = [0, 1].map(|_| any_path(&mut rng));
    let mut dice = Dice { rng, favourites };
    let setup = Setup {
        seed,
        ack: dice.of(&[AckPolicy::Journal, AckPolicy::Primary, AckPolicy::Primary, AckPolicy::Both]),
        unproven: dice.of(&[UnprovenReads::Allow, UnprovenReads::Deny]),
        stage: if dims.flips { dice.stage() } else { dice.of(&[Stage::DualWrite, Stage::Live]) },
        history: dims.history && dice.percent(50),
        last_stage: dice.of(&[Stage::DualWrite, Stage::Live]),
    };
    let mut steps = Vec::new();
    for dir in ["a", "b"] {
        steps.push(Step::Do(Op::Mkdir(Path { dir: "", name: dir })));
    }
    steps.push(Step::Do(Op::Mkdir(Path { dir: "a", name: "c" })));
    if setup.history && dice.percent(30) {
        steps.extend(dice.history_story());
    }
    let count = dice.rng.random_range(5..50);
    for _ in 0..count {
        steps.push(dice.step(dims));
        if dims.troubles && dice.percent(3) {
            steps.extend(dice.late_story(dims));
        }
        if dice.percent(2) {
            steps.extend(dice.link_story(dims));
        }
    }
    (setup, steps)
}

fn any_path(rng: &mut SmallRng) -> Path {
    Path { dir: PARENTS[rng.random_range(0..PARENTS.len())], name: NAMES[rng.random_range(0..NAMES.len())] }
}

struct Dice {
    rng: SmallRng,
    /// Half of all operations are on these: only what meets at one key can overtake.
    favourites: [Path; 2],
}

impl Dice {
    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.rng.random_range(0..all.len())].clone()
    }

    fn percent(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn stage(&mut self) -> Stage {
        self.of(&Stage::ALL)
    }

    fn side(&mut self) -> Side {
        self.of(&Side::BOTH)
    }

    fn path(&mut self) -> Path {
        if self.percent(50) { self.of(&self.favourites.clone()) } else { any_path(&mut self.rng) }
    }

    fn step(&mut self, dims: Dimensions) -> Step {
        loop {
            let step = match self.rng.random_range(0..100) {
                0..66 => Step::Do(self.op()),
                66..76 => Step::Run(self.of(&[1, 5, 20, 100, 1000, 7000, 40_000])),
                76..80 if dims.flips => Step::Stage(self.stage(), self.of(&[0, 30, 100])),
                80..82 if dims.flips => {
                    Step::FlipDuring(self.op(), self.stage(), self.rng.random_range(0..30))
                }
                82..87 if dims.troubles => Step::Trouble(self.side(), self.trouble()),
                87..90 if dims.troubles => Step::Heal(self.side()),
                90 if dims.troubles => Step::ReleaseLate,
                91..93 if dims.crashes => Step::CrashDuring(self.op(), self.rng.random_range(0..40)),
                93 if dims.crashes => Step::Crash,
                94 if dims.crashes => Step::CrashLate(self.rng.random_range(0..LATE_AFTER_START_MS)),
                95 if dims.crashes => Step::Restart,
                96 if dims.crashes => Step::ClockJump(self.of(&[-100_000, -3600, 3600, 7_000_000])),
                97..99 => Step::CheckAll,
                _ => continue,
            };
            return step;
        }
    }

    /// A name of history goes before its directory was ever listed, and its object may stand there longer.
    fn history_story(&mut self) -> Vec<Step> {
        let path = Path { dir: "h", name: self.of(&["a", "b"]) };
        let gone = Op::Unlink { path, open: false };
        let moved = Op::Rename { from: path, to: self.path(), mode: RenameMode::Replace, open: false };
        let mut steps = vec![Step::Do(Op::Lookup(path)), Step::Do(self.of(&[gone, moved]))];
        if self.percent(50) {
            steps.push(self.pause());
        }
        steps.extend([Step::Do(Op::Lookup(path)), Step::Do(Op::List("h")), Step::CheckAll]);
        steps
    }

    /// An upload is late, and arrives after its key was written again, removed, made anew or renamed.
    fn late_story(&mut self, dims: Dimensions) -> Vec<Step> {
        let (path, side) = (self.path(), self.side());
        let write = |len| Step::Do(Op::Write { path, how: How::Whole, len, end: End::Commit });
        let mut steps = vec![write(1), self.pause(), Step::Trouble(side, Trouble::Late), write(100)];
        if self.percent(50) {
            steps.remove(0);
        }
        steps.push(self.pause());
        if self.percent(50) {
            steps.extend([Step::Heal(side), self.pause()]);
        }
        let gone = Step::Do(Op::Unlink { path, open: false });
        let moved = Op::Rename { from: path, to: self.path(), mode: RenameMode::Replace, open: false };
        match self.rng.random_range(0..4) {
            0 => steps.push(write(3000)),
            1 => steps.push(gone),
            2 => steps.extend([gone, self.pause(), write(3000)]),
            _ => steps.push(Step::Do(moved)),
        }
        steps.extend([self.pause(), Step::Heal(side), self.pause()]);
        if dims.crashes && self.percent(30) {
            steps.push(Step::CrashLate(self.rng.random_range(0..LATE_AFTER_START_MS)));
        } else {
            steps.extend([Step::ReleaseLate, Step::CheckAll]);
        }
        steps
    }

    /// A file gets a further name, is written through one of them, and loses one or both: what mail stores and lock
    /// files do. Something may go wrong with a store at any time of it.
    fn link_story(&mut self, dims: Dimensions) -> Vec<Step> {
        let (from, to, side) = (self.path(), self.path(), self.side());
        let (first, second) = self.of(&[(from, to), (to, from)]);
        let end = self.of(&[End::Commit, End::Ack]);
        let write = |path, len| Op::Write { path, how: How::Whole, len, end };
        let (gone, open) = (Op::Unlink { path: first, open: false }, self.percent(50));
        let onto = Op::Rename { from: second, to: first, mode: RenameMode::Replace, open: false };
        let mut ops = vec![write(from, 100), Op::Link { from, to }, write(second, 3000), gone];
        if self.percent(50) {
            ops.remove(2);
        }
        match self.rng.random_range(0..5) {
            0 => ops.insert(0, Op::Unlink { path: to, open: false }),
            1 => ops.insert(2, Op::Pin(from)),
            2 => ops.push(Op::Unlink { path: second, open }),
            3 => ops.extend([Op::Link { from: second, to: first }, write(first, 1), onto]),
            _ => {}
        }
        let mut steps = Vec::new();
        for op in ops {
            if dims.troubles && self.percent(15) {
                steps.push(Step::Trouble(side, self.trouble()));
            }
            steps.push(match dims.crashes && self.percent(5) {
                true => Step::CrashDuring(op, self.rng.random_range(0..40)),
                false => Step::Do(op),
            });
            match self.rng.random_range(0..10) {
                0..3 => {}
                3..7 => steps.push(self.pause()),
                // What a store lacks between two of its requests is seen only when somebody looks just then.
                _ => steps.extend((0..5).map(|_| Step::Run(self.rng.random_range(1..15)))),
            }
        }
        steps.extend([Step::Do(Op::ReadPins), Step::Heal(side), Step::CheckAll]);
        steps
    }

    fn pause(&mut self) -> Step {
        Step::Run(self.of(&[1, 10, 30, 300, 1500]))
    }

    fn trouble(&mut self) -> Trouble {
        self.of(&[
            Trouble::Down,
            Trouble::Stall,
            Trouble::Slow,
            Trouble::LostAnswers,
            Trouble::Late,
            Trouble::Truncated,
            Trouble::Flipped,
            Trouble::Denied,
            Trouble::Throttled,
            Trouble::Flaky,
        ])
    }

    fn op(&mut self) -> Op {
        match self.rng.random_range(0..100) {
            0..30 => self.write(),
            30..34 => Op::CommitDirty,
            34..43 => Op::Read(self.path()),
            43..45 => Op::ReadPart(self.path()),
            45..47 => Op::Lookup(self.path()),
            47..50 => Op::List(self.of(&PARENTS)),
            50..58 => Op::Link { from: self.path(), to: self.path() },
            58..67 => Op::Unlink { path: self.path(), open: self.percent(30) },
            67..80 => Op::Rename {
                from: self.path(),
                to: self.path(),
                mode: self.of(&[
                    RenameMode::Replace,
                    RenameMode::Replace,
                    RenameMode::NoReplace,
                    RenameMode::Exchange,
                ]),
                open: self.percent(20),
            },
            80..83 => Op::Mkdir(self.path()),
            83..86 => Op::Rmdir(self.path()),
            86..88 => Op::Symlink(self.path()),
            88..93 => Op::Chmod(self.path(), self.of(&[0o600, 0o644, 0o755])),
            93 => Op::Sync,
            94..97 => Op::Pin(self.path()),
            97..99 => Op::ReadPins,
            _ => Op::DropPins,
        }
    }

    fn write(&mut self) -> Op {
        let how = self.of(&[How::Whole, How::Whole, How::Whole, How::InPlace, How::Append, How::Truncate]);
        let len = match self.rng.random_range(0..1000) {
            0..100 => 0,
            100..300 => 1,
            300..600 => 100,
            600..980 => 3000,
            980..999 => (1 << 20) + 1,
            _ => (8 << 20) + 5,
        };
        let end = self.of(&[End::Commit, End::Commit, End::Ack, End::Ack, End::Dirty]);
        Op::Write { path: self.path(), how, len, end }
    }
}
