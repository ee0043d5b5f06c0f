"""What each job of the mixed federation must have come to, worked out here from the same files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TEXTS = {f"part-{number}": "".join(f"line {line} of part {number}\n" for line in range(200)) for number in range(10)}
NUMBERS = {f"part-{number}": "".join(f"{number * 100 + line}\n" for line in range(100)) for number in range(5)}

ENDS: Mapping[str, tuple[str, str | None, int | None, int | None]] = {
    "exits": ("failed", "program-failed", 3, None),
    "crashes": ("failed", "program-failed", None, 6),
    "missing": ("failed", "start-failed", None, None),
    "cancelled": ("cancelled", "cancelled", None, None),
}
"""By shape: phase, ending, exit code and signal. What is not named here succeeds."""

RESULTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "words": ("words", {"count": str(sum(len(text.split()) for text in TEXTS.values()))}),
    "sum": ("sum", {"total": str(sum(int(line) for text in NUMBERS.values() for line in text.split()))}),
    "both": ("both", {"bytes": str(sum(map(len, [*TEXTS.values(), *NUMBERS.values()])))}),
    "gang": ("parts", {str(task): f"{task} of 3" for task in range(3)}),
    "pair": ("lines", {str(task): str(sum(text.count("\n") for text in TEXTS.values())) for task in range(2)}),
    "wide": ("greeting", {"text": "it's me"}),
}
"""By shape: the output, and what is in its files."""


def write_storage(folder: Path, sites: Iterable[str]) -> None:
    """Each site's storage, and the two datasets where the documents say that they lie."""
    for site in sites:
        (folder / site).mkdir(parents=True)
    for site, name, texts in (("hpc", "corpus", TEXTS), ("cloud", "numbers", NUMBERS)):
        place = folder / site / name
        place.mkdir()
        for part, text in texts.items():
            (place / part).write_text(text)


def shape_of(job: Mapping[str, Any]) -> str:
    """The shape in the name of a job: `gang-17` is a gang."""
    return str(job["name"]).rpartition("-")[0]


def faults(jobs: Sequence[Mapping[str, Any]], submitted: int, sites: Path) -> list[str]:
    """What is not as it must be; empty when all is well."""
    found = [] if len(jobs) == submitted else [f"{len(jobs)} jobs are known, {submitted} were submitted"]
    starts = _starts(sites)
    for job in jobs:
        found += [f"{job['name']} ({job['id']}): {fault}" for fault in (*_end(job), *_result(job, sites), *_often(job, starts))]
    return found


def _end(job: Mapping[str, Any]) -> list[str]:
    phase, ending, code, signal = ENDS.get(shape_of(job), ("succeeded", None, 0, None))
    if job["phase"] != phase:
        return [f"{job['phase']}, not {phase}: {job['reason']}"]
    if phase == "cancelled":
        return []
    said = tuple(job["attempts"][-1][field] for field in ("ending", "exit_code", "signal"))
    return [] if said == (ending, code, signal) else [f"ended with {said}, not {(ending, code, signal)}"]


def _result(job: Mapping[str, Any], sites: Path) -> list[str]:
    if shape_of(job) not in RESULTS or job["phase"] != "succeeded":
        return []
    output, files = RESULTS[shape_of(job)]
    attempt = job["attempts"][-1]
    (folder,) = (sites / attempt["site"] / ".fed" / "outputs").glob(f"*-{job['id']}-a{attempt['number']}")
    made = {file.name: file.read_text().strip() for file in (folder / output).iterdir()}
    return [] if made == files else [f"{output} holds {made}, not {files}"]


def _starts(sites: Path) -> Counter[tuple[str, str]]:
    """How often each task of each job ran, at all sites and in all attempts, by what the tasks themselves wrote."""
    lines = (line for file in sites.glob("*/.fed/outputs/*/started/*") for line in file.read_text().splitlines())
    return Counter((job, task) for job, task in map(str.split, lines))


def _often(job: Mapping[str, Any], starts: Counter[tuple[str, str]]) -> list[str]:
    tasks = {"gang": 3, "pair": 2, "missing": 0}.get(shape_of(job), 1)
    found = []
    for task in range(tasks):
        count = starts[job["id"], str(task)]
        if count > 1 or (count == 0 and shape_of(job) != "cancelled"):
            found.append(f"task {task} ran {count} times")
    return found
