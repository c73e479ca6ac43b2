"""What is in a folder store and in a mount, read without the program: names, content, owner, mode, mtime."""
import hashlib
import os
import stat

ATTRIBUTE = "user.bridgefs.object"
# What a program on the mount can see of an object's metadata.
SEEN = ("mode", "uid", "gid", "mtime")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walk(top):
    for folder, folders, files in os.walk(top):
        if folder == str(top) and ".bridgefs" in folders:
            folders.remove(".bridgefs")
        # A symbolic link to a directory is listed as one, and is an object like any other.
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            yield os.path.relpath(path, top), path


def of_folder(top):
    """Every object: its content, its file's own mode and mtime, and all metadata but the id of the put."""
    found = {}
    for name, path in walk(top):
        at = os.lstat(path)
        try:
            lines = os.getxattr(path, ATTRIBUTE).decode().split("\n")
        except OSError:
            lines = []
        metadata = dict(line.split("=", 1) for line in lines[2:])
        found[name] = {
            "content": digest(path), "file's mode": oct(at.st_mode), "file's mtime": at.st_mtime_ns,
            "content type": lines[1:2], **metadata,
        }
    return found


def of_mount(top):
    """Every name that is one object: directories are none."""
    found = {}
    for name, path in walk(top):
        at = os.lstat(path)
        if stat.S_ISLNK(at.st_mode):
            content = hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
        elif stat.S_ISREG(at.st_mode):
            content = digest(path)
        else:
            content = hashlib.sha256().hexdigest()
        seconds, nanos = divmod(at.st_mtime_ns, 1_000_000_000)
        found[name] = {
            "content": content, "mode": f"{at.st_mode:o}", "uid": str(at.st_uid), "gid": str(at.st_gid),
            "mtime": f"{seconds}.{nanos:09}",
        }
    return found


def as_seen(objects):
    """The objects of a store with only what a program on the mount can see of them."""
    return {name: {"content": it["content"], **{key: it.get(key) for key in SEEN}} for name, it in objects.items()}


def differences(left, right):
    lines = []
    for name in sorted({*left, *right}):
        if name not in left or name not in right:
            lines.append(f"{name}: only in the {'first' if name in left else 'second'} of the two")
            continue
        for key in sorted({*left[name], *right[name]}):
            a, b = left[name].get(key), right[name].get(key)
            if a != b:
                lines.append(f"{name}: {key}: {a} and {b}")
    return lines
