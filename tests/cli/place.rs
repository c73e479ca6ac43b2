//! A bridge over two folders, and the program to run on it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command as Program, Output, Stdio};

use assert_cmd::Command;
use nix::unistd::Pid;
use tempfile::TempDir;

/// Two folders, a state directory, a mountpoint and a configuration. Ends what is still mounted.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let place = Place { dir };
        for folder in ["old", "new", "mnt", "run"] {
            fs::create_dir(place.at(folder)).expect("a folder");
        }
        place.write_config(&place.standard_config());
        place
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn standard_config(&self) -> String {
        let root = self.dir.path().display();
        format!(
            "owner = \"tests\"\nremove_by = 2027-03-31\n[stores.left]\nurl = \"file://{root}/old\"\n\
             [stores.right]\nurl = \"file://{root}/new\"\n[bridge]\nold = \"left\"\nnew = \"right\"\n\
             state_dir = \"{root}/state\"\n[cache]\nsize = \"64MiB\"\nkeep_free = \"0%\"\n"
        )
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.at("bridge.toml"), text).expect("written");
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::cargo_bin("bridgefs").expect("the program");
        command.env("BRIDGEFS_RUN_DIR", self.at("run")).env_remove("BRIDGEFS_CONFIG");
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> (i32, String) {
        let output = self.command().args(words).output().expect("it runs");
        (output.status.code().unwrap_or(-1), said(&output))
    }

    pub(crate) fn mount(&self) -> (i32, String) {
        self.run(&["mount", &self.text("bridge.toml"), &self.text("mnt")])
    }

    pub(crate) fn check(&self) -> (i32, String) {
        self.run(&["check", &self.text("bridge.toml")])
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    pub(crate) fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
        table.contains(&self.text("mnt"))
    }

    pub(crate) fn daemon_pid(&self) -> Pid {
        let status = self.json(&["status", "--json"]);
        pid_of(status["pid"].as_u64().expect("a process"))
    }

    /// Runs a shell script in one of the folders -> what it printed.
    pub(crate) fn shell(&self, folder: &str, script: &str) -> String {
        let mut bash = Program::new("bash");
        let output =
            bash.args(["-euc", script]).current_dir(self.at(folder)).output().expect("bash is installed");
        assert!(output.status.success(), "{script}\n{}", said(&output));
        said(&output)
    }

    /// How many requests of one sort the kernel has made.
    pub(crate) fn requests(&self) -> impl Fn(&str) -> u64 + use<> {
        let mut socket = UnixStream::connect(self.at("state/control.sock")).expect("the daemon runs");
        let request = "GET /metrics HTTP/1.1\r\nHost: bridgefs\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).expect("asked");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("answered");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        move |operation| {
            let line = format!("bridgefs_fuse_operation_seconds_count{{operation=\"{operation}\"}} ");
            let count = text.lines().find_map(|found| found.strip_prefix(&line));
            count.map_or(0, |count| count.parse().expect("a number"))
        }
    }

    pub(crate) fn json(&self, words: &[&str]) -> serde_json::Value {
        let (code, said) = self.run(words);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

impl Place {
    /// A mount that is the test's child -> it and the lines of its log that come after "mounted".
    pub(crate) fn mount_in_foreground(&self) -> (Child, impl Iterator<Item = String> + use<>) {
        let mut daemon = Program::new(assert_cmd::cargo::cargo_bin("bridgefs"))
            .args(["mount", "--foreground", &self.text("bridge.toml"), &self.text("mnt")])
            .env("BRIDGEFS_RUN_DIR", self.at("run"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let log = BufReader::new(daemon.stderr.take().expect("a pipe"));
        let mut lines = log.lines().map(|line| line.expect("text"));
        assert!(lines.any(|line| line.contains("mounted")), "it ended before it was mounted");
        (daemon, lines)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted() {
            let _ = self.run(&["umount", "--lazy", "--drain", "0", &self.text("mnt")]);
        }
        if self.is_mounted() {
            let _ = Program::new("umount").arg("-l").arg(self.at("mnt")).status();
        }
    }
}

pub(crate) fn pid_of(number: u64) -> Pid {
    Pid::from_raw(number.try_into().expect("a process number"))
}

pub(crate) fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn contains(said: &str, words: &str) {
    assert!(said.contains(words), "`{words}` is not in:\n{said}");
}
