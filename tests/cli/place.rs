//! A bridge over two folders, and the program to run on it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command as Program, Output};

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

    pub(crate) fn json(&self, words: &[&str]) -> serde_json::Value {
        let (code, said) = self.run(words);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
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
