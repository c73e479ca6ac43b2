//! What random cases once broke, as short as they were made.

use bridgefs::bridge::{AckPolicy, UnprovenReads};
use bridgefs::ledger::RenameMode;
use bridgefs::object::Side;
use bridgefs::stage::Stage;

use crate::shrink::run;
use crate::step::{End, How, Op, Path, Setup, Step, Trouble};

fn setup(seed: u64, stage: Stage, last_stage: Stage, history: bool) -> Setup {
    Setup { seed, ack: AckPolicy::Primary, unproven: UnprovenReads::Allow, stage, history, last_stage }
}

fn at(dir: &'static str, name: &'static str) -> Path {
    Path { dir, name }
}

fn mkdir(name: &'static str) -> Step {
    Step::Do(Op::Mkdir(at("", name)))
}

fn write(path: Path, end: End) -> Step {
    Step::Do(Op::Write { path, how: How::Whole, len: 3000, end })
}

fn rename(from: Path, to: Path) -> Step {
    Step::Do(Op::Rename { from, to, mode: RenameMode::Replace, open: false })
}

#[track_caller]
fn holds(setup: Setup, steps: &[Step]) {
    crate::trace();
    if let Err(why) = run(setup, steps) {
        panic!("{why}");
    }
}

#[test]
fn a_written_file_becomes_cache_when_both_stores_have_it() {
    holds(setup(1, Stage::DualWrite, Stage::DualWrite, false), &[write(at("", "a"), End::Commit)]);
}

#[test]
fn a_file_that_was_renamed_over_is_gone_from_a_store_that_was_left_before_it_was_overwritten() {
    let steps = [
        mkdir("b"),
        write(at("b", "c"), End::Commit),
        Step::Run(100),
        rename(at("", "f"), at("b", "c")),
        Step::Stage(Stage::Off, 100),
    ];
    holds(setup(96, Stage::RampDown, Stage::Live, true), &steps);
}

#[test]
fn history_that_moved_while_old_was_left_comes_back_to_old() {
    let steps = [
        Step::Stage(Stage::Complete, 30),
        rename(at("a", "c"), at("a", "a")),
        Step::Run(1000),
        Step::Stage(Stage::Complete, 100),
    ];
    holds(setup(462, Stage::Off, Stage::Live, true), &steps);
}

#[test]
fn a_mode_that_was_set_on_a_listed_file_outlives_its_first_read() {
    let steps = [Step::Do(Op::Chmod(at("a/c", "d"), 0o600)), write(at("a/c", "d"), End::Commit)];
    holds(setup(10165, Stage::Live, Stage::DualWrite, true), &steps);
}

#[test]
fn history_that_is_overwritten_while_it_cannot_be_asked_keeps_its_attributes() {
    let steps = [Step::Trouble(Side::Old, Trouble::LostAnswers), write(at("h", "a"), End::Commit)];
    holds(setup(968, Stage::DualWrite, Stage::DualWrite, true), &steps);
}

#[test]
fn a_read_beside_a_change_of_attributes_does_not_take_it_for_a_loss() {
    for seed in 50455..50475 {
        let steps = [
            Step::Do(Op::Read(at("", "f"))),
            Step::Do(Op::Chmod(at("", "f"), 0o755)),
            write(at("a/c", "d"), End::Commit),
            Step::CheckAll,
        ];
        holds(setup(seed, Stage::Off, Stage::DualWrite, true), &steps);
    }
}

#[test]
fn a_link_that_was_renamed_over_a_file_leaves_nothing_on_a_store_that_is_left() {
    let steps = [
        mkdir("a"),
        mkdir("b"),
        Step::Do(Op::Symlink(at("", "d"))),
        write(at("a", "b"), End::Ack),
        rename(at("", "d"), at("a", "b")),
        Step::Stage(Stage::Off, 0),
        Step::Run(7000),
        rename(at("", "a"), at("b", "b")),
    ];
    holds(setup(50565, Stage::Shadow, Stage::Live, false), &steps);
}

#[test]
fn an_upload_that_ends_after_a_rename_and_a_change_of_stage_leaves_nothing() {
    let into = Op::Write { path: at("", "a"), how: How::Whole, len: 1, end: End::Ack };
    let steps = [
        Step::Trouble(Side::New, Trouble::Stall),
        Step::Do(Op::Chmod(at("", "f"), 0o755)),
        Step::Run(100),
        rename(at("", "f"), at("", "d")),
        Step::FlipDuring(into, Stage::Off, 10),
    ];
    let setup = setup(50792, Stage::DualWrite, Stage::Live, true);
    holds(Setup { ack: AckPolicy::Journal, ..setup }, &steps);
}

#[test]
fn files_that_change_places_stay_on_a_store_all_the_time() {
    let exchange = Op::Rename { from: at("", "a"), to: at("", "b"), mode: RenameMode::Exchange, open: false };
    for ms in [1, 5, 10, 20, 30, 40, 60, 80] {
        let steps = [
            write(at("", "a"), End::Ack),
            write(at("", "b"), End::Ack),
            Step::Do(exchange.clone()),
            Step::Run(ms),
            Step::Run(ms),
            Step::Run(ms),
        ];
        holds(setup(102, Stage::Live, Stage::DualWrite, false), &steps);
    }
}

#[test]
fn history_that_made_room_in_a_ring_of_moves_comes_back() {
    let (file, link) = (at("a/c", "d"), at("b", "e"));
    let exchange = Op::Rename { from: file, to: link, mode: RenameMode::Exchange, open: false };
    for ms in 15..30 {
        let steps = [
            mkdir("b"),
            Step::Do(Op::Lookup(at("a/c", "b"))),
            Step::Do(Op::Symlink(link)),
            Step::Run(5),
            Step::FlipDuring(exchange.clone(), Stage::Complete, ms),
            write(at("", "d"), End::Ack),
        ];
        holds(setup(50837, Stage::DualWrite, Stage::DualWrite, true), &steps);
    }
}

fn unlink(path: Path, open: bool) -> Step {
    Step::Do(Op::Unlink { path, open })
}

fn link(from: Path, to: Path) -> Step {
    Step::Do(Op::Link { from, to })
}

#[test]
fn a_staged_file_becomes_cache_when_the_name_that_a_store_still_lacked_is_removed() {
    for ms in [1, 30, 300, 1500] {
        let steps = [
            write(at("", "a"), End::Commit),
            Step::Run(300),
            Step::Trouble(Side::New, Trouble::Slow),
            link(at("", "a"), at("", "b")),
            Step::Run(ms),
            unlink(at("", "b"), false),
        ];
        holds(setup(27, Stage::Shadow, Stage::Live, false), &steps);
    }
}

#[test]
fn an_open_file_that_was_overwritten_is_stale_and_not_asked_for_again_and_again() {
    let steps = [
        Step::Do(Op::Pin(at("a/c", "d"))),
        write(at("a/c", "d"), End::Commit),
        Step::Run(1500),
        Step::Do(Op::ReadPins),
    ];
    holds(setup(498, Stage::DualWrite, Stage::DualWrite, true), &steps);
}

#[test]
fn an_open_file_is_read_after_it_was_renamed_and_removed() {
    let steps = [
        Step::Do(Op::Pin(at("", "f"))),
        rename(at("", "f"), at("", "e")),
        Step::Run(7000),
        unlink(at("", "e"), true),
        Step::Run(7000),
        Step::Do(Op::ReadPins),
    ];
    holds(setup(1, Stage::Off, Stage::DualWrite, true), &steps);
}

#[test]
fn an_open_file_is_read_after_its_names_were_removed_one_by_one() {
    let steps = [
        Step::Do(Op::Pin(at("", "f"))),
        link(at("", "f"), at("", "e")),
        Step::Run(7000),
        unlink(at("", "f"), true),
        Step::Run(7000),
        unlink(at("", "e"), true),
        Step::Run(7000),
        Step::Do(Op::ReadPins),
    ];
    holds(setup(1, Stage::Off, Stage::DualWrite, true), &steps);
}

#[test]
fn a_file_is_read_from_the_store_that_has_only_a_further_name_of_it() {
    let steps = [
        link(at("", "f"), at("", "e")),
        Step::Run(40_000),
        Step::Restart,
        Step::Trouble(Side::Old, Trouble::Down),
        Step::Run(7000),
        Step::Do(Op::Read(at("", "e"))),
    ];
    holds(setup(1, Stage::DualWrite, Stage::DualWrite, true), &steps);
}

#[test]
fn what_was_acknowledged_stays_on_a_store_until_a_newer_version_stands_under_the_name_that_is_left() {
    for ms in [1, 5, 10, 20, 30, 40] {
        let steps = [
            write(at("", "d"), End::Ack),
            write(at("", "d"), End::Commit),
            link(at("", "d"), at("", "f")),
            unlink(at("", "d"), false),
            Step::Run(ms),
            Step::Run(ms),
        ];
        holds(setup(3000930, Stage::DualWrite, Stage::DualWrite, false), &steps);
    }
}

#[test]
fn an_ack_that_a_change_of_stage_leaves_to_a_store_that_is_down_may_fail() {
    let into = Op::Write { path: at("", "e"), how: How::Whole, len: 0, end: End::Ack };
    let steps =
        [Step::Run(40_000), Step::Trouble(Side::Old, Trouble::Down), Step::FlipDuring(into, Stage::Off, 7)];
    holds(setup(1751, Stage::Complete, Stage::DualWrite, true), &steps);
}
