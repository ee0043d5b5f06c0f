"""A store that is restored from a backup under a running broker."""

import pytest

from broker.errors import InConflict
from broker.members import LIFT_MARGIN


async def test_after_a_restore_nothing_is_done_until_an_admin_resumes_and_then_under_higher_epochs(
    federation, broker, fed, until, phase_of
):
    await fed.put("sites", "ams", federation.site("ams"))
    first = await fed.submit({"name": "before", "command": ["true"]})
    await phase_of(first["id"], "succeeded")
    backup, revision = federation.server.records(), federation.server.revision
    second = await fed.submit({"name": "lost", "command": ["true"]})
    await phase_of(second["id"], "succeeded")
    seen = broker.context.world.mirror.revision
    with pytest.raises(InConflict, match="nothing to resume"):
        await fed.resume()

    federation.server.restore(backup, revision)
    health = await until(fed.health, lambda found: found["paused"] and not broker.members.rights)
    assert "fed resume" in health["paused"]["reason"]
    assert health["paused"]["restore"]["seen"] >= seen
    third = await fed.submit({"name": "after", "command": ["true"]})
    assert [job["phase"] for job in (await fed.jobs())["items"]] == ["pending", "succeeded"]
    assert "restored" in (await fed.why(third["id"]))["reason"]
    assert broker.members.call_timeout_s(10.0) == 0.0
    assert (await fed.health())["leader"] is None

    await fed.resume()
    await phase_of(third["id"], "succeeded")
    assert broker.members.rights["ams"].epoch > seen + LIFT_MARGIN
