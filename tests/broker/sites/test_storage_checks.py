"""Storage as the broker reaches it: asked by itself, and as part of a site's health."""

import asyncio
import threading

import pytest

from broker.records import Health
from broker.storage import SiteStorages, StorageError, WrongStorage
from broker.store import keys as kinds
from tests.broker.sites.owner import SETTINGS, in_virtual_time
from topology.resources import Resources
from topology.site import Engine, Pool, Site, Storage

TIME_S = 10.0


def a_site(url, name="ams"):
    return Site(name, Engine("process"), (Pool("cpu", 1, Resources(1, 1)),), Storage(url))


@pytest.fixture
def storages():
    found = SiteStorages()
    yield found
    found.close()


def left_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def test_storage_that_can_be_written_is_well_and_nothing_stays_there(storages, tmp_path):
    for is_fresh in (False, False, True):
        await storages.check(a_site(f"file://{tmp_path}"), TIME_S, is_fresh)
    assert left_in(tmp_path) == []


async def test_what_is_not_there_is_a_wrong_setting_until_it_is_there(storages, tmp_path):
    site = a_site(f"file://{tmp_path}/srv")
    with pytest.raises(WrongStorage, match="itself is not there: make it, or see that it is mounted"):
        await storages.check(site, TIME_S)
    (tmp_path / "srv").mkdir()
    await storages.check(site, TIME_S)


async def test_a_file_in_place_of_the_folder_is_a_wrong_setting(storages, tmp_path):
    (tmp_path / "srv").write_text("no folder")
    with pytest.raises(WrongStorage, match=r"is no folder: mend storage\.url"):
        await storages.check(a_site(f"file://{tmp_path}/srv"), TIME_S)


async def test_writing_is_tried_at_first_and_when_asked_now(storages, tmp_path):
    site = a_site(f"file://{tmp_path}")
    await storages.check(site, TIME_S)
    (tmp_path / ".fed").rmdir()
    (tmp_path / ".fed").write_text("in the way of all that is ours")
    await storages.check(site, TIME_S)
    with pytest.raises(WrongStorage, match="a file lies where a folder of ours is to be: move it away"):
        await storages.check(site, TIME_S, is_fresh=True)
    with pytest.raises(WrongStorage, match="a file lies where a folder of ours is to be: move it away"):
        await storages.check(site, TIME_S)


async def test_of_a_check_that_hangs_no_second_is_begun_and_other_sites_are_checked(storages, tmp_path):
    begun, may_go_on = [], threading.Event()
    stuck = a_site(f"file://{tmp_path}/stuck", "stuck")
    (tmp_path / "stuck").mkdir()
    folder = storages.at(stuck)

    def hang(is_fresh):
        begun.append(is_fresh)
        may_go_on.wait(60)

    folder.check = hang
    for _ in range(3):
        with pytest.raises(StorageError, match=r"gives no answer for 0\.05 s: see that it is up and reached"):
            await storages.check(stuck, 0.05)
    assert begun == [False]
    await storages.check(a_site(f"file://{tmp_path}", "fine"), TIME_S)
    may_go_on.set()
    async with asyncio.timeout(TIME_S):
        await storages.check(stuck, TIME_S, is_fresh=True)


def test_a_site_whose_storage_fails_takes_no_jobs_is_never_lost_and_comes_back():
    async def story(place):
        await place.owner()
        await place.until(lambda: place.read(kinds.SITE_STATUS, "ams"))
        await place.until(lambda: place.read(kinds.SITE_STATUS, "ams").health is Health.UP)
        place.shelf.storage_problem = "file:///srv/ams: No space left on device: make room there"
        await place.until(lambda: place.read(kinds.SITE_STATUS, "ams").health is Health.DOWN)
        await asyncio.sleep(2 * SETTINGS.site_lost_after_s)
        status = place.read(kinds.SITE_STATUS, "ams")
        assert (status.health, status.is_lost, status.health.takes_jobs) == (Health.DOWN, False, False)
        assert status.reason == "storage: for the broker: file:///srv/ams: No space left on device: make room there"
        place.shelf.storage_problem = ""
        await place.until(lambda: place.read(kinds.SITE_STATUS, "ams").health.takes_jobs)

    in_virtual_time(story)
