"""Where one suite runs: a fresh folder, the mount in it, and what must hold when it is over."""
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import stores

SCRIPTS = Path(__file__).resolve().parent.parent
READY_SECONDS = 60
DRAIN_SECONDS = 600
CONFIG = """owner = "suites@example.com"
remove_by = 2099-12-31
[stores.first]
url = "file://{home}/first"
[stores.second]
url = "file://{home}/second"
[bridge]
old = "first"
new = "second"
ack = "{ack}"
state_dir = "{home}/state"
[cache]
keep_free = "1%"
{cache}
"""


class Failed(Exception):
    """The suite found something; the text says what."""


def need(*pairs):
    """Installs what is missing: pairs of a program and its Debian package."""
    if subprocess.run([SCRIPTS / "need", *pairs]).returncode != 0:
        sys.exit(1)


class Place:
    """The folder of one suite. What is made in it is unmounted and removed, or left to be looked at."""

    def __init__(self, name, options):
        self.name, self.options, self.bridges = name, options, []
        options.dir.mkdir(parents=True, exist_ok=True)
        self.tools = options.dir
        self.home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=options.dir))
        self.home.chmod(0o755)
        # What is mounted has a short path: a socket's may have 107 bytes.
        self.mounts = Path(tempfile.mkdtemp(prefix="suites-", dir="/tmp"))
        self.mounts.chmod(0o755)
        self.to_repeat()

    def to_repeat(self, *words):
        """Says that the suite with these words more repeats what comes now."""
        asked = [word for word in sys.argv[1:] if word not in ("all", "ci", self.name)]
        quick = ["--quick"] if self.options.quick and "--quick" not in asked else []
        self.repeat = shlex.join(["scripts/suites", self.name, *asked, *quick, *words])

    def reachable_by(self, user):
        """Other users work in the mount; a checkout below /root cannot be reached by them."""
        looked = subprocess.run(["setpriv", f"--reuid={user}", "--clear-groups", "test", "-x", self.home])
        if looked.returncode != 0:
            sys.exit(f"scripts/suites: the user `{user}` cannot reach {self.home}: name another place with --dir")

    def folder(self, name):
        path = self.home / name
        path.mkdir(parents=True)
        return path

    def mountpoint(self, name):
        path = self.mounts / name
        path.mkdir()
        return path

    def bridge(self, name, cache="", ack=None):
        """A mounted bridge with a state of its own; with --native a plain directory that answers like one."""
        kind = Directory if self.options.native else Bridge
        bridge = kind(self.options.binary, self.folder(name), self.mountpoint(name), ack or self.options.ack, cache)
        self.bridges.append(bridge)
        bridge.mount()
        return bridge

    def leave_behind(self):
        for bridge in self.bridges:
            bridge.take_away()
        for path in self.mounts.iterdir():
            path.unlink() if path.is_symlink() else path.rmdir()
        self.mounts.rmdir()

    def remove(self):
        self.leave_behind()
        if self.options.keep:
            print(f"  its folder:  {self.home}")
        else:
            shutil.rmtree(self.home)


class Bridge:
    """The program on two folder stores, as a user has it."""

    def __init__(self, program, home, path, ack, cache):
        self.program, self.home, self.path = program, home, path
        self.folders = [home / "first", home / "second"]
        for folder in self.folders:
            folder.mkdir()
        self.config, self.daemon = home / "bridge.toml", None
        self.config.write_text(CONFIG.format(home=home, ack=ack, cache=cache))
        self.environment = {**os.environ, "BRIDGEFS_RUN_DIR": str(home / "run")}

    def ask(self, *arguments):
        """What the program prints; it must succeed."""
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            raise Failed(f"bridgefs {arguments[0]}: {done.stderr}{done.stdout}; the log: {self.home}/log")
        return done.stdout

    def mount(self):
        command = [self.program, "mount", "--foreground", self.config, self.path]
        with open(self.home / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the bridge was not mounted; its log: {self.home}/log")
            time.sleep(0.02)

    def is_ready(self):
        asked = [self.program, "status", "--json", "--config", self.config]
        return os.path.ismount(self.path) and subprocess.run(asked, capture_output=True, env=self.environment).returncode == 0

    def status(self):
        return json.loads(self.ask("status", "--json", "--config", self.config))

    def umount(self):
        """Ends it in order. Nothing may wait to be sent afterwards."""
        left = json.loads(self.ask("umount", "--json", "--drain", str(DRAIN_SECONDS), self.path))
        if any(left.values()):
            raise Failed(f"after the unmount this waits to be sent: {left}")
        if self.daemon.wait(READY_SECONDS) != 0:
            raise Failed(f"the daemon ended with {self.daemon.returncode}; its log: {self.home}/log")
        self.daemon = None

    def forget_blocks(self):
        """A new mount without cached content: the next read comes from a store."""
        self.umount()
        shutil.rmtree(self.home / "state/cache")
        self.mount()

    def finish(self):
        """Unmounts, and holds what is left against what must be."""
        findings = json.loads(self.ask("findings", "--json", "--config", self.config))
        if findings:
            raise Failed(f"{len(findings)} findings, the first: {json.dumps(findings[0])}")
        seen = stores.of_mount(self.path)
        self.umount()
        ledger = self.check_ledger()
        held = [stores.of_folder(folder) for folder in self.folders]
        self.differ("the two stores", stores.differences(held[0], held[1]))
        self.differ("the mount and the first store", stores.differences(seen, stores.as_seen(held[0])))
        print(f"  {self.home.name}: nothing waits, no finding, {len(seen)} files the same in the mount and both stores; {ledger}", flush=True)

    def check_ledger(self):
        if subprocess.run([self.program, "ledger", "--help"], capture_output=True).returncode != 0:
            return "the ledger is not checked: `bridgefs ledger` is not available in this build"
        self.ask("ledger", "check", str(self.config))
        return "the ledger checks clean"

    def differ(self, what, lines):
        if lines:
            (self.home / "differences").write_text("\n".join(lines) + "\n")
            raise Failed(f"{what} differ in {len(lines)} places ({self.home}/differences), the first: {lines[0]}")

    def take_away(self):
        """By force, if it is still there."""
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None
        # A mount whose daemon is dead is no directory any more, so nothing asks before.
        subprocess.run(["umount", "-i", "-l", self.path], capture_output=True)


class Directory:
    """A directory of the disk in the place of a mount: what fails here is a fault of the suite."""

    def __init__(self, _program, home, path, _ack, _cache):
        self.home, self.path = home, path
        self.folders = [home / "first", home / "second"]
        for folder in (*self.folders, home / "mnt"):
            folder.mkdir()
        path.rmdir()
        path.symlink_to(home / "mnt")

    def mount(self):
        pass

    umount = forget_blocks = finish = take_away = mount
