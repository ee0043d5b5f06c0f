"""How a daemon that does not run is started."""

import uvloop

from adapters.kinds import open_adapter
from adapters.process.adapter import shut_down
from adapters.process.settings import state_dir_of
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage


def test_a_daemon_is_started_from_the_brokers_own_event_loop(tmp_path):
    # uvloop's children once kept the starter's pipe open in the daemon: the first answer never came
    site = Site("ams", Engine("process"), (Pool("cpu", 1, Resources.of(1, 1)),), Storage(f"file://{tmp_path}"))

    async def ask():
        adapter = open_adapter(site, "fed")
        try:
            return await adapter.probe(10)
        finally:
            await adapter.close()
            await shut_down(state_dir_of(tmp_path))

    assert all(check.is_ok for check in uvloop.run(ask()))
