//! Each mistake in a configuration gets a message that names file, line and key, and what to write.

use std::path::Path;

use bridgefs::config::Config;

const STORES: &str = "[stores.a]\nurl = \"file:///data/a\"\n[stores.b]\nurl = \"file:///data/b\"\n";
const BRIDGE: &str = "[bridge]\nold = \"a\"\nnew = \"b\"\nstate_dir = \"/var/lib/x\"\n";

fn message(text: &str) -> String {
    let environment = |name: &str| (name == "HOME_DIR").then(|| "/home/x".to_owned());
    match Config::parse(Path::new("bridge.toml"), text, &environment) {
        Ok(config) => format!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

fn check(table: &[(String, &str)]) {
    for (text, expected) in table {
        assert_eq!(&message(text), expected, "for\n{text}");
    }
}

#[test]
fn the_two_parts_of_the_tests_are_a_valid_configuration() {
    assert!(message(&format!("{STORES}{BRIDGE}")).starts_with("accepted"));
}

#[test]
fn a_file_that_is_not_toml_names_the_line() {
    let text = message("owner = \"x\"\nremove_by = = 3\n");
    assert!(text.starts_with("bridge.toml:2: this is not TOML: "), "{text}");
}

#[test]
fn an_unknown_key_gets_the_nearest_known_one() {
    let s3 = "[stores.a]\nurl = \"s3://docs\"\nregoin = \"x\"\n[stores.b]\nurl = \"file:///b\"\n";
    check(&[
        (
            format!("{s3}{BRIDGE}"),
            "bridge.toml:3: [stores.a] unknown key \"regoin\"; did you mean \"region\"?",
        ),
        (
            format!("onwer = \"me\"\n{STORES}{BRIDGE}"),
            "bridge.toml:1: unknown key \"onwer\"; did you mean \"owner\"?",
        ),
        (
            format!("{STORES}{BRIDGE}akc = \"both\"\n"),
            "bridge.toml:9: [bridge] unknown key \"akc\"; did you mean \"ack\"?",
        ),
        (
            format!("{STORES}{BRIDGE}[cache]\nlocation = \"/x\"\n"),
            "bridge.toml:10: [cache] unknown key \"location\"; the keys here are size, keep_free, \
             staged_max, dir",
        ),
        (
            format!("{STORES}{BRIDGE}[[slice]]\nprefix = \"/x\"\nstage = \"live\"\n"),
            "bridge.toml:11: [slice] unknown key \"stage\"; the keys here are prefix, ack",
        ),
        (
            format!(
                "[stores.a]\nurl = \"file:///a\"\nregion = \"x\"\n[stores.b]\nurl = \"file:///b\"\n{BRIDGE}"
            ),
            "bridge.toml:3: [stores.a] unknown key \"region\"; the keys here are url, requests_max, \
             stall_timeout",
        ),
    ]);
}

#[test]
fn a_missing_key_names_its_table() {
    check(&[
        (String::new(), "bridge.toml: `bridge` is missing"),
        (BRIDGE.to_owned(), "bridge.toml: `stores` is missing"),
        (
            format!("{STORES}[bridge]\nold = \"a\"\nstate_dir = \"/s\"\n"),
            "bridge.toml:5: [bridge] `new` is missing",
        ),
        (
            format!("{STORES}[bridge]\nold = \"a\"\nnew = \"b\"\n"),
            "bridge.toml:5: [bridge] `state_dir` is missing",
        ),
        (format!("[stores.a]\n[stores.b]\n{BRIDGE}"), "bridge.toml:1: [stores.a] `url` is missing"),
    ]);
}

#[test]
fn a_wrong_value_says_what_is_right() {
    let with = |line: &str| format!("{STORES}{BRIDGE}{line}\n");
    check(&[
        (
            with("ack = \"fast\""),
            "bridge.toml:9: [bridge] `ack`: \"fast\" is no ack policy; it is one of journal, primary, both",
        ),
        (with("ack = 3"), "bridge.toml:9: [bridge] `ack`: this must be a text in quotes"),
        (
            with("op_deadline = \"30\""),
            "bridge.toml:9: [bridge] `op_deadline`: \"30\" is no duration; write for example \"250ms\", \"3s\", \
             \"10m\", \"2h\"",
        ),
        (
            with("coherence = \"often\""),
            "bridge.toml:9: [bridge] `coherence`: \"often\" is no duration; write for example \"250ms\", \"3s\", \
             \"10m\", \"2h\", or \"exclusive\" when nobody else writes to the stores",
        ),
        (
            with("initial_stage = \"Live\""),
            "bridge.toml:9: [bridge] `initial_stage`: `Live` is no stage; the stages are off, dual-write, shadow, \
             live, ramp-down, complete",
        ),
        (
            with("[cache]\nsize = \"20Gib\""),
            "bridge.toml:10: [cache] `size`: \"20Gib\" is no size; write for example \"512MiB\", \"20GiB\", \
             \"100GB\"",
        ),
        (
            with("[cache]\nkeep_free = \"200%\""),
            "bridge.toml:10: [cache] `keep_free`: \"200%\" is no percentage from 0% to 100%",
        ),
        (
            with("[mount]\nthreads = 0"),
            "bridge.toml:10: [mount] `threads`: this must be a whole number from 2 to 64",
        ),
        (
            with("[mount]\nsuid_and_dev = \"true\""),
            "bridge.toml:10: [mount] `suid_and_dev`: this must be true or false, without quotes",
        ),
        (
            with("[mount]\nsuid = true"),
            "bridge.toml:10: [mount] unknown key \"suid\"; the keys here are threads, suid_and_dev",
        ),
        (
            format!("remove_by = \"next year\"\n{STORES}{BRIDGE}"),
            "bridge.toml:1: `remove_by`: \"next year\" is no day like 2027-03-31",
        ),
        (
            format!("cache = 3\n{STORES}{BRIDGE}"),
            "bridge.toml:1: `cache`: this must be a table: write [cache]",
        ),
    ]);
}

#[test]
fn a_wrong_option_of_a_store_is_found_in_the_file_and_a_secret_is_not_shown() {
    let with = |url: &str, line: &str| {
        format!("[stores.a]\nurl = \"{url}\"\n{line}\n[stores.b]\nurl = \"file:///b\"\n{BRIDGE}")
    };
    check(&[
        (
            with("s3://docs", "allow_http = \"maybe\""),
            "bridge.toml:3: [stores.a] `allow_http`: this must be true or false",
        ),
        (
            with("s3://docs", "aws_skip_signature = 1"),
            "bridge.toml:3: [stores.a] `aws_skip_signature`: this must be true or false",
        ),
        (
            with("az://docs", "account_key = \"hush!\""),
            "bridge.toml:3: [stores.a] `account_key`: this is no base64: copy the key again, whole, with the `=` at its \
             end",
        ),
    ]);
    for line in ["allow_http = true", "allow_http = \"false\"", "account_key = \"aHVzaA==\""] {
        let text = message(&with("az://docs", line));
        assert!(text.starts_with("accepted") && !text.contains("aHVzaA"), "{text}");
    }
}

#[test]
fn a_missing_variable_of_the_environment_is_named() {
    let bridge = BRIDGE.replace("/var/lib/x", "${HOME_DIR}/${STATE_DIR}");
    let expected = "bridge.toml:8: [bridge] `state_dir`: the environment has no variable STATE_DIR; set it, or \
                    write the value here";
    check(&[(format!("{STORES}{bridge}"), expected)]);
}

#[test]
fn a_url_that_is_no_store_lists_the_kinds() {
    let with = |url: &str| format!("[stores.a]\nurl = \"{url}\"\n[stores.b]\nurl = \"file:///b\"\n{BRIDGE}");
    check(&[
        (
            with("https://docs"),
            "bridge.toml:2: [stores.a] `url`: \"https://docs\" is no store; a store is s3://BUCKET, \
             az://CONTAINER, gs://BUCKET (each with an optional /PREFIX) or file:///FOLDER",
        ),
        (with("s3:///x"), "bridge.toml:2: [stores.a] `url`: \"s3:///x\" names no bucket"),
        (
            with("file://data"),
            "bridge.toml:2: [stores.a] `url`: \"file://data\" must name an absolute folder: file:///data/old",
        ),
        (
            with("s3://docs/a//b"),
            "bridge.toml:2: [stores.a] `url`: the prefix \"a//b\" has an empty, \".\" or \"..\" segment",
        ),
    ]);
}

#[test]
fn the_sides_must_be_two_stores_of_the_file() {
    let bridge = |old: &str, new: &str| {
        format!("{STORES}[bridge]\nold = \"{old}\"\nnew = \"{new}\"\nstate_dir = \"/s\"\n")
    };
    check(&[
        (
            bridge("a", "a"),
            "bridge.toml:7: [bridge] `new`: this is also `old`: a bridge needs two different stores",
        ),
        (bridge("aa", "b"), "bridge.toml:6: [bridge] `old`: there is no [stores.aa]; did you mean \"a\"?"),
        (
            format!("{STORES}[stores.c]\nurl = \"memory:///\"\n{BRIDGE}"),
            "bridge.toml:7: [bridge] [stores.c] in line 5 is neither `old` nor `new`: a bridge has exactly two \
             stores",
        ),
    ]);
}

#[test]
fn stores_that_overlap_are_refused_with_the_reason() {
    let pair = |a: &str, b: &str| format!("[stores.a]\n{a}\n[stores.b]\n{b}\n{BRIDGE}");
    let why = "a deletion or a repair on one side would destroy the other side's copy, and nothing would be \
               left; name two different places";
    for (a, b, what) in [
        ("url = \"s3://docs\"", "url = \"s3://docs\"", "the same store"),
        ("url = \"s3://docs\"", "url = \"s3://docs/new\"", "overlapping prefixes of one bucket"),
        ("url = \"az://docs/a/b\"", "url = \"az://docs/a\"", "overlapping prefixes of one bucket"),
        (
            "url = \"s3://docs\"\nendpoint = \"http://localhost:1\"",
            "url = \"s3://docs\"\nendpoint = \"http://127.0.0.1:1/\"",
            "the same store",
        ),
        ("url = \"file:///data\"", "url = \"file:///data\"", "the same folder"),
        ("url = \"file:///data\"", "url = \"file:///data/new\"", "folders inside one another"),
    ] {
        let text = message(&pair(a, b));
        assert!(text.ends_with(&format!("\"a\" and \"b\" are {what}: {why}")), "{text}");
    }
}

#[test]
fn stores_that_only_look_alike_are_accepted() {
    let pair = |a: &str, b: &str| format!("[stores.a]\n{a}\n[stores.b]\n{b}\n{BRIDGE}");
    for (a, b) in [
        ("url = \"s3://docs/a\"", "url = \"s3://docs/ab\""),
        ("url = \"s3://docs\"", "url = \"az://docs\""),
        (
            "url = \"s3://docs\"\nendpoint = \"http://127.0.0.1:1\"",
            "url = \"s3://docs\"\nendpoint = \"http://127.0.0.1:2\"",
        ),
        ("url = \"az://docs\"\naccount_name = \"x\"", "url = \"az://docs\"\naccount_name = \"y\""),
        ("url = \"memory:///\"", "url = \"memory:///\""),
    ] {
        let text = message(&pair(a, b));
        assert!(text.starts_with("accepted"), "{text}");
    }
}

#[test]
fn the_bridges_own_folders_must_not_be_in_a_store() {
    let bridge = BRIDGE.replace("/var/lib/x", "/data/a/state");
    let why = "are inside one another: the bridge's own files would become objects, be copied and be deleted; \
               use a folder of its own";
    let state = format!(
        "bridge.toml:8: [bridge] `state_dir`: state_dir /data/a/state and the folder of store \"a\" (/data/a) {why}"
    );
    let cache = format!(
        "bridge.toml:10: [cache] `dir`: the cache folder /data/b/c and the folder of store \"b\" (/data/b) {why}"
    );
    check(&[
        (format!("{STORES}{bridge}"), &state),
        (format!("{STORES}{BRIDGE}[cache]\ndir = \"/data/b/c\"\n"), &cache),
    ]);
}

#[test]
fn a_mountpoint_over_or_under_an_own_folder_is_refused() {
    let text = format!("{STORES}{BRIDGE}");
    let config = Config::parse(Path::new("bridge.toml"), &text, &|_| None).expect("valid");
    for wrong in ["/var/lib", "/var/lib/x/mnt", "/data/a/mnt", "/data"] {
        let why = config.conflict_with_mountpoint(Path::new(wrong)).unwrap_or_default();
        assert!(why.contains("would wait for itself"), "{wrong}: {why}");
    }
    assert_eq!(config.conflict_with_mountpoint(Path::new("/mnt/docs")), None);
}

#[test]
fn slices_are_normalised_and_a_second_of_one_name_is_refused() {
    let slices = "[[slice]]\nprefix = \"/exports/\"\n[[slice]]\nprefix = \"exports\"\n";
    check(&[
        (
            format!("{STORES}{BRIDGE}{slices}"),
            "bridge.toml:12: [slice] `prefix`: there is already a slice \"/exports\"",
        ),
        (
            format!("{STORES}{BRIDGE}[[slice]]\nprefix = \"/a/../b\"\n"),
            "bridge.toml:10: [slice] `prefix`: \"/a/../b\" is no path below the mount",
        ),
    ]);
}

#[test]
fn a_secret_in_a_file_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("bridge.toml");
    let text = format!(
        "owner = \"me\"\nremove_by = 2027-03-31\n[stores.a]\nurl = \"s3://docs\"\nsecret_access_key = \"hush\"\n\
         [stores.b]\nurl = \"file:///b\"\n{BRIDGE}"
    );
    std::fs::write(&file, text).expect("written");
    let warnings = |mode: u32| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
        Config::load(&file).expect("valid").warnings
    };
    assert_eq!(warnings(0o600), Vec::<String>::new());
    let shown = warnings(0o644).join("\n");
    assert!(shown.contains("bridge.toml:5:") && shown.contains("chmod 600"), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
}
