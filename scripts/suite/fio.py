"""fio: what 4 jobs write is read back and checked, at once, and again from the stores by a mount that has no cache."""
import os
import subprocess

from .place import Failed, need

JOBS = 4
SIZE_MIB, SIZE_QUICK_MIB = 64, 4
# With O_DIRECT the engine mmap calls msync after each write, which sends the whole file to the store each time.
SIZE_SENT_EACH_TIME_MIB = 8
ENGINES = ("mmap", "libaio", "io_uring")
PATTERNS = {"random": "randwrite", "sequential": "write"}


def run(place):
    need("fio fio")
    chosen = place.options.names or ENGINES
    unknown = [name for name in chosen if name not in ENGINES]
    if unknown:
        raise Failed(f"no engine {', '.join(unknown)} (there are {', '.join(ENGINES)})")
    bridge = place.bridge("bridge")
    works = [(engine, direct, pattern) for engine in chosen for direct in (0, 1) for pattern in PATTERNS]
    for work in works:
        fio(place, bridge.path, *work)
    bridge.forget_blocks()
    for work in works:
        fio(place, bridge.path, *work, again=True)
    print(f"  {len(works)} combinations of {JOBS} jobs: verified, and once more from the stores")
    bridge.finish()


def size_mib(place, engine, direct):
    if place.options.quick:
        return SIZE_QUICK_MIB
    return SIZE_SENT_EACH_TIME_MIB if engine == "mmap" and direct else SIZE_MIB


def fio(place, directory, engine, direct, pattern, again=False):
    """Writes and verifies; with `again` only verifies what an earlier call wrote."""
    name = f"{engine}-{'direct' if direct else 'buffered'}-{pattern}"
    (directory / name).mkdir(exist_ok=True)
    options = {
        "name": "job", "directory": directory / name, "ioengine": engine, "direct": direct, "rw": PATTERNS[pattern],
        "bsrange": "4k-64k" if pattern == "random" else "64k-64k", "blockalign": "4k", "size": f"{size_mib(place, engine, direct)}m", "numjobs": JOBS,
        "iodepth": 8, "verify": "crc32c", "do_verify": 1, "verify_fatal": 1, "verify_state_save": 0, "randseed": 7,
        "group_reporting": 1, "thread": 0, "fallocate": "none", "end_fsync": 1,
    }
    command = ["fio", *(f"--{key}={value}" for key, value in options.items())] + (["--verify_only"] if again else [])
    done = subprocess.run(command, capture_output=True, text=True, cwd=place.home, env={**os.environ, "LC_ALL": "C"})
    said = done.stdout + done.stderr
    if done.returncode != 0 or "err= 0" not in said:
        log = place.home / f"{name}{'-again' if again else ''}.log"
        log.write_text(said)
        first = next((line for line in said.splitlines() if "error" in line or "verify" in line), said[:200])
        raise Failed(f"fio {name}{' again' if again else ''}: {first.strip()}; all of it: {log}; the command: {' '.join(map(str, command))}")
