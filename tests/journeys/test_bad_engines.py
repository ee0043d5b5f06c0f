"""What a user and an admin are told of sites whose engine, login or storage is wrong; and that nothing else suffers from them."""

import asyncio
import json
import time
from dataclasses import dataclass

import pytest

from broker.client import Client
from tests.journeys import bad_engines
from tests.journeys.bad_engines import HOUR_S, bad_parts, kubernetes, lsf, process, ray, slurm, yarn
from tests.running import Up

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]  # many parts, started together: with the engines
SETTLE_S = 200.0
PROBE_S = 8.0
"""A probe of the stand-in for LSF starts a dozen programs one after another, and all sites are probed at once."""
SETTINGS = {"probe_timeout_s": PROBE_S, "probe_interval_s": 3.0, "observe_interval_s": 1.0, "down_after": 1}
AT_WELL = 6
"""Jobs at the site that is well."""


@dataclass(frozen=True)
class Told:
    """What is wrong, as it is to be told: the site's state, the layer that fails, and words of reason and cure."""

    state: str
    layer: str
    words: tuple[str, ...]


def told(state, layer, *words):
    return Told(state, layer, words)


WRONG, AWAY = "misconfigured", "down"
"""It answers and says that our settings are wrong; or it does not answer, or makes no sense."""

TABLE = {
    # what is wrong                  state  layer        reason, and cure
    "credentials-slurm":        told(WRONG, "login",     "does not take our token (401)", "check rest.user and rest.token"),
    "credentials-kubernetes":   told(WRONG, "login",     "does not know our login (401)", "renew the token or certificate"),
    "credentials-yarn":         told(WRONG, "login",     "401", "token"),
    "credentials-ray":          told(WRONG, "login",     "401", "token"),
    "forbidden-slurm":          told(WRONG, "login",     "does not let us in (403)", "renew the token with `scontrol token`"),
    "forbidden-ray":            told(WRONG, "login",     "403", "token"),
    "expired-slurm":            told(WRONG, "login",     "the token expired at 20", "renew it with `scontrol token`"),
    "html-slurm":               told(AWAY,  "reach",     "no JSON", "is rest.url a slurmrestd?"),
    "html-kubernetes":          told(AWAY,  "reach",     "no JSON", "is this the address of an API server?"),
    "html-yarn":                told(AWAY,  "reach",     "no JSON", "is this YARN's web address?"),
    "html-ray":                 told(AWAY,  "reach",     "no JSON", "is url the head's own address?"),
    "busy-slurm":               told(AWAY,  "reach",     "asked too much (429)", "after 17"),
    "busy-kubernetes":          told(AWAY,  "reach",     "too much to do (429)", "ask again in 17 s"),
    "busy-yarn":                told(AWAY,  "reach",     "429", "17 s"),
    "endless-kubernetes":       told(AWAY,  "reach",     "more than 16 MiB"),
    "truncated-ray":            told(AWAY,  "reach",     "cut"),
    "truncated-slurm":          told(AWAY,  "reach",     "Not enough data"),
    "silent-ray":               told(AWAY,  "reach",     f"no answer within {PROBE_S:g} s"),
    "namespace":                told(WRONG, "scheduler", "namespace nowhere", "not found"),
    "queue":                    told(WRONG, "scheduler", "there is no queue nowhere", "set pools.<pool>.queue"),
    "login-node-down":          told(AWAY,  "reach",     "ana@127.0.0.1", "see that the login node is up and takes SSH there"),
    "login-node-refuses":       told(WRONG, "login",     "the user or the key is not accepted", "check both in our settings"),
    "settings":                 told(WRONG, "reach",     "engine.mount: say where jobs see the site's storage"),
    "storage-folder":           told(WRONG, "storage",   "itself is not there: make it, or see that it is mounted"),
    "storage-bucket":           told(WRONG, "storage",   "there is no bucket nowhere", "make the bucket, or mend storage.url"),
    "storage-s3-down":          told(AWAY,  "storage",   "Could not connect", "see storage.options.endpoint, and that it runs"),
    "storage-sftp-refuses":     told(WRONG, "storage",   "Permission denied", "the right user and key"),
    "storage-sftp-down":        told(AWAY,  "storage",   "Connect", "see that sshd runs at the host and port"),
    "storage-webhdfs-down":     told(AWAY,  "storage",   "Connection refused", "see that the name node's web address"),
    "storage-webhdfs-html":     told(WRONG, "storage",   "is storage.url the name node's web address?"),
}  # fmt: skip
"""By site: all that is wrong about it is its name's subject."""


def sites(parts):
    """The document of each site of the table."""
    at, lost = parts.at, parts.closed_port
    ssh = {"kind": "ssh", "host": "127.0.0.1"}
    keys = {name: parts.secret("s3.key", "anything") for name in ("access_key", "secret_key")}
    s3 = {"region": "us-east-1", **keys}
    login = parts.login_node(parts.ssh_port)

    def stored(name, url, **options):
        return yarn(parts, name, at["yarn"], {"url": url, "options": options})

    return [
        slurm(parts, "credentials-slurm", at["401"]),
        kubernetes(parts, "credentials-kubernetes", at["401"]),
        yarn(parts, "credentials-yarn", at["401"]),
        ray(parts, "credentials-ray", at["401"]),
        slurm(parts, "forbidden-slurm", at["403"]),
        ray(parts, "forbidden-ray", at["403"]),
        slurm(parts, "expired-slurm", at["json"], bad_engines.a_token(time.time() - HOUR_S)),
        slurm(parts, "html-slurm", at["html"]),
        kubernetes(parts, "html-kubernetes", at["html"]),
        yarn(parts, "html-yarn", at["html"]),
        ray(parts, "html-ray", at["html"]),
        slurm(parts, "busy-slurm", at["429"]),
        kubernetes(parts, "busy-kubernetes", at["429"]),
        yarn(parts, "busy-yarn", at["429"]),
        kubernetes(parts, "endless-kubernetes", at["endless"]),
        ray(parts, "truncated-ray", at["truncated"]),
        slurm(parts, "truncated-slurm", at["truncated"]),
        ray(parts, "silent-ray", at["never"]),
        kubernetes(parts, "namespace", at["kubernetes"], namespace="nowhere"),
        lsf(parts, "queue", pools={"cpu": {"queue": "nowhere"}}),
        lsf(parts, "login-node-down", transport={**ssh, **parts.login_node(lost), "port": lost}),
        lsf(parts, "login-node-refuses", transport={**ssh, **login, "port": parts.ssh_port}),
        lsf(parts, "settings", {"url": "s3://nowhere", "options": s3}, mount=None),
        lsf(parts, "storage-folder", {"url": f"file://{parts.folder}/unmounted"}),
        stored("storage-bucket", "s3://nowhere/fed", endpoint=parts.store.url, **s3),
        stored("storage-s3-down", "s3://fed/x", endpoint=f"http://127.0.0.1:{lost}", **s3),
        stored("storage-sftp-refuses", f"sftp://127.0.0.1:{parts.ssh_port}/srv", **login),
        stored("storage-sftp-down", f"sftp://127.0.0.1:{lost}/srv", **login),
        stored("storage-webhdfs-down", f"webhdfs://127.0.0.1:{lost}/fed", user="fed"),
        stored("storage-webhdfs-html", f"{at['html'].replace('http', 'webhdfs')}/fed", user="fed"),
    ]


@dataclass(frozen=True)
class Said:
    """What a broker says of all sites, by site, and of the job that waits for each."""

    up: Up
    parts: bad_engines.Parts
    health: dict
    why: dict
    tests: dict
    phases: dict


@pytest.fixture(scope="module")
def said(tmp_path_factory, etcd_program):
    """One broker, a site that is well, and all the others beside it."""
    folder = tmp_path_factory.mktemp("bad")
    with bad_parts(folder / "parts") as parts, bad_engines.running(Up(folder, **SETTINGS)) as up:
        documents = [*sites(parts), yarn(parts, "clock", parts.at["yarn-ahead"]), process(parts, "well")]
        applied = up.fed("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))
        assert (applied.code, applied.err) == (0, "")
        yield asyncio.run(heard(up, parts))


async def heard(up, parts):
    """Ask until every site is judged as it is to be: a probe may come to nothing where the machine is busy, the next will not."""
    async with Client(up.url) as client:
        await asyncio.gather(*(client.submit(a_job(name, name)) for name in TABLE))
        jobs = [(await client.submit(a_job(f"well-{number}", "well")))["id"] for number in range(AT_WELL)]
        for job in jobs:
            assert (await client.wait(job))["phase"] == "succeeded", await client.why(job)
        until = time.monotonic() + SETTLE_S
        while True:
            health = {site["name"]: site for site in (await client.health())["sites"]}
            why = {name: await client.why(name) for name in TABLE}
            texts = [(each, text) for name, each in TABLE.items() for text in (health[name]["reason"], why[name]["reason"])]
            if time.monotonic() > until or all(is_told(each, text) for each, text in texts):
                break
        tests = {name: await client.test(name) for name in TABLE}  # one after another, as a person would
        phases = {name: (await client.job(name))["phase"] for name in TABLE}
    return Said(up, parts, health, why, tests, phases)


def a_job(name, site):
    return {"name": name, "command": ["true"], "sites": {"require": {"site": site}}}


def is_told(expected, text):
    return all(words in text for words in expected.words)


@pytest.mark.parametrize("site", TABLE)
def test_health_tells_the_state_the_reason_and_the_cure(said, site):
    expected, found = TABLE[site], said.health[site]
    assert (found["health"], found["takes_jobs"], found["is_lost"]) == (expected.state, False, False), found["reason"]
    assert found["reason"].startswith(f"{expected.layer}: ") or site == "settings"
    assert is_told(expected, found["reason"]), found["reason"]


@pytest.mark.parametrize("site", TABLE)
def test_a_job_that_waits_for_it_is_kept_and_told_the_same(said, site):
    assert said.phases[site] == "pending"
    (verdict,) = (each for each in said.why[site]["verdicts"] if each["site"] == site)
    (objection,) = verdict["objections"]
    assert objection["text"].startswith(f"health is {TABLE[site].state}: ")
    assert is_told(TABLE[site], objection["text"]), objection["text"]
    assert is_told(TABLE[site], said.why[site]["reason"]), said.why[site]["reason"]


@pytest.mark.parametrize("site", TABLE)
def test_asked_now_it_tells_the_layer_that_fails_behind_those_that_do_not(said, site):
    expected = TABLE[site]
    *passed, failing = said.tests[site]["checks"]
    assert all(check["is_ok"] for check in passed)
    assert (failing["layer"], failing["is_ok"], failing["is_misconfigured"]) == (expected.layer, False, expected.state == WRONG)
    assert is_told(expected, failing["message"]), failing["message"]


def test_the_site_that_is_well_takes_and_does_jobs_meanwhile(said):
    assert said.health["well"]["takes_jobs"]


def test_a_clock_that_differs_is_told_and_keeps_no_job_away(said):
    found = said.health["clock"]
    assert (found["health"], found["takes_jobs"]) == ("degraded", True), found["reason"]
    assert found["reason"] == "reach: the site's clock is 60 min ahead of the broker's: set both by NTP"
