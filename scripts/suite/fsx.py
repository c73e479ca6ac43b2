"""fsx: random operations on files, each read checked. Memory maps are on, as is everything that ext4 can do."""
import filecmp
import os
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from .crates import install, preload
from .place import Failed

FIXED_SEED = 1
OPS, OPS_QUICK = 1_000_000, 3_000
OPS_FLAPPING, OPS_REMOUNT = 1_000, 1_000
AWAY_SECONDS = 1.0
# Out of about 100.
WEIGHTS = {
    "close_open": 3, "invalidate": 2, "mapread": 15, "mapwrite": 15, "read": 15, "write": 15, "truncate": 10,
    "fsync": 1, "fdatasync": 1, "posix_fallocate": 3, "punch_hole": 6, "sendfile": 5, "posix_fadvise": 4, "copy_file_range": 5,
}
SMALL_CACHE_BYTES = 8 << 20
# fsx 0.3.2 never unmaps what it maps to read. The kernel walks all of it whenever the file is cut, which makes a long run
# quadratic, and after 65,530 mappings, not half of the way, mmap fails, on ext4 too. So each mapping ends with the next.
UNMAP_SHIM = """
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *last;
static size_t last_length;
int munmap(void *at, size_t length) {
    if (at == last) last = 0;
    return syscall(SYS_munmap, at, length);
}
void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    void *mapped = (void *)syscall(SYS_mmap, at, length, protection, flags, file, offset);
    if (mapped != MAP_FAILED && (flags & MAP_SHARED) && file >= 0) {
        if (last) munmap(last, last_length);
        last = mapped;
        last_length = length;
    }
    return mapped;
}
void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
"""


def run(place):
    parts = {"plain": plain, "evictions": evictions, "flapping": flapping, "remounts": remounts}
    chosen = list(dict.fromkeys(place.options.names)) or list(parts)
    unknown = [name for name in chosen if name not in parts]
    if unknown:
        raise Failed(f"fsx has no part {', '.join(unknown)} (it has {', '.join(parts)})")
    fsx = Fsx(place)
    for name in chosen:
        begun = time.monotonic()
        parts[name](place, fsx)
        print(f"  {name}: {time.monotonic() - begun:.0f} s", flush=True)


def plain(place, fsx):
    """A fixed seed and a random one."""
    bridge = place.bridge("plain")
    for seed in fsx.seeds:
        place.to_repeat("plain", "--seed", str(seed))
        fsx.exercise(bridge.path / f"seed-{seed}", fsx.ops, seed)
    bridge.finish()


def evictions(place, fsx):
    """Files of 4 MiB that do not fit into the cache together, and are closed so often that most of it may be evicted."""
    bridge = place.bridge("evictions", cache='size = "8MiB"')
    place.to_repeat("evictions", "--seed", str(fsx.seeds[-1]))
    # So many that what they have in all is surely more than the cache, wherever each of them was cut last.
    fsx.together(bridge.path, 16, flen=4 << 20, close_open=5)
    if not place.options.native:
        status = bridge.status()
        if status["bytes"] <= SMALL_CACHE_BYTES:
            raise Failed(f"the files have {status['bytes']} bytes in all: nothing had to be evicted")
        print(f"  {status['bytes'] >> 20} MiB in the files, {status['cache_bytes'] >> 20} MiB of them cached")
    bridge.finish()


def flapping(place, fsx):
    """One store goes away every second, first the one that acknowledges, then the other one."""
    for which in (0, 1):
        name = ("first", "second")[which]
        bridge = place.bridge(f"flapping-{name}")
        seed, done = fsx.seeds[which % len(fsx.seeds)], 0
        place.to_repeat("flapping", "--seed", str(seed))
        with Flapping(bridge, which) as flapping:
            # Shortened, it could be over before anything happened.
            while done < fsx.ops // 2 or flapping.times < 3:
                fsx.exercise(bridge.path / f"file-{done}", OPS_FLAPPING, seed + done)
                done += OPS_FLAPPING
        print(f"  {done} operations while the {name} store went away {flapping.times} times")
        bridge.finish()


def remounts(place, fsx):
    """Every thousand operations an unmount and a mount; then each file is what it is on the disk after the same ones."""
    bridge = place.bridge("remounts")
    native = place.folder("native")
    seed = fsx.seeds[-1]
    place.to_repeat("remounts", "--seed", str(seed))
    for turn in range(fsx.ops // OPS_REMOUNT):
        name = f"file-{turn % 7}"
        fsx.exercise(bridge.path / name, OPS_REMOUNT, seed + turn)
        fsx.exercise(native / name, OPS_REMOUNT, seed + turn)
        bridge.umount()
        bridge.mount()
        for file in native.iterdir():
            if not filecmp.cmp(file, bridge.path / file.name, shallow=False):
                raise Failed(f"{file.name} is another one than {file} after remount {turn} (seed {seed})")
    bridge.finish()


class Flapping:
    """A store that is away for a second, every other second, as long as the `with` lasts."""

    def __init__(self, bridge, which):
        self.folder, self.times = bridge.folders[which], 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.flap)

    def flap(self):
        away = self.folder.with_suffix(".away")
        while not self.over.wait(AWAY_SECONDS):
            self.folder.rename(away)
            self.over.wait(AWAY_SECONDS)
            away.rename(self.folder)
            self.times += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Fsx:
    """The program, how much of it, and with which seeds."""

    def __init__(self, place):
        self.program, self.home = install(place.tools, "fsx"), place.home
        self.environment = {**os.environ, **preload(place.home, "unmap", UNMAP_SHIM)}
        self.ops = place.options.ops or (OPS_QUICK if place.options.quick else OPS)
        self.seeds = [place.options.seed] if place.options.seed is not None else [FIXED_SEED, random.randrange(1 << 32)]
        left_out = set(filter(None, place.options.without.split(",")))
        self.weights = {name: weight for name, weight in WEIGHTS.items() if name not in left_out}
        if left_out:
            print(f"  left out: {', '.join(sorted(left_out))}")
        print(f"  {self.ops} operations, seeds {', '.join(map(str, self.seeds))}", flush=True)

    def config(self, flen, close_open):
        """A file with the settings; the same settings are the same file."""
        weights = {**self.weights, **({"close_open": close_open} if close_open else {})}
        path = self.home / f"fsx-{flen}-{close_open}.toml"
        # A posix_fallocate of nothing is EINVAL, and fsx takes that for a file system that has none.
        lines = [f"flen = {flen}", "[opsize]", "min = 1", "max = 65536", "[weights]", *(f"{name} = {weights[name]}" for name in weights)]
        path.write_text("\n".join(lines) + "\n")
        return path

    def exercise(self, file, ops, seed, flen=256 << 10, close_open=0):
        config = self.config(flen, close_open)
        artifacts = self.home / "artifacts"
        artifacts.mkdir(exist_ok=True)
        command = [self.program, "-f", config, "-N", str(ops), "-S", str(seed), "-P", artifacts, file]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        if done.returncode != 0:
            log = artifacts / f"{file.name}-{seed}.log"
            log.write_text(done.stdout + done.stderr)
            said = (done.stderr + done.stdout).strip().splitlines()
            raise Failed(f"fsx, seed {seed}: {said[0] if said else done.returncode}; all of it: {log}; the command: {' '.join(map(str, command))}")

    def together(self, directory, count, **settings):
        """`count` files at once, of one seed each, fixed and random by turns."""
        def one(at):
            seed = self.seeds[at % len(self.seeds)] + at
            self.exercise(directory / f"seed-{seed}", self.ops // count, seed, **settings)

        with ThreadPoolExecutor(count) as pool:
            for done in [pool.submit(one, at) for at in range(count)]:
                done.result()
