"""What a user brings in place of a composition's part: the documents of a federation, and jobs of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from broker.documents import (
    DatasetBody,
    Document,
    DocumentError,
    LinkBody,
    SiteBody,
    TenantBody,
    dataset_of,
    link_of,
    parse_documents,
    site_of,
    tenant_of,
)
from broker.errors import Fault, Invalid
from broker.records import Tenant
from broker.simulator.readers import READERS, BadTrace, Recorded
from topology.dataset import Dataset, Replica
from topology.link import Link
from topology.site import Site

B = TypeVar("B")

BY_SUFFIX: Mapping[str, str] = {".swf": "swf", ".csv": "table", ".parquet": "table"}
"""What a file of jobs is taken for, unless told; `.gz` behind is no matter."""


@dataclass(frozen=True, slots=True)
class Federation:
    """What a file declares."""

    sites: tuple[Site, ...]
    links: tuple[Link, ...]
    datasets: tuple[Dataset, ...]
    replicas: tuple[Replica, ...]
    tenants: tuple[Tenant, ...]


def read_federation(path: Path) -> Federation:
    """From documents as `fed apply` takes them. Raises Invalid, with file, document, line and field of all that is wrong: links
    and replicas at sites that are not declared too; OSError where the file cannot be read."""
    try:
        documents = parse_documents(path.read_text(encoding="utf-8"))
        found = _federation(documents)
    except UnicodeDecodeError as error:
        raise Invalid(f"{path}: {error}: it is not text in UTF-8") from error
    except DocumentError as error:
        raise Invalid(faults=[Fault(f"{path}: {fault}", "") for fault in error.faults]) from error
    return found


def _federation(documents: Sequence[Document]) -> Federation:
    sites = tuple(site_of(body) for body in _bodies(documents, SiteBody))
    faults = _faults(documents, {site.name for site in sites})
    if not sites:
        faults.append(Fault("document", "there is no site: declare one with `kind: Site`"))
    if faults:
        raise DocumentError(faults=faults)
    declared = [dataset_of(body, 0.0) for body in _bodies(documents, DatasetBody)]
    return Federation(
        sites,
        tuple(link_of(body) for body in _bodies(documents, LinkBody)),
        tuple(dataset for dataset, _ in declared),
        tuple(replica for _, replicas in declared for replica in replicas),
        tuple(tenant_of(body) for body in _bodies(documents, TenantBody)),
    )


def _bodies(documents: Sequence[Document], model: type[B]) -> list[B]:
    return [each.body for each in documents if isinstance(each.body, model)]


def _faults(documents: Sequence[Document], sites: Collection[str]) -> list[Fault]:
    """What no single document can know."""
    found = []
    for each in documents:
        match each.body:
            case LinkBody(source=source, target=target):
                named = {"from": source, "to": target}
            case DatasetBody(replicas=replicas):
                named = {f"replicas.{number}.site": replica.site for number, replica in enumerate(replicas)}
            case SiteBody() | TenantBody():
                continue
            case _:
                found.append(Fault("kind", "jobs come from --jobs-from: leave them out here", each.number, each.line))
                continue
        for field, site in named.items():
            if site not in sites:
                message = f"{site} is not declared here: the sites are {', '.join(sorted(sites)) or 'none'}"
                found.append(Fault(field, message, each.number, each.line, f"{each.kind} {each.name}"))
    return found


def read_jobs(path: Path, form: str | None = None) -> list[Recorded]:
    """Jobs by their arrival, in one of the forms of `readers.READERS`, by the file's suffix unless told. Raises BadTrace for what
    it should not have, and OSError."""
    known = form or BY_SUFFIX.get(path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix)
    formats = f"--jobs-format is one of {', '.join(READERS)}"
    if known is None:
        raise BadTrace(f"{path.name}: what is it? {formats}; .swf, .csv and .parquet are known by their names")
    try:
        jobs = sorted(READERS[known](path), key=lambda job: job.at)
    except BadTrace as error:
        raise error if form else BadTrace(f"{error} (read as {known}: {formats})") from None
    if not any(job.run_time_s > 0 for job in jobs):
        raise BadTrace(f"{path.name}: there is no job with a run time in it")
    return [job for job in jobs if job.run_time_s > 0]
