"""The demo's world and work: which files are which dataset, and which jobs run over them."""

from __future__ import annotations

import sysconfig
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"

HOMES: Mapping[str, tuple[str, ...]] = {
    "net": ("ams",),
    "text": ("fra", "osl"),
    "tools": ("iad",),
    "am": ("osl",),
    "nz": ("sin",),
}
"""Where each part lies at first; configs/demo/federation.yaml declares the same."""

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "net": ("asyncio", "concurrent", "email", "http", "logging", "multiprocessing", "urllib", "wsgiref", "xmlrpc"),
    "text": ("collections", "encodings", "html", "json", "re", "tomllib", "xml"),
}
"""Packages of a part. All other packages are `tools`; modules of a single file are `am` or `nz` by their first letter."""

LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test"}

Files = Mapping[str, bytes]
"""Path below a dataset or an output -> content."""


@dataclass(frozen=True, slots=True)
class Work:
    """One job: a document of configs/demo/jobs.yaml over some parts."""

    kind: str
    parts: tuple[str, ...]
    objective: str

    @property
    def name(self) -> str:
        """The job's name, which is also that of its output."""
        return "-".join((self.kind, *self.parts))

    @property
    def tasks(self) -> int:
        """How many tasks its document asks for."""
        return 3 if self.kind == "gang" else 1

    def document(self, root: Path) -> str:
        """The job as YAML; its journal is in `root`. Raises KeyError for a kind that jobs.yaml does not have."""
        text = _templates()[self.kind].replace("@dir@", str(root)).replace("@objective@", self.objective)
        for placeholder, part in zip(("@part@", "@other@"), self.parts, strict=False):
            text = text.replace(placeholder, part)
        return text


LATER = tuple(Work("merge", pair, "fastest") for pair in (("net", "tools"), ("am", "nz"), ("text", "net")))
"""What is submitted when the first jobs are over, for it works on their outputs."""


def standard_library() -> dict[str, Files]:
    """The source files of this Python's standard library by part, a dozen MB; tests and installed packages are left out."""
    root = Path(sysconfig.get_path("stdlib"))
    parts: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in sorted(root.rglob("*.py")):
        below = path.relative_to(root)
        if LEFT_OUT.isdisjoint(below.parts) and path.is_file():
            parts[part_of(below)][str(below)] = path.read_bytes()
    return dict(parts)


def part_of(path: Path) -> str:
    """The part that a file belongs to, by its path below the standard library."""
    top = path.parts[0]
    if len(path.parts) == 1:
        return "am" if top.lower() < "n" else "nz"
    return next((part for part, packages in PACKAGES.items() if top in packages), "tools")


def place(parts: Mapping[str, Files], root: Path) -> None:
    """Write each part into the storage of the sites where it lies at first, below `root`/sites."""
    for part, sites in HOMES.items():
        for site in sites:
            for name, content in parts[part].items():
                path = root / "sites" / site / f"stdlib-{part}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


def federation(root: Path) -> str:
    """The sites, links and datasets as YAML, with storages below `root`/sites."""
    return (CONFIGS / "federation.yaml").read_text().replace("@dir@", str(root))


def first_jobs() -> Sequence[Work]:
    """What is submitted at once: every kind over every part, pairs of parts from two sites, gangs, and one that fails."""
    objectives = ("fastest", "cheapest", "greenest")
    over: list[tuple[str, tuple[str, ...]]] = []
    over += [(kind, (part,)) for kind in ("slow", "words", "lines", "search", "sums", "archive", "imports") for part in HOMES]
    over += [("common", pair) for pair in (("net", "text"), ("net", "am"), ("tools", "nz"), ("text", "am"))]
    over += [("gang", (part,)) for part in ("net", "tools", "nz")]
    over += [("wrong", ("text",))]
    return [Work(kind, parts, objectives[number % len(objectives)]) for number, (kind, parts) in enumerate(over)]


def _templates() -> dict[str, str]:
    documents = (CONFIGS / "jobs.yaml").read_text().split("\n---\n")
    return {document.split("name: ", 1)[1].split("-@", 1)[0]: document for document in documents}
