"""What the adapter does with what Slurm still lists, and with what it lists no more."""

from __future__ import annotations

from adapters.base import Call, RunRef
from adapters.slurm import batch
from adapters.slurm.adapter import SlurmAdapter, files_of, storage_of
from adapters.slurm.codec import Job, Listing
from adapters.slurm.settings import SlurmSettings
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

CALL = Call(epoch=1, timeout_s=20.0)
SETTINGS = SlurmSettings.model_validate({"rest": {"url": "http://127.0.0.1:1", "user": "u", "token": {"env": "PATH"}}})


class Lists:
    """A Slurm that lists these jobs."""

    def __init__(self, *jobs):
        self.jobs = jobs

    async def listing(self, prefix, timeout_s):
        return Listing([], self.jobs, "1", 0.0)

    async def close(self):
        pass


async def test_what_a_run_left_is_removed_though_slurm_lists_it_no_more(tmp_path):
    # as of a run that was found in accounting alone
    site = Site("ams", Engine("slurm"), (Pool("cpu", 1, Resources(4, 8)),), Storage(f"file://{tmp_path}"))
    # and "fed-b", whose names look like ours, shares our user
    theirs = Job("2", "fed-b-a1", "u", ("RUNNING",), comment="fed fed-b cpu")
    runs = Lists(Job("1", "fed-runs-a1", "u", ("RUNNING",), comment="fed fed cpu"), theirs)
    adapter = SlurmAdapter(runs, files_of(site, SETTINGS), site, SETTINGS, "fed")
    left = {name: tmp_path / ".fed/runs" / name for name in ("fed-past-a1", "fed-runs-a1", "fed-b-a1", "other-past-a1")}
    for folder in left.values():
        (folder / "work").mkdir(parents=True)
        (folder / "ended").write_text("1 0 1 2\n")
    assert left["fed-past-a1"] == tmp_path / batch.own_directory(storage_of(site, SETTINGS), "fed-past-a1")
    await adapter.forget([RunRef(name) for name in left], CALL)
    await adapter.close()
    assert {name: sorted(path.name for path in folder.iterdir()) for name, folder in left.items()} == {
        "fed-past-a1": ["ended"],
        "fed-runs-a1": ["ended", "work"],
        "fed-b-a1": ["ended", "work"],
        "other-past-a1": ["ended", "work"],
    }
