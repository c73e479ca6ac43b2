"""pjdfstest, as root, on a fresh ext4 and on a mount, with the same configuration: what passes there must pass here."""
import os
import re
import subprocess

from .crates import install, preload
from .place import Failed, need

CASE_SECONDS = 1200
LINK_MAX_CASE = "link::link_count_max"
# glibc knows by the magic number of a file system how many links it takes, and not those of any FUSE file system: the
# case that needs the number would skip itself.
LINK_MAX_SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
long pathconf(const char *path, int name) {
    long (*real)(const char *, int) = (long (*)(const char *, int))dlsym(RTLD_NEXT, "pathconf");
    return name == _PC_LINK_MAX ? 65000 : real(path, name);
}
"""
# All that ext4 on Linux has; `chflags` and NFSv4 ACLs are FreeBSD's.
CONFIG = """[features]
posix_fallocate = {{}}
rename_ctime = {{}}
stat_st_birthtime = {{}}
utime_now = {{}}
utimensat = {{}}
secondary_fs = "{second}"
[settings]
naptime = 0.02
allow_remount = true
[dummy_auth]
entries = [["nobody", "nogroup"], ["tests", "tests"]]
"""
LINE = re.compile(r"^(\S+)\s+(ok|FAILED|skipped)$", re.MULTILINE)


def run(place):
    if place.options.native:
        raise Failed("it compares a mount with ext4; there is nothing to compare with --native")
    need("mkfs.ext4 e2fsprogs", "useradd passwd", "mount mount", "setpriv util-linux")
    if subprocess.run(["id", "tests"], capture_output=True).returncode != 0:
        subprocess.run(["useradd", "--system", "--user-group", "--home-dir", "/", "--shell", "/usr/sbin/nologin", "tests"], check=True)
    place.reachable_by("nobody")
    runner = Runner(place)
    with Ext4(place) as ext4:
        names = runner.names(ext4.path)
        native = runner.run(ext4.path, names)
    report("ext4", native)
    bridge = place.bridge("bridge")
    mount = runner.run(bridge.path, names)
    report("the mount", mount)
    for name in (name for name in names if native[name][0] != "ok"):
        print(f"  does not pass on ext4: {name}: {native[name][0]} {native[name][1]}")
    worse = [name for name in names if native[name][0] == "ok" != mount[name][0]]
    if place.options.quick and mount.get(LINK_MAX_CASE, ("", ""))[0] == "skipped":
        print(f"  needs 65,000 links and skips itself in a short run: {LINK_MAX_CASE}")
        worse = [name for name in worse if name != LINK_MAX_CASE]
    for name in worse:
        print(f"  passes on ext4, {mount[name][0]} on the mount: {name}: {mount[name][1]}")
    (place.home / "worse").write_text("".join(f"{name}: {mount[name][1]}\n" for name in worse))
    wrong = [f"{len(worse)} cases that pass on ext4 do not pass on the mount"] if worse else []
    try:
        bridge.finish()
    except Failed as failed:
        wrong.append(str(failed))
    if wrong:
        raise Failed("; and ".join(wrong))


def report(where, results):
    kinds = [outcome for outcome, _ in results.values()]
    counts = ", ".join(f"{kinds.count(kind)} {word}" for kind, word in [("ok", "pass"), ("FAILED", "fail"), ("skipped", "skipped")])
    print(f"  {where}: {len(kinds)} cases: {counts}", flush=True)


class Runner:
    """The program. Each case is a process of its own: the cases of one process leave descriptors open, which makes
    each other's remounts fail, on ext4 too."""

    def __init__(self, place):
        self.program = install(place.tools, "pjdfstest")
        self.patterns = [name for name in place.options.names]
        self.config = place.home / "pjdfstest.toml"
        self.config.write_text(CONFIG.format(second=place.folder("second")))
        # The package fuse3 brings a helper that mount(8) calls for every fuse mount, a remount too, and it can only
        # start file systems. What is tested is the read-only mount, so on both sides mount(8) calls no helper.
        shim = place.folder("shim") / "mount"
        shim.write_text('#!/bin/sh\nPATH=${PATH#*:}\nexec mount -i "$@"\n')
        shim.chmod(0o755)
        self.environment = {**os.environ, "NO_COLOR": "1", "RUST_BACKTRACE": "0", "PATH": f"{shim.parent}:{os.environ['PATH']}"}
        if not place.options.quick:
            self.environment |= preload(place.home, "link_max", LINK_MAX_SHIM)

    def call(self, directory, *arguments):
        command = [self.program, "-c", self.config, "-p", directory, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=CASE_SECONDS)

    def names(self, directory):
        """It cannot list its cases, only run them."""
        said = self.call(directory, *self.patterns)
        names = [name for name, _ in LINE.findall(said.stdout)]
        if not names:
            raise Failed(f"pjdfstest ran no case: {said.stdout}{said.stderr}")
        return names

    def run(self, directory, names):
        return {name: self.one(directory, name) for name in names}

    def one(self, directory, name):
        """The outcome of a case, and the reason if it is not `ok`."""
        try:
            said = self.call(directory, "--exact", f"pjdfstest::tests::{name}")
        except subprocess.TimeoutExpired:
            return "FAILED", f"no end after {CASE_SECONDS} s"
        outcome = LINE.search(said.stdout)
        if outcome is None:
            return "FAILED", f"exit status {said.returncode}: {said.stdout}{said.stderr}".strip()
        reason = said.stdout[outcome.end() :].partition("\nSummary")[0].partition("Backtrace:")[0]
        return outcome[2], " ".join(reason.split())


class Ext4:
    """A fresh ext4 as long as the `with` lasts: one that can be made read-only, whatever the disk is."""

    def __init__(self, place):
        self.image, self.path = place.home / "ext4.img", place.mountpoint("ext4")

    def __enter__(self):
        with open(self.image, "wb") as image:
            image.truncate(1 << 30)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)
        mounted = subprocess.run(["mount", "-o", "loop", self.image, self.path], capture_output=True, text=True)
        if mounted.returncode != 0:
            raise Failed(f"an ext4 to compare with cannot be mounted (is there no loop device?): {mounted.stderr}")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)
        self.image.unlink()
