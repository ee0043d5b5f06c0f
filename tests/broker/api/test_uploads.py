"""Datasets sent through the API: whole ones are there at once and for good, of all others nothing is."""

import asyncio
import io
import tarfile

import pytest
from aiohttp import ClientSession

from broker.access import Role, add_token
from broker.client import Client
from broker.errors import Forbidden, InConflict, Invalid, TooMany, Unavailable
from broker.records import Restore
from broker.storage import Folder
from broker.uploads import AT_ONCE_PER_SITE, KEEP_S, is_expired
from topology.site import Storage

TAR = {"Content-Type": "application/x-tar"}


def archive(**files):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture
async def broker(federation):
    """One that takes 10 MiB at a time."""
    async with federation.broker(max_upload_gib=0.01, keep_temporary_hours=1e-9) as broker:
        await broker.context.world.mirror.reached(1)
        yield broker


@pytest.fixture
def tree(tmp_path):
    """A directory to send."""
    (tmp_path / "tree/in").mkdir(parents=True)
    (tmp_path / "tree/in/a.txt").write_text("one two")
    (tmp_path / "tree/b.txt").write_text("three")
    return tmp_path / "tree"


@pytest.fixture
async def ams(fed, federation, until):
    """A site that is up."""
    await fed.put("sites", "ams", federation.site("ams"))
    await until(lambda: fed.get("sites", "ams"), lambda site: site["health"] == "up")


@pytest.fixture
def send(broker, ams):
    """Puts a body as a dataset's content: status, and what is told."""

    async def send(body, name="corpus", headers=TAR, **query):
        async with ClientSession() as session:
            asked = session.put(f"{broker.url}/v1/datasets/{name}/content", data=io.BytesIO(body), headers=headers, params=query)
            async with asked as response:
                return response.status, await response.json()

    return send


def left(federation, site="ams"):
    """Files that were sent to a site."""
    return sorted(path.name for path in (federation.folder / site).glob(".fed/uploads/*/*/**/*") if path.is_file())


async def test_what_may_not_enter_a_region_is_not_taken_there(fed, send, federation, until):
    await fed.put("sites", "fra", federation.site("fra", region="eu-central", cpus=1.0))
    await until(lambda: fed.get("sites", "fra"), lambda site: site["health"] == "up")
    await fed.put("datasets", "corpus", {"name": "corpus", "regions": ["eu-central"]})
    status, told = await send(archive(a=b"one"), "corpus@1", site="ams")
    assert status == 422
    assert "ams is in no region: default/corpus@1 may only be brought to eu-central" in str(told)
    status, told = await send(archive(a=b"one"), "corpus@1")
    assert (status, told["sites"], told["regions"]) == (200, ["fra"], ["eu-central"])
    assert left(federation) == []


async def test_a_directory_is_a_dataset_once_it_was_sent(fed, ams, federation, tree, phase_of):
    made = await fed.upload("corpus", tree, "ams")
    assert (made["size_bytes"], made["sites"], made["temporary_until"]) == (12, ["ams"], None)
    assert made["version"] == made["checksum"].removeprefix("sha256:")[:12]
    (replica,) = made["replicas"]
    assert (federation.folder / "ams" / replica["path"] / "in/a.txt").read_text() == "one two"
    assert Folder(Storage(f"file://{federation.folder / 'ams'}")).measure(replica["path"]).checksum == made["checksum"]
    job = await fed.submit({"name": "reads", "command": ["true"], "inputs": [{"dataset": "corpus"}]})
    await phase_of(job["id"], "succeeded")


async def test_what_is_there_is_not_sent_again(fed, send, federation, tree):
    first = await fed.upload("corpus", tree, "ams")
    assert await fed.upload("corpus", tree) == first
    status, told = await send(archive(**{"in/a.txt": b"one two", "b.txt": b"three"}), site="ams")
    assert (status, told) == (200, first)
    assert left(federation) == ["a.txt", "b.txt"]


async def test_a_version_never_changes(fed, ams, federation, tree):
    await fed.upload("corpus@1", tree, "ams")
    (tree / "b.txt").write_text("four")
    with pytest.raises(InConflict, match="name a new version"):
        await fed.upload("corpus@1", tree, "ams")
    assert (await fed.get("datasets", "corpus@1"))["size_bytes"] == 12
    assert left(federation) == ["a.txt", "b.txt"]
    newer = await fed.upload("corpus", tree, "ams")
    assert (await fed.get("datasets", "corpus"))["version"] == newer["version"]


async def test_a_second_site_gets_a_copy_of_its_own(fed, ams, federation, tree, until):
    await fed.put("sites", "fra", federation.site("fra"))
    await until(lambda: fed.get("sites", "fra"), lambda site: site["health"] == "up")
    await fed.upload("corpus", tree, "ams")
    assert (await fed.upload("corpus", tree, "fra"))["sites"] == ["ams", "fra"]


async def test_without_a_site_the_largest_that_takes_jobs_has_it(fed, ams, federation, tree, until):
    for name, cpus in (("fra", 16.0), ("off", 64.0)):
        await fed.put("sites", name, federation.site(name, cpus))
        await until(lambda name=name: fed.get("sites", name), lambda site: site["health"] == "up")
    await fed.cordon("off")
    assert (await fed.upload("corpus", tree))["sites"] == ["fra"]


@pytest.mark.parametrize(
    ("body", "query", "status", "words"),
    [
        (b"words", {}, 422, "tar -c"),
        (archive(a=b"1")[:700], {}, 422, "no whole tar archive"),
        (archive(), {}, 422, "holds no file"),
        (archive(**{"../a": b"1"}), {}, 422, "points out of"),
        (archive(a=b"1"), {"site": "nowhere"}, 422, "no site is named nowhere"),
        (archive(a=b"1"), {"checksum": "sha256:" + "0" * 64}, 422, "did it change"),
        (archive(a=b"1"), {"checksum": "md5:1"}, 422, "checksum"),
        (archive(a=b"1"), {"tenant": "nobody"}, 422, "nobody"),
        (archive(a=b"1"), {"temporary": "perhaps"}, 422, "temporary"),
        (archive(a=b"1"), {"colour": "red"}, 422, "colour"),
        (archive(a=b"x" * 6_000_000, b=b"x" * 6_000_000), {}, 413, "GiB"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_and_nothing_stays(send, fed, federation, body, query, status, words):
    found, told = await send(body, **{"site": "ams", **query})
    assert (found, words in str(told)) == (status, True), told
    assert (await fed.list("datasets"))["items"] == []
    assert left(federation) == []


@pytest.mark.parametrize("name", ["Corpus", "a@b@c", "-", "a%20b", "x" * 41, "a@" + "v" * 65])
async def test_names_are_those_of_datasets(send, fed, federation, name):
    assert (await send(archive(a=b"1"), name=name, site="ams"))[0] == 422
    assert left(federation) == []


async def test_only_archives_are_taken(send):
    status, told = await send(b"{}", headers={"Content-Type": "application/json"}, site="ams")
    assert (status, "application/x-tar" in told["detail"]) == (415, True)


async def test_a_site_that_is_away_takes_nothing(fed, ams, federation, tree, until):
    federation.away.add("ams")
    await until(lambda: fed.get("sites", "ams"), lambda site: site["health"] != "up")
    with pytest.raises(Unavailable, match="ams"):
        await fed.upload("corpus", tree, "ams")


async def test_storage_that_cannot_be_written_is_told_of(fed, ams, federation, tree, broker):
    path = federation.folder / "ams/.fed/uploads"
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="does not take it"):
        await fed.upload("corpus", tree, "ams")
    assert (await fed.list("datasets"))["items"] == []


async def test_of_a_caller_who_leaves_nothing_stays(broker, ams, federation, fed):
    """Cut off once some of it was written."""
    _, writer = await asyncio.open_connection(*broker.url.removeprefix("http://").split(":"))
    head = "PUT /v1/datasets/corpus/content?site=ams HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
    writer.write(f"{head}Content-Type: application/x-tar\r\n\r\n".encode())
    writer.write(archive(a=b"1" * 4_000_000, b=b"2" * 4_000_000)[:6_000_000])
    await writer.drain()
    async with asyncio.timeout(10):
        while not left(federation):
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while left(federation):
            await asyncio.sleep(0.01)
    assert (await fed.list("datasets"))["items"] == []


async def test_so_many_at_once_and_no_more(broker, ams, fed, tree):
    async def endless():
        yield archive(a=b"1")[:512]
        await asyncio.sleep(60)

    async with ClientSession() as session:
        url = f"{broker.url}/v1/datasets/corpus/content?site=ams"
        held = [asyncio.create_task(session.put(url, data=endless(), headers=TAR)) for _ in range(AT_ONCE_PER_SITE)]
        async with asyncio.timeout(10):
            while broker.uploads.under_way("ams") < AT_ONCE_PER_SITE:
                await asyncio.sleep(0.01)
        with pytest.raises(TooMany):
            await fed.upload("corpus", tree, "ams")
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
    async with asyncio.timeout(10):
        while broker.uploads.under_way("ams"):
            await asyncio.sleep(0.01)
    await fed.upload("corpus", tree, "ams")


async def test_users_send_for_their_own_tenant(federation, tree, tmp_path):
    tokens = tmp_path / "tokens"
    root, ada, eye = (
        add_token(tokens, name, role, tenant, None)
        for name, role, tenant in (("root", Role.ADMIN, None), ("ada", Role.USER, "red"), ("eye", Role.VIEWER, "red"))
    )
    async with federation.broker(token_file=str(tokens)) as broker:
        async with Client(broker.url, root, patience_s=5.0) as fed:
            await fed.put("tenants", "red", {"name": "red"})
            await fed.put("tenants", "blue", {"name": "blue"})
            await fed.put("sites", "ams", federation.site("ams"))
        async with Client(broker.url, ada, patience_s=5.0) as fed:
            assert (await fed.upload("corpus", tree, "ams"))["tenant"] == "red"
            with pytest.raises(Forbidden):
                await fed.upload("corpus", tree, "ams", tenant="blue")
        async with Client(broker.url, eye) as fed:
            with pytest.raises(Forbidden):
                await fed.upload("other", tree, "ams")


async def test_another_member_passes_it_on(federation, fed, ams, tree):
    async with federation.broker() as other, Client(other.url, patience_s=5.0) as asked:
        first = await asked.upload("corpus", tree, "ams")
        (tree / "b.txt").write_text("other words")
        assert (await asked.upload("corpus", tree))["sites"] == ["ams"]
        with pytest.raises(InConflict):
            await asked.upload(f"corpus@{first['version']}", tree, "ams")


async def test_what_no_dataset_has_is_swept_after_a_day(fed, ams, federation, tree, broker):
    made = await fed.upload("corpus", tree, "ams")
    await fed.upload("other", tree, "ams")
    await fed.delete("datasets", "corpus")
    await broker.uploads.sweep()
    assert left(federation) == ["a.txt", "a.txt", "b.txt", "b.txt"]
    for path in (federation.folder / "ams/.fed/uploads/fed").iterdir():
        aged = f"{int(path.name[:10]) - int(KEEP_S) - 10:010d}{path.name[10:]}"
        if path.name in made["replicas"][0]["path"]:
            path.rename(path.with_name(aged))
    await broker.uploads.sweep()
    assert left(federation) == ["a.txt", "b.txt"]
    assert (await fed.get("datasets", "other"))["sites"] == ["ams"]


async def test_a_sweep_goes_on_while_placement_is_paused_and_waits_for_a_look_after_a_restore(fed, ams, federation, tree, broker):
    await fed.upload_workdir(tree, "ams")
    await fed.pause("the switch is changed")
    (sent,) = broker.context.world.datasets.values()
    while not is_expired(broker.context, sent):
        await asyncio.sleep(0.001)
    broker.context.world.restore = Restore(seen=9, found=1, noticed_at=0.0, noticed_by="b1", lift=0)
    await broker.uploads.sweep()
    assert left(federation) == ["workdir.tar"]
    broker.context.world.restore = None
    await broker.uploads.sweep()
    assert left(federation) == []


async def test_a_working_directory_goes_when_nobody_reads_it_any_more(fed, ams, federation, tree, broker, phase_of):
    name = await fed.upload_workdir(tree, "ams")
    assert await fed.upload_workdir(tree) == name
    works = {"name": "works", "command": ["true"], "workdir": name, "max_wait": "1h", "resources": {"cpus": 64}}
    job = (await fed.submit(works))["id"]
    assert (await fed.job(job))["spec"]["workdir"] == f"default/{name}"
    await broker.uploads.sweep()
    assert left(federation) == ["workdir.tar"]
    await fed.cancel(job)
    await phase_of(job, "cancelled")
    await broker.uploads.sweep()
    assert left(federation) == []
    assert (await fed.get("datasets", name))["sites"] == []


async def test_a_working_directory_is_no_input_too(fed, ams, tree):
    name = await fed.upload_workdir(tree, "ams")
    with pytest.raises(Invalid, match="workdir"):
        await fed.submit({"name": "twice", "command": ["true"], "workdir": name, "inputs": [{"dataset": name}]})
    with pytest.raises(Invalid, match="workdir"):
        await fed.submit({"name": "none", "command": ["true"], "workdir": "nothing@1"})
