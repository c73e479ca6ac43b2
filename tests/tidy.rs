//! What a compiler does not check: layers, doors of outside crates, sizes, words.

use std::fs;
use std::path::{Path, PathBuf};

/// A file under `src`, with its module of the first level.
struct SourceFile {
    path: PathBuf,
    module: String,
    text: String,
}

impl SourceFile {
    /// Lines that are neither comments nor tests, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.file_name().is_some_and(|name| name == "tests.rs")
            || self.path.components().any(|part| part.as_os_str() == "tests");
        let lines = self.text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        let lines = lines.filter(move |_| !is_test_file);
        lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(at, line)| (at + 1, line))
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<SourceFile> {
    let src = root().join("src");
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(&src).expect("below src").to_owned();
        let module = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        SourceFile { text: fs::read_to_string(&path).expect("UTF-8"), path: inside, module }
    };
    let sources: Vec<SourceFile> = files_below(&src, "rs").into_iter().map(read).collect();
    assert!(sources.len() > 20, "the sources are not where this test looks");
    sources
}

/// The layers as the table in `src/lib.rs` has them: the map is the rule.
fn layers() -> Vec<(String, u32)> {
    let map = fs::read_to_string(root().join("src/lib.rs")).expect("the map");
    let rows = map.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("//! |")?.split('|').map(str::trim);
        let layer = cells.next()?.parse().ok()?;
        let module = cells.next()?.trim_matches(|c| "[]`".contains(c)).to_owned();
        Some((module, layer))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() >= 10, "the table in src/lib.rs could not be read");
    rows
}

fn fail_on(problems: &[String]) {
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn a_module_uses_only_lower_layers() {
    let layers = layers();
    let layer = |module: &str| layers.iter().find(|(name, _)| name == module).map(|(_, layer)| *layer);
    let mut problems = Vec::new();
    for file in sources().iter().filter(|file| !matches!(file.module.as_str(), "lib" | "main")) {
        let own =
            layer(&file.module).unwrap_or_else(|| panic!("`{}` is not in the map of lib.rs", file.module));
        for (line, text) in file.code() {
            for used in crate_paths(text) {
                match layer(used) {
                    Some(theirs) if used != file.module && theirs >= own && !is_peer(own, theirs) => {
                        problems.push(format!("{}: `{}` uses `{used}`", file.at(line), file.module));
                    }
                    Some(_) | None => {}
                }
            }
        }
    }
    fail_on(&problems);
}

/// Modules of layer 0 are one foundation: `clock` speaks of `object::NanoTime`.
fn is_peer(own: u32, theirs: u32) -> bool {
    own == 0 && theirs == 0
}

/// Every `NAME` of `crate::NAME` in a line.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("crate::").skip(1);
    after.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default())
}

#[test]
fn an_outside_crate_comes_in_through_one_door() {
    const DOORS: [(&str, &[&str]); 13] = [
        ("rusqlite", &["ledger"]),
        ("fuser", &["fuse"]),
        ("object_store", &["store"]),
        ("reqwest", &["store"]),
        ("quick_xml", &["store"]),
        ("axum", &["control"]),
        ("hyper", &["control"]),
        ("hyper_util", &["control"]),
        ("anyhow", &["cli", "main"]),
        ("clap", &["cli", "main"]),
        ("toml", &["config"]),
        ("metrics_exporter_prometheus", &["daemon"]),
        ("tracing_subscriber", &["daemon"]),
    ];
    let mut problems = Vec::new();
    for file in sources() {
        for (line, text) in file.code() {
            for (krate, doors) in DOORS {
                if uses_crate(text, krate) && !doors.contains(&file.module.as_str()) {
                    problems.push(format!("{}: `{krate}` belongs in {}", file.at(line), doors.join(", ")));
                }
            }
        }
    }
    fail_on(&problems);
}

/// Whether `krate::` stands in the line as a path of its own, not as the end of `super::krate::`.
fn uses_crate(line: &str, krate: &str) -> bool {
    line.match_indices(&format!("{krate}::")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.')
    })
}

#[test]
fn sql_is_spoken_in_the_ledger_only() {
    const WORDS: [&str; 7] =
        ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE TABLE", "PRAGMA ", "BEGIN IMMEDIATE"];
    let mut problems = Vec::new();
    for file in sources().iter().filter(|file| file.module != "ledger") {
        for (line, text) in file.code() {
            for word in WORDS.iter().filter(|word| text.contains(&format!("\"{word}"))) {
                problems.push(format!("{}: SQL (`{word}`) outside the ledger", file.at(line)));
            }
        }
    }
    fail_on(&problems);
}

#[test]
fn only_the_command_line_writes_to_the_terminal() {
    let mut problems = Vec::new();
    for file in sources().iter().filter(|file| file.module != "cli") {
        for (line, text) in file.code() {
            if ["println!", "print!(", "eprintln!", "dbg!("].iter().any(|name| text.contains(name)) {
                problems.push(format!("{}: only cli/ prints", file.at(line)));
            }
        }
    }
    fail_on(&problems);
}

#[test]
fn files_stay_short() {
    let long = sources().into_iter().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > 500).then(|| format!("{}: {lines} lines, at most 500", file.path.display()))
    });
    fail_on(&long.collect::<Vec<_>>());
    let main = fs::read_to_string(root().join("src/main.rs")).expect("main.rs");
    assert!(main.lines().count() < 40, "main.rs only parses, runs and gives the exit code");
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.lines().count() < 150, "the README is under 150 lines");
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    const EMPTY: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "manager", "misc"];
    let named = sources().into_iter().filter(|file| {
        let parts = file.path.iter().map(|part| part.to_string_lossy().into_owned());
        parts.into_iter().any(|part| EMPTY.contains(&part.trim_end_matches(".rs")))
    });
    fail_on(&named.map(|file| file.path.display().to_string()).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_be_done_in_a_comment() {
    // Spelled in two parts, so that this line is not one of them.
    let marks = [("TO", "DO"), ("FIX", "ME"), ("XX", "X")].map(|(a, b)| format!("{a}{b}"));
    let mut problems = Vec::new();
    for file in sources() {
        for (at, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                problems.push(format!("{}: an issue is the place for this", file.at(at + 1)));
            }
        }
    }
    fail_on(&problems);
}

#[test]
fn a_metric_is_named_in_the_table_of_metrics_only() {
    let mut problems = Vec::new();
    for file in sources().iter().filter(|file| file.module != "metrics") {
        for (line, text) in file.code() {
            if ["counter!(\"", "gauge!(\"", "histogram!(\""].iter().any(|call| text.contains(call)) {
                problems.push(format!("{}: use a constant of metrics.rs", file.at(line)));
            }
        }
    }
    fail_on(&problems);
}

/// A sentence of the semantics ends with `(test: FILE::NAME)`; FILE is `tests/x.rs` or `src/x/y.rs`.
#[test]
fn every_sentence_of_the_semantics_has_its_test() {
    let mut problems = Vec::new();
    for file in ["docs/semantics.md", "docs/semantics-compared.md"] {
        let text = fs::read_to_string(root().join(file)).expect("the semantics are written down");
        let mut promises = 0;
        for (at, line) in text.lines().enumerate() {
            let named = line.split("(test: ").skip(1).filter_map(|rest| rest.split(')').next());
            for reference in named.flat_map(|list| list.split(", ")) {
                promises += 1;
                if !test_exists(reference.trim().trim_matches('`')) {
                    problems.push(format!("{file}:{}: there is no test `{reference}`", at + 1));
                }
            }
        }
        assert!(promises > 0, "{file} names no test at all");
    }
    fail_on(&problems);
}

fn test_exists(reference: &str) -> bool {
    let Some((file, name)) = reference.split_once("::") else { return false };
    let Ok(text) = fs::read_to_string(root().join(file)) else { return false };
    text.contains(&format!("fn {}(", name.rsplit("::").next().unwrap_or(name)))
}
