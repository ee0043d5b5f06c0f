"""Requests a second of a tenant."""

import pytest
from aiohttp import ClientSession

from broker.access import Role, add_token
from broker.api.limits import Limits
from broker.client import Client


@pytest.mark.parametrize(("rate", "taken"), [(0.5, 1), (1.0, 1), (3.0, 3), (100.0, 100)])
def test_one_second_of_requests_is_taken_at_once_and_then_as_they_come(rate, taken):
    limits, count = Limits(), 0
    while not (wait_s := limits.wait_s("red", rate, 50.0)):
        count += 1
    assert (count, wait_s) == (taken, pytest.approx(1 / rate))
    assert limits.wait_s("red", rate, 50.0 + 0.9 * wait_s) == pytest.approx(0.1 * wait_s)
    assert limits.wait_s("red", rate, 50.0 + 1.01 * wait_s) == 0.0


def test_tenants_do_not_use_up_what_is_the_others():
    limits = Limits()
    assert limits.wait_s("red", 1.0, 5.0) == 0.0
    assert limits.wait_s("red", 1.0, 5.0) > 0.0
    assert limits.wait_s("blue", 1.0, 5.0) == 0.0


async def test_who_sends_too_many_is_told_when_to_come_again(federation, tmp_path):
    path = tmp_path / "tokens"
    ada, root = add_token(path, "ada", Role.USER, "red", None), add_token(path, "root", Role.ADMIN, None, None)
    async with federation.broker(token_file=str(path)) as broker, Client(broker.url, root) as admin:
        await admin.put("tenants", "red", {"name": "red", "max_requests_per_second": 0.25})
        async with ClientSession(broker.url, headers={"Authorization": f"Bearer {ada}"}) as session:
            async with session.get("/v1/jobs") as response:
                assert response.status == 200
            async with session.get("/v1/jobs") as response:
                problem = await response.json()
                assert (response.status, response.headers["Retry-After"]) == (429, "4")
        assert problem["detail"] == "tenant red may send 0.25 requests a second to this member"
        assert (await admin.jobs())["items"] == []  # who is of no tenant is not counted
