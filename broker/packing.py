"""Files and directories on their way to a site: as a tar archive that is made while it is sent, and a directory to work in as one
file, with its modes and links.

The archive holds plain files only, under the names that they will have in the dataset; the checksum is known before it is sent,
so that what is there already need not be.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pathspec import GitIgnoreSpec

from broker.checksums import checksum_of
from broker.errors import Fault, Invalid, TooLarge

READ_BYTES = 2**20
VERSION_DIGITS = 12
WORKDIR_FILE = "workdir.tar"
IGNORE_FILES = (".fedignore", ".gitignore")
"""The first one that is there says what stays behind, in gitignore's syntax."""
ALWAYS_LEFT = ".git/"
MOST_WORKDIR_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be sent: by name in the dataset each file, its size in bytes when it was looked at; and the sum of all."""

    files: Mapping[str, tuple[Path, int]]
    checksum: str

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(size for _, size in self.files.values())

    @property
    def version(self) -> str:
        """What a dataset's version is where none is named."""
        return version_of(self.checksum)

    def chunks(self) -> Iterator[bytes]:
        """The archive. Raises Invalid for a file that has changed in size."""
        for name, (path, size) in self.files.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode = size, 0o644
            yield header.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
            yield from _sized(path, size)
            yield bytes(-size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def version_of(checksum: str) -> str:
    """The version of a dataset that is named by its content alone."""
    return checksum.rpartition(":")[2][:VERSION_DIGITS]


def parcel_of(path: Path) -> Parcel:
    """A file under its name, or all files of a directory. Raises Invalid for what is neither."""
    with _told(path):
        found = {file.relative_to(path).as_posix(): file for file in _below(path)} if path.is_dir() else {path.name: path}
        if not found:
            raise Invalid(f"{path}: holds no file, and a dataset has at least one")
        digests, files = {}, {}
        for name, file in sorted(found.items()):
            if not stat.S_ISREG(file.stat().st_mode):
                raise Invalid(f"{file}: is no plain file: leave it out, or copy what it leads to")
            digests[name], size = _summed(file)
            files[name] = (file, size)
    return Parcel(files, checksum_of(digests))


@contextmanager
def packed_workdir(path: Path) -> Iterator[Parcel]:
    """A directory as one archive, for as long as the block lasts: what its `.fedignore` says stays behind. The same files give
    the same archive, whenever they were written. Raises Invalid, and TooLarge."""
    if not path.is_dir():
        raise Invalid(faults=[Fault("--workdir", f"{path} is no directory")])
    with TemporaryDirectory(prefix="fed-workdir-") as folder:
        target = Path(folder, WORKDIR_FILE)
        with _told(path), tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
            size = 0
            for name in _names_to_send(path):
                member = archive.gettarinfo(path / name, name)
                size += member.size
                if size > MOST_WORKDIR_BYTES:
                    most = f"{MOST_WORKDIR_BYTES / 2**30:g} GiB"
                    words = f"{path} holds more than {most}: name what stays behind in {path}/{IGNORE_FILES[0]}, or send data by "
                    raise TooLarge(faults=[Fault("--workdir", f"{words}`fed dataset put` and read it as an input")])
                _add(archive, member, path / name)
        yield parcel_of(target)


def _add(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    if member.islnk():  # the second name of a file: sent as a file of its own
        member.type, member.linkname, member.size = tarfile.REGTYPE, "", path.stat().st_size
    if member.isreg():
        with path.open("rb") as file:
            archive.addfile(member, file)
    elif member.issym() or member.isdir():
        archive.addfile(member)
    else:
        words = f"{path} is neither a file nor a folder: leave it behind, by {IGNORE_FILES[0]}"
        raise Invalid(faults=[Fault("--workdir", words)])


def _names_to_send(path: Path) -> list[str]:
    """Relative paths of files, links and folders, sorted: a folder comes before what it holds."""
    rules = next((path / name for name in IGNORE_FILES if (path / name).is_file()), None)
    spec = GitIgnoreSpec.from_lines([ALWAYS_LEFT, *(rules.read_text().splitlines() if rules else ())])
    found = []
    for above, folders, files in os.walk(path, onerror=_raise):
        here = Path(above).relative_to(path)
        kept = [name for name in folders if not spec.match_file(f"{(here / name).as_posix()}/")]
        folders[:] = kept
        found += [(here / name).as_posix() for name in kept]
        found += [name for file in files if not spec.match_file(name := (here / file).as_posix())]
    return sorted(found)


def _below(path: Path) -> Iterator[Path]:
    for above, folders, files in os.walk(path, onerror=_raise):
        for name in folders:
            if Path(above, name).is_symlink():
                raise Invalid(f"{Path(above, name)}: is a link to a directory: leave it out, or copy what it leads to")
        yield from (Path(above, name) for name in files)


def _raise(error: OSError) -> None:
    raise error


def _summed(path: Path) -> tuple[bytes, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.digest(), size


def _sized(path: Path, size: int) -> Iterator[bytes]:
    """A file's bytes, neither more nor less than it had."""
    left = size
    with _told(path), path.open("rb") as file:
        while left:
            chunk = file.read(min(left, READ_BYTES))
            if not chunk:
                raise Invalid(f"{path}: became shorter while it was sent")
            left -= len(chunk)
            yield chunk


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the operating system refuses, as our error."""
    try:
        yield
    except OSError as error:
        raise Invalid(f"{error.filename or path}: {error.strerror or error}") from error
