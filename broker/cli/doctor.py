"""`fed doctor`: what is wrong with the federation, and what an operator does about it, from one answer of the endpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.exits import Exit
from broker.cli.session import Format, Output, Session, ago, print_table, show

if TYPE_CHECKING:
    from broker.client import Json

FULL = 0.6
"""Of the store's quota: from there on somebody should look."""
CLOCKS_APART_S = 5.0
LOSES_WRITES = ("3.5.0", "3.5.1", "3.5.2")
"""https://groups.google.com/a/kubernetes.io/g/dev/c/B7gJs88XtQc"""
RESTORED = "look at `fed jobs`, then `fed resume`: until then no broker leads or works a site"
TAKEOVER = "a takeover takes seconds; if it lasts, see the brokers' logs"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `cure` is empty where all is well."""

    what: str
    state: str
    cure: str = ""
    is_bad: bool = False
    """Whether jobs suffer from it; else it is a warning."""


def doctor(
    context: typer.Context,
    output: Output = Format.TABLE,
    all_: Annotated[bool, typer.Option("--all", help="Show what is well, too.")] = False,
) -> None:
    """Look at endpoint, store, brokers, sites and clocks, and say what to do. Exits with 1 when jobs suffer from something."""
    session: Session = context.obj
    asked = time.time()
    health = session.run(lambda client: client.health())
    found = list(findings(health, (asked + time.time()) / 2))
    shown = [each for each in found if all_ or each.cure]
    rows = [[("bad" if each.is_bad else "look" if each.cure else "ok"), each.what, each.state, each.cure] for each in shown]
    show({"items": [asdict(each) for each in shown]}, output, lambda _: print_table(("", "what", "state", "what to do"), rows))
    if output is Format.TABLE and not any(each.cure for each in found):
        print(f"all {len(found)} things that were looked at are well")
    if any(each.is_bad for each in found):
        raise typer.Exit(Exit.FAILED)


def findings(health: Json, now: float) -> Iterator[Finding]:
    """What the answer of `GET /v1/health` says; `now` is this machine's clock when it was given (epoch seconds)."""
    yield from _store(health["store"])
    yield from _brokers(health)
    apart = health["now"] - now
    cure = "set both clocks by NTP" if abs(apart) > CLOCKS_APART_S else ""
    yield Finding("clock", f"the broker's is {apart:+.0f} s from this machine's" if cure else "as this machine's", cure)
    if health["paused"]:
        cure = RESTORED if _is_restored(health) else "`fed resume`, once the reason is gone"
        yield Finding("placement", health["paused"]["reason"], cure, is_bad=True)
    if health["tokens"]:
        yield Finding("tokens", health["tokens"], "mend the file: the tokens that were read last go on to count")
    for job, why in health["unreadable_jobs"].items():
        yield Finding(f"job {job}", why, "where a newer broker wrote it: run that version; else `fed unstick`", is_bad=True)
    for key, why in health["unwritable"].items():
        yield Finding(f"record {key}", why, "see the broker's log; the job stays where it is", is_bad=True)
    for site in health["sites"]:
        yield _site(site, _is_restored(health))


def _store(store: Json) -> Iterator[Finding]:
    if store["failing_since"]:
        since = f"does not answer for {ago(store['failing_since'])}"
        yield Finding("store", since, "look at etcd: `etcdctl endpoint status`", is_bad=True)
        return
    version, used = store["version"] or "?", (store["size_bytes"] or 0) / store["quota_bytes"]
    cure = "use etcd 3.5.3 or newer: this one can lose writes in a crash" if version in LOSES_WRITES else ""
    yield Finding("store", f"etcd {version}", cure)
    shorter = "keep finished jobs shorter (the setting `keep_finished`), or raise etcd's --quota-backend-bytes"
    if not store["takes_new_jobs"]:
        yield Finding("store's room", store["reason"], shorter, is_bad=True)
    else:
        room = f"{used:.0%} of {store['quota_bytes'] / 2**20:.0f} MiB used"
        yield Finding("store's room", room, shorter if used > FULL else "")
    count = store["members"] or 0
    yield Finding("store's members", str(count), "" if count != 2 else "two members fail when either does: run one, or three")
    live = store["mirror"]["is_live"]
    cure = "" if live else "wait: records are being read anew; if it lasts, see the broker's log"
    yield Finding("records", "followed" if live else "not followed", cure, is_bad=not live)


def _brokers(health: Json) -> Iterator[Finding]:
    members = health["members"]
    cure = "" if len(members) > 1 else "run a second one, which takes over within seconds"
    yield Finding("brokers", f"{len(members)} of them", cure)
    leader = health["leader"]
    if leader or not _is_restored(health):
        yield Finding("leader", leader or "none", "" if leader else TAKEOVER, is_bad=not leader)
    versions = sorted({each["version"] for each in members})
    cure = "finish the upgrade: all should run the newest" if len(versions) > 1 else ""
    yield Finding("versions", ", ".join(versions) or "-", cure)


def _is_restored(health: Json) -> bool:
    """Whether brokers wait for somebody to look at a restore: then none leads or works a site, as it should be."""
    return bool((health["paused"] or {}).get("restore"))


def _site(site: Json, is_restored: bool) -> Finding:
    what, state = f"site {site['name']}", f"{site['health']}{': ' * bool(site['reason'])}{site['reason']}"
    if site["unresolved"]:
        cure = f"{site['unresolved']} runs may still go on there: bring it back, so that they are ended"
        return Finding(what, state, cure, is_bad=site["health"] != "up")
    if site["health"] not in ("up", "degraded"):
        test = f"`fed site test {site['name']}`"
        cure = f"mend that, then ask again: {test}" if site["reason"] else f"{test} tells which layer fails, and why"
        return Finding(what, state, cure, is_bad=True)
    if site["owner"] is None and not is_restored:
        return Finding(what, "nobody works it", TAKEOVER, is_bad=True)
    if site["admission"] != "open":
        return Finding(what, site["admission"], f"`fed site uncordon {site['name']}` when that is over")
    warned = [check["message"] for check in site["checks"] if check["is_warning"]]
    return Finding(what, state, "; ".join(warned))
