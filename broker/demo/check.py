"""The same work done here in Python: what each job must have found, and whether it has."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from broker.demo.scenario import Files, Work

WORD = re.compile(rb"[A-Za-z0-9_]+")
IMPORT = re.compile(rb"^import ([a-z][^ \t\n]*)", re.MULTILINE)


def expected(work: Work, parts: Mapping[str, Files]) -> Files:
    """The output that a job of configs/demo/jobs.yaml must have, as `found` reads it."""
    return _TWINS[work.kind](*(parts[part] for part in work.parts))


def found(work: Work, folder: Path) -> Files:
    """The output that was downloaded to `folder`: archives unpacked, the shares of a gang put together."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    if work.kind == "archive":
        return {name: content for archive in files.values() for name, content in _unpacked(archive)}
    if work.kind == "gang":
        shares = [share.splitlines(keepends=True) for share in files.values() if share]
        return {f"{len(shares)} shares": b"".join(sorted(line for share in shares for line in share))}
    return files


def difference(want: Files, have: Files) -> str:
    """What is wrong with an output, in words; empty when nothing is."""
    if missing := want.keys() - have.keys():
        return f"has no {', '.join(sorted(missing)[:3])}"
    if extra := have.keys() - want.keys():
        return f"has {', '.join(sorted(extra)[:3])}, which should not be there"
    wrong = [name for name in want if want[name] != have[name]]
    return f"{wrong[0]} is {_quote(have[wrong[0]])}, not {_quote(want[wrong[0]])}" if wrong else ""


def runs(journal: str, due: Iterable[str]) -> list[str]:
    """What the journal says against 'each of these lines once, and no other'."""
    seen, lines = Counter(journal.splitlines()), set(due)
    wrong = [f"journal: {line!r} {seen[line]} times, not once" for line in sorted(lines) if seen[line] != 1]
    return wrong + [f"journal: {line!r}, a run that should not have been" for line in seen if line not in lines]


def lines_of(job: str, attempt: int, work: Work) -> Iterable[str]:
    """The journal's lines of a job that ran once, as this attempt: `<job> <attempt> <task>`."""
    return (f"{job} {attempt} {task}" for task in range(work.tasks))


def _lines(part: Files) -> Files:
    return {"lines": b"%d\n" % sum(content.count(b"\n") for content in part.values())}


def _words(*parts: Files) -> Files:
    return {"words": _listed(set().union(*map(_vocabulary, parts)))}


def _common(one: Files, other: Files) -> Files:
    return {"words": _listed(_vocabulary(one) & _vocabulary(other))}


def _search(part: Files) -> Files:
    return {"files": _listed(f"./{name}".encode() for name, content in part.items() if b"raise ValueError" in content)}


def _sums(part: Files) -> Files:
    return {"sums": b"".join(_hashed(part))}


def _slow(part: Files) -> Files:
    return {"sums": b"".join(_hashed(part)[:40])}


def _gang(part: Files) -> Files:
    return {"3 shares": b"".join(sorted(_hashed(part)))}


def _archive(part: Files) -> Files:
    return part


def _imports(part: Files) -> Files:
    counts = Counter(module for content in part.values() for module in IMPORT.findall(content))
    top = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))[:20]
    return {"top": b"".join(b"%d %s\n" % (count, module) for module, count in top)}


_TWINS: Mapping[str, Callable[..., Files]] = {
    "lines": _lines,
    "words": _words,
    "search": _search,
    "sums": _sums,
    "archive": _archive,
    "imports": _imports,
    "common": _common,
    "gang": _gang,
    "slow": _slow,
    "merge": _words,
}


def _vocabulary(part: Files) -> set[bytes]:
    return {word for content in part.values() for word in WORD.findall(content)}


def _listed(items: Iterable[bytes]) -> bytes:
    return b"".join(item + b"\n" for item in sorted(items))


def _hashed(part: Files) -> Sequence[bytes]:
    """Lines as sha256sum prints them, in the order of the paths' bytes."""
    paths = sorted(part, key=lambda name: f"./{name}".encode())
    return [f"{hashlib.sha256(part[name]).hexdigest()}  ./{name}\n".encode() for name in paths]


def _unpacked(archive: bytes) -> Iterable[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            if content := members.extractfile(member):
                yield member.name.removeprefix("./"), content.read()


def _quote(content: bytes) -> str:
    return f"{content[:60]!r}{'...' if len(content) > 60 else ''} ({len(content)} bytes)"
