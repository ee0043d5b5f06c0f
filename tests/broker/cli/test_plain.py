"""The SDK without an event loop."""

import inspect

import pytest

from broker.client import Client
from broker.errors import NotFound
from broker.plain import PlainClient


@pytest.fixture(scope="module")
def plain(url, tmp_path_factory):
    """One site for all tests: put anew with other storage, its twin would be opened anew and know no run."""
    with PlainClient(url) as client:
        pool = {"name": "cpu", "nodes": 1, "per_node": {"cpus": 4, "memory_gib": 8}}
        storage = {"url": f"file://{tmp_path_factory.mktemp('plain')}"}
        client.put("sites", "plain", {"name": "plain", "engine": {"kind": "process"}, "pools": [pool], "storage": storage})
        yield client


def test_it_has_every_call_of_the_client():
    calls = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert calls == {name for name, _ in inspect.getmembers(PlainClient, inspect.isfunction) if not name.startswith("_")}


def test_a_job_is_made_waited_for_and_read(plain):
    job = plain.submit({"name": "plain", "command": ["exit", "3"], "sites": {"require": {"site": "plain"}}})
    over = plain.wait(job["id"], timeout_s=20)
    assert (over["phase"], over["exit_code"]) == ("failed", 3)
    assert [each["id"] for each in plain.jobs(name="plain")["items"]] == [job["id"]]


def test_output_comes_piece_by_piece_and_may_be_left(plain):
    job = plain.submit({"name": "talks", "command": ["print", "words"], "sites": {"require": {"site": "plain"}}})
    for chunk in plain.logs(job["id"], follow=True):
        assert chunk == b"words"
        break
    assert b"".join(plain.logs(job["id"], offset=2)) == b"rds"
    plain.cancel(job["id"])
    assert plain.wait(job["id"], timeout_s=20)["phase"] == "cancelled"


def test_errors_are_the_clients(plain):
    with pytest.raises(NotFound):
        plain.job("nobody")


def test_changes_are_followed(plain):
    events = plain.events()
    job = plain.submit({"name": "told", "command": ["exit", "0"], "sites": {"require": {"site": "plain"}}})
    assert next(each for each in events if each.get("job") == job["id"])["name"] == "told"
    events.close()
