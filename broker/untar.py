"""A tar archive that is read once, from its beginning to its end, and becomes files of a site's storage."""

from __future__ import annotations

import hashlib
import os
import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Protocol, cast

from broker.checksums import checksum_of
from broker.documents.fields import has_half_characters
from broker.errors import Fault, Invalid, TooLarge
from broker.storage import READ_BYTES, Beat, Folder, Tree

MOST_FILES = 100_000
MOST_NAME_BYTES = 1_024
MOST_TOLD = 100
MOST_PART_BYTES = 255
"""Of a name between two slashes: what the file systems of Linux take."""
HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Kinds of members that say something of the next ones, and are read at once."""
MOST_HEADER_BYTES = 2**20
END: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # the stubs do not know it
"""A block of zeros where a file's header was due."""


class Source(Protocol):
    """Bytes as they come."""

    def read(self, size: int) -> bytes:
        """So many, unless it is the end. Raises what has cut them off, which should be no OSError."""


class Member(tarfile.TarInfo):
    """What `tarfile` would pass over: that an archive has no end, since it was cut off between two files, and headers that would
    fill the memory."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:
        """As `TarInfo`."""
        try:
            return super().fromtarfile(tarfile)
        except END:
            tarfile.has_end = True
            raise

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        """As `TarInfo`."""
        found = super().frombuf(buf, encoding, errors)
        if found.type in HEADERS and found.size > MOST_HEADER_BYTES:
            raise tarfile.ReadError("a header is too long")
        return found


class Archive(tarfile.TarFile):
    """An archive that knows whether it has ended."""

    tarinfo = Member
    has_end = False


def untar(source: Source, folder: Folder, place: str, most_bytes: int, beat: Beat) -> Tree:
    """Write the archive's files below `place`; the sum of what was written. `beat` is called whenever it got on. Raises Invalid
    for what is no archive or holds what cannot be a dataset's, TooLarge, StorageError, and what `source` raises."""
    digests: dict[str, bytes] = {}
    folders: set[str] = set()
    size = 0
    try:
        with Archive.open(fileobj=cast(IO[bytes], source), mode="r|", bufsize=READ_BYTES) as archive:
            for member in archive:
                if member.isdir():
                    continue
                name = _name(member, digests, folders)
                size += member.size
                if size > most_bytes:
                    raise TooLarge(f"the files are larger than the {most_bytes / 2**30:g} GiB that an upload may have here")
                content = archive.extractfile(member)
                assert content is not None  # so it is for plain files
                digest = hashlib.sha256()
                folder.write(posixpath.join(place, name), _noted(content, digest, beat))
                digests[name] = digest.digest()
            if not archive.has_end:
                raise tarfile.ReadError("it has no end")
    except tarfile.TarError as error:
        words = f"is no whole tar archive ({error}): send what `tar -c` makes, uncompressed"
        raise Invalid(faults=[Fault("body", words)]) from error
    while source.read(READ_BYTES):  # it is padded; who sends it waits until all is taken
        beat()
    if not digests:
        raise Invalid(faults=[Fault("body", "holds no file: a dataset has at least one")])
    return Tree(size, checksum_of(digests))


def _noted(content: IO[bytes], digest: Any, beat: Beat) -> Iterator[bytes]:
    """A file's bytes, each piece taken into the digest as it goes by."""
    while chunk := content.read(READ_BYTES):
        digest.update(chunk)
        beat()
        yield chunk


def _name(member: tarfile.TarInfo, files: dict[str, bytes], folders: set[str]) -> str:
    """The file's path in the dataset. Raises Invalid, and adds the folders above it to `folders`."""
    told = os.fsencode(member.name).decode(errors="backslashreplace")[:MOST_TOLD]

    def refused(why: str) -> Invalid:
        return Invalid(faults=[Fault(f"body: {told!r}", why)])

    if not member.isreg():
        raise refused("is neither a plain file nor a folder: send what it leads to (`tar -h`), or leave it out")
    if len(files) >= MOST_FILES:
        raise refused(f"is one more than the {MOST_FILES} files that a dataset may have: send them as an archive within")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise refused("points out of the dataset: use names below it")
    name = posixpath.normpath(member.name)
    if name == "." or not (name.isprintable() or has_half_characters(name)):
        raise refused("is no name for a file: use printable characters")
    parts = name.split("/")
    if len(os.fsencode(name)) > MOST_NAME_BYTES or max(len(os.fsencode(part)) for part in parts) > MOST_PART_BYTES:
        raise refused(f"is too long: use {MOST_NAME_BYTES} bytes at most, and {MOST_PART_BYTES} between two slashes")
    above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if name in files or name in folders or any(each in files for each in above):
        raise refused("is there twice, or as a file and as a folder")
    folders |= above
    return name
