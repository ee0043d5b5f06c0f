"""Jobs from what people wrote: files of documents, and scripts whose `#FED` lines say what they need."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.cli.options import SHORT, fields_of, merged
from broker.cli.session import text_of
from broker.errors import Fault, Invalid

if TYPE_CHECKING:
    from broker.client import Json

DIRECTIVE = re.compile(r"#FED(?:[ \t](.*))?")
LISTS = ("input", "save", "site", "prefer")
FOREIGN = re.compile(r"#(SBATCH|BSUB|PBS)\b")


def bodies_of(file: Path) -> list[Json]:
    """The jobs of a file of documents. Raises Invalid, before anything is sent."""
    from broker.documents import parse_documents

    documents = parse_documents(text_of(file), default_kind="Job")
    strangers = [document for document in documents if document.kind != "Job"]
    if strangers:
        raise Invalid(faults=[Fault("kind", "use `fed apply` for what is no job", each.number, each.line) for each in strangers])
    if not documents:
        raise Invalid(f"{file}: holds no job")
    return [dict(document.plain) for document in documents]


def has_foreign_lines(text: str) -> bool:
    """Whether it asks another scheduler for something, and us for nothing."""
    lines = text.splitlines()
    return any(FOREIGN.match(line) for line in lines) and not any(DIRECTIVE.fullmatch(line) for line in lines)


def scripted(text: str, name: str, over: Mapping[str, Any]) -> Json:
    """The job of a script: its `#FED` lines up to the first command are one YAML mapping, in which the short words of options
    may stand too; faults name their lines. What `over` says is stronger. Raises Invalid."""
    from broker.documents import parse_documents

    lines: list[str] = []
    short: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found = DIRECTIVE.fullmatch(line)
        if not found and line.strip() and not line.startswith("#"):
            break
        said = (found[1] or "") if found else ""
        if said.partition(":")[0].strip() in SHORT:
            _take(short, said, number)
            said = ""
        lines.append(said)
    fields = {line.partition(":")[0].strip() for line in lines}
    lines += [f"{field}: {json.dumps(value)}" for field, value in {"name": name, "script": text}.items() if field not in fields]
    body = dict(parse_documents("\n".join(lines), default_kind="Job")[0].plain)
    return merged(merged(body, fields_of(short)), over)


def _take(short: dict[str, Any], said: str, number: int) -> None:
    """One short word of a script; lists grow where it comes again. Raises Invalid with the line."""
    from broker.documents.reading import parse_plain

    word = said.partition(":")[0].strip()
    try:
        value = parse_plain(said)[0][word]
        if word in LISTS:
            value = [*short.get(word, ()), *([value] if isinstance(value, str) else value)]
        fields_of({word: value})
    except Invalid as error:
        raise Invalid(faults=[Fault(word, fault.message, line=number) for fault in error.faults]) from error
    except TypeError as error:
        raise Invalid(faults=[Fault(word, f"{said} is not `{word}: ` and a value", line=number)]) from error
    short[word] = value
