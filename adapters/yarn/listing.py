"""The resource manager's listings of applications and nodes, read. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.base import EndReason, NativeId, Report, RunName, SiteState, Unreachable
from adapters.yarn.codec import FEDERATION, GPUS, NAME, OURS, POOL, SPEC, TASKS, names_like, reason_of, tag_of
from adapters.yarn.master.task import Ending
from adapters.yarn.settings import YarnSettings
from topology.resources import Resources
from topology.room import Room
from topology.site import Site

UNSAVED = ("NEW", "NEW_SAVING")
"""States of an application that a resource manager does not know any more when it is killed now."""
_WAITS = (*UNSAVED, "SUBMITTED", "ACCEPTED")
_EXIT_STATUS = re.compile(r"exitCode: (-?\d+)")
_NO_ANSWER = "ApplicationMaster for attempt"
_STATUS_REASONS = {
    -1: EndReason.NODE_LOST,
    -100: EndReason.NODE_LOST,
    -101: EndReason.NODE_LOST,
    -102: EndReason.PREEMPTED,
    -103: EndReason.OUT_OF_MEMORY,
    -104: EndReason.OUT_OF_MEMORY,
    -106: EndReason.NODE_LOST,
    -107: EndReason.START_FAILED,
    -108: EndReason.PREEMPTED,
    -1000: EndReason.START_FAILED,
    126: EndReason.START_FAILED,
    127: EndReason.START_FAILED,
}
"""Of an application master's container, by ContainerExitStatus. -1 is a node manager's that could not launch it; 126 and 127 are
the shell's, for a Python that is not there."""
MOST_MESSAGE = 1000


@dataclass(frozen=True, slots=True)
class App:
    """One application of a federation, as listed. Times are epoch milliseconds, 0 for not yet."""

    id: NativeId
    name: RunName
    tags: frozenset[str]
    state: str
    final: str
    progress: float
    launched_ms: int
    finished_ms: int
    diagnostics: str
    node: str
    """host:port of the node manager that has its first container."""
    logs: str
    containers: int
    memory_mib: int
    vcores: int

    def tag(self, prefix: str) -> str:
        """The rest of the tag that begins so."""
        return next((tag[len(prefix) :] for tag in self.tags if tag.startswith(prefix)), "")

    def is_of(self, federation: str) -> bool:
        """Whether it is a run of this federation, with the name that it says."""
        whose = (self.tag(FEDERATION), self.tag(NAME))
        return OURS in self.tags and whose == (tag_of(federation).lower(), tag_of(self.name).lower())

    @property
    def tasks(self) -> int:
        """How many it has."""
        return int(self.tag(TASKS)) if self.tag(TASKS).isdigit() else 1

    @property
    def spec(self) -> str:
        """The digest of its run."""
        return self.tag(SPEC)

    @property
    def gpus(self) -> Mapping[str, int]:
        """Of one task, by type in lower case."""
        pairs = [part.split("=") for part in self.tag(GPUS).split("+") if part]
        return {gpu: int(count) for gpu, count in pairs}


def apps_of(listing: Any) -> Sequence[App]:
    """The applications of a listing. Raises Unreachable for what makes no sense."""
    return [_app(fields) for fields in elements_of(listing, "apps", "app")]


def nodes_of(listing: Any) -> Sequence[Mapping[str, Any]]:
    """The nodes of a listing. Raises Unreachable for what makes no sense."""
    return elements_of(listing, "nodes", "node")


def chosen(apps: Iterable[App], federation: str) -> Mapping[RunName, App]:
    """Name to the application that is the run: of several of one name, not the ones that found its claim, then the first."""
    best: dict[RunName, App] = {}
    for app in sorted(apps, key=_order):
        if app.is_of(federation):
            best.setdefault(app.name, app)
    return best


def foreign(apps: Iterable[App], federation: str) -> Collection[RunName]:
    """Names that look like this federation's, of applications that are not."""
    return sorted({app.name for app in apps if names_like(federation, app.name) and not app.is_of(federation)})


def report_of(app: App, site: Site) -> Report:
    """What is said of a run."""
    state, reason, ending, message = _reading(app)
    has_started = app.launched_ms > 0 and state is not SiteState.QUEUED and (ending is None or ending.has_started)
    if state is SiteState.CANCELLED and app.tasks > 1 and not app.progress:
        has_started = False
    pools = {tag_of(pool.name).lower(): pool.name for pool in site.pools}
    return Report(
        name=app.name,
        native_id=app.id,
        state=state,
        started_at=app.launched_ms / 1000 if has_started else None,
        ended_at=app.finished_ms / 1000 if state.is_over else None,
        exit_code=ending.exit_code if ending else None,
        signal=ending.signal if ending else None,
        reason=reason,
        message=message[:MOST_MESSAGE],
        pool=pools.get(app.tag(POOL), ""),
    )


def rooms_of(nodes: Sequence[Mapping[str, Any]], ours: Iterable[App], site: Site, settings: YarnSettings) -> Mapping[str, Room]:
    """Per pool what is free, and what our own containers hold.

    A listing says where an application's first container is, and how many others it has, not where. These are counted as on the
    nodes of their pool where most is in use that we cannot account for: right in sum, and node by node as long as only we are
    there."""
    live = [app for app in ours if app.containers > 0]
    rooms = {}
    for pool in site.pools:
        label, tag = settings.label(pool.name), tag_of(pool.name).lower()
        own = [app for app in live if app.tag(POOL) == tag]
        here = [node for node in nodes if node.get("state") == "RUNNING" and label_of(node) == label]
        rooms[pool.name] = _room([_Node.read(node, [gpu for gpu, _ in pool.per_node.gpus], settings) for node in here], own)
    return rooms


@dataclass
class _Node:
    """Free and in use on one node, changed while containers are accounted for."""

    address: str
    free: Resources
    used: Resources

    @staticmethod
    def read(fields: Mapping[str, Any], gpus: Sequence[str], settings: YarnSettings) -> _Node:
        """Raises Unreachable for what makes no sense."""
        try:
            memory, used_memory = float(fields["availMemoryMB"]), float(fields["usedMemoryMB"])
            cpus, used_cpus = float(fields["availableVirtualCores"]), float(fields["usedVirtualCores"])
            # absent while the scheduler has not heard of a node that has just registered, which has nothing to give then
            free, used = (_counted(fields.get(key) or {}, gpus, settings) for key in ("availableResource", "usedResource"))
            address = str(fields["nodeHTTPAddress"])
        except (KeyError, TypeError, ValueError) as error:
            raise Unreachable(f"the resource manager's list of nodes makes no sense: {error!r}") from error
        return _Node(address, Resources.of(cpus, memory / 1024, free), Resources.of(used_cpus, used_memory / 1024, used))

    def give_back(self, held: Resources) -> None:
        """As much of it as is in use here is free."""
        mine = _least(self.used, held)
        self.free, self.used = self.free + mine, self.used - mine


def _room(nodes: list[_Node], own: Sequence[App]) -> Room:
    by_address = {node.address: node for node in nodes}
    elsewhere: list[tuple[Resources, int]] = []
    for app in own:
        gpu_types = {gpu.lower(): gpu for node in nodes for gpu, _ in (*node.free.gpus, *node.used.gpus)}
        gpus = {gpu_types.get(gpu, gpu): count for gpu, count in app.gpus.items()}
        one = Resources.of(app.vcores / app.containers, app.memory_mib / app.containers / 1024, gpus)
        first = by_address.get(app.node)
        if first is not None:
            first.give_back(one)
        elsewhere.append((one, app.containers - (first is not None)))
    for one, count in elsewhere:
        for _ in range(count if nodes else 0):
            likely = [node for node in nodes if one.fits(node.used)] or nodes
            max(likely, key=lambda node: node.used.cpus).give_back(one)
    return Room.of([(node.free, 1) for node in nodes])


def _least(a: Resources, b: Resources) -> Resources:
    others = dict(b.gpus)
    gpus = {gpu: min(count, others.get(gpu, 0)) for gpu, count in a.gpus}
    return Resources.of(min(a.cpus, b.cpus), min(a.memory_gib, b.memory_gib), gpus)


def _counted(amounts: Any, gpus: Sequence[str], settings: YarnSettings) -> Mapping[str, int]:
    """GPU type to count, of a node's resources."""
    counts = {each["name"]: int(each["value"]) for each in elements_of(amounts, "resourceInformations", "resourceInformation")}
    return {gpu: counts.get(settings.resource_type(gpu), 0) for gpu in gpus}


def label_of(node: Mapping[str, Any]) -> str:
    """The partition that a node is in; empty for the default one."""
    labels = node.get("nodeLabels") or [""]
    return str(labels if isinstance(labels, str) else labels[0])


def _order(app: App) -> tuple[bool, str]:
    ending = Ending.read(app.diagnostics)
    return ending is not None and ending.reason == EndReason.CLAIMED, app.id


def _reading(app: App) -> tuple[SiteState, EndReason | None, Ending | None, str]:
    """State, reason, what the application master told of its end, and words."""
    words = app.diagnostics.strip()
    if app.state in _WAITS:
        if app.launched_ms and "recovered" in words:  # after a restart, until its master has reported again
            return SiteState.UNKNOWN, None, None, words
        return SiteState.QUEUED, None, None, words
    if app.state == "RUNNING" or (app.state == "FINISHED" and not app.finished_ms):
        gathers = app.state == "RUNNING" and app.tasks > 1 and not app.progress
        return (SiteState.QUEUED, None, None, "gathers its containers") if gathers else (SiteState.RUNNING, None, None, "")
    ending = Ending.read(words)
    if app.state == "FINISHED" and app.final == "SUCCEEDED":
        return SiteState.SUCCEEDED, None, ending or Ending(exit_code=0), ""
    if app.state == "FINISHED" and app.final == "FAILED" and ending:
        return SiteState.FAILED, reason_of(ending.reason) or EndReason.PROGRAM_FAILED, ending, ending.message
    if app.state == "FAILED" or (app.state, app.final) == ("FINISHED", "FAILED"):
        return SiteState.FAILED, _master_failed(words), None, words
    if app.state == "KILLED" or (app.state, app.final) == ("FINISHED", "KILLED"):
        if "exceeded" in words and "lifetime" in words.lower():
            return SiteState.FAILED, EndReason.WALLTIME, None, words
        return SiteState.CANCELLED, None, None, words
    return SiteState.UNKNOWN, None, None, f"state {app.state}, final status {app.final}"


def _master_failed(words: str) -> EndReason | None:
    """Why an application failed whose master said nothing."""
    found = _EXIT_STATUS.search(words)
    if found and int(found[1]) in _STATUS_REASONS:
        return _STATUS_REASONS[int(found[1])]
    return EndReason.NODE_LOST if _NO_ANSWER in words and "timed out" in words else None


def _app(fields: Mapping[str, Any]) -> App:
    try:
        return App(
            id=fields["id"],
            name=fields["name"],
            tags=frozenset(tag for tag in str(fields.get("applicationTags", "")).split(",") if tag),
            state=fields["state"],
            final=fields.get("finalStatus", ""),
            progress=float(fields.get("progress", 0)),
            launched_ms=int(fields.get("launchTime", 0)),
            finished_ms=int(fields.get("finishedTime", 0)),
            diagnostics=str(fields.get("diagnostics", "")),
            node=str(fields.get("amHostHttpAddress", "")),
            logs=str(fields.get("amContainerLogs", "")),
            containers=max(0, int(fields.get("runningContainers", 0))),
            memory_mib=max(0, int(fields.get("allocatedMB", 0))),
            vcores=max(0, int(fields.get("allocatedVCores", 0))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unreachable(f"the resource manager's list of applications makes no sense: {error!r}") from error


def elements_of(listing: Any, outer: str, inner: str) -> Sequence[Mapping[str, Any]]:
    """`{outer: {inner: [...]}}`, where empty ones may be null or absent, and Hadoop 3.4 writes a list of one as its element."""
    try:
        found = (listing.get(outer) or {}).get(inner) or []
    except AttributeError as error:
        raise Unreachable(f"the resource manager's answer is no listing of {outer}") from error
    return [found] if isinstance(found, Mapping) else found
