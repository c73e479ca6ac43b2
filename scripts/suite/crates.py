"""Test programs that are Rust crates, pinned."""
import os
import subprocess

from .place import need

VERSIONS = {"pjdfstest": "0.2.2", "fsx": "0.3.2"}
# They wait for the file system most of their time: built fast rather than fast.
PROFILE = {"CARGO_PROFILE_RELEASE_OPT_LEVEL": "1", "CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}


def install(tools, crate):
    """The program from crates.io, in `tools`/bin."""
    program, version = tools / "bin" / crate, VERSIONS[crate]
    if program.exists() and version in subprocess.run([program, "--version"], capture_output=True, text=True).stdout:
        return program
    need("cc build-essential")
    command = ["cargo", "install", "--locked", "--quiet", "--version", version, "--root", tools, crate]
    subprocess.run(command, check=True, env={**os.environ, **PROFILE})
    return program


def install_all(tools):
    """All of them."""
    for crate in VERSIONS:
        install(tools, crate)


def preload(home, name, source):
    """The environment of a program for which the library of this C source, built in `home`, stands before glibc."""
    need("cc build-essential")
    library = home / f"{name}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-"], input=source, text=True, check=True)
    return {"LD_PRELOAD": str(library)}
