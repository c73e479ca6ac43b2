"""Test programs that are Rust crates."""
import subprocess

from .place import need


def install(tools, crate, version):
    """A pinned program from crates.io, in `tools`/bin."""
    program = tools / "bin" / crate
    if program.exists() and version in subprocess.run([program, "--version"], capture_output=True, text=True).stdout:
        return program
    need("cc build-essential")
    command = ["cargo", "install", "--locked", "--quiet", "--version", version, "--root", tools, crate]
    subprocess.run(command, check=True)
    return program
