"""Programs that people use, each in a script of suite/real/: `NAME DIRECTORY SCRATCH`, in an empty directory of a mount.

A script ends with an error if anything is not as on a local disk. Its lines `# needs: PROGRAM PACKAGE` name what is
installed before, `# ack: journal` how its bridge acknowledges. `QUICK` is set for a short run. To debug one, run it by hand
on any two directories.
"""
import os
import re
import subprocess
import time
from pathlib import Path

from .place import Failed, need

SCRIPTS = Path(__file__).resolve().parent / "real"
SCRIPT_SECONDS = 1800


def run(place):
    there = sorted(path.name for path in SCRIPTS.iterdir())
    chosen = place.options.names or there
    unknown = [name for name in chosen if name not in there]
    if unknown:
        raise Failed(f"no script {', '.join(unknown)} (there are {', '.join(there)})")
    failed = [name for name in chosen if not succeeds(place, name)]
    if failed:
        raise Failed(", ".join(failed))


def succeeds(place, name):
    begun = time.monotonic()
    try:
        one(place, name)
    except Failed as why:
        print(f"  FAILED {name}: {why}", flush=True)
        return False
    print(f"  ok {name} ({time.monotonic() - begun:.0f} s)", flush=True)
    return True


def one(place, name):
    script = SCRIPTS / name
    headers = re.findall(r"^# (needs|ack): (.+)$", script.read_text(), re.MULTILINE)
    need(*(value for key, value in headers if key == "needs"))
    bridge = place.bridge(name, ack=next((value for key, value in headers if key == "ack"), None))
    directory, scratch, log = bridge.path / name, bridge.home / "scratch", bridge.home / "script.log"
    directory.mkdir()
    scratch.mkdir()
    environment = {**os.environ, "LC_ALL": "C", "QUICK": "1" if place.options.quick else ""}
    with open(log, "wb") as out:
        try:
            done = subprocess.run(
                [script, directory, scratch], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment,
                timeout=SCRIPT_SECONDS,
            ).returncode
        except subprocess.TimeoutExpired:
            done = f"no end after {SCRIPT_SECONDS} s"
    if done != 0:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise Failed(f"{done}: {''.join(last)}; all of it: {log}")
    bridge.finish()
