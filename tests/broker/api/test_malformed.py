"""What is no HTTP, or abuses it: an answer of the 400s that is a problem document, and a connection that ends."""

import asyncio
import json
import logging

import pytest

from tests.broker.api.test_jobs import a_job

LONG = b"a" * 9000


def a_get(*headers, path=b"/v1/jobs", version=b"HTTP/1.1"):
    return b"\r\n".join([b"GET " + path + b" " + version, b"Host: localhost", *headers, b"", b""])


def a_post(content, *headers):
    lines = [b"POST /v1/jobs HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers, b"", content]
    return b"\r\n".join(lines)


WRONG = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    "no request": b"hello\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "an unknown version": a_get(version=b"HTTP/9.9"),
    "a zero byte in a header": a_get(b"X: \x00"),
    "a bare CR in a header": a_get(b"X: a\rSet-Cookie: b"),
    "a folded header": a_get(b" X: a"),
    "a header without a name": a_get(b": a"),
    "a header with a space in its name": a_get(b"X Y: a"),
    "a header that is too long": a_get(b"X: " + LONG),
    "too many headers": a_get(*[b"X-%d: a" % number for number in range(3_000)]),
    "a path that is too long": a_get(path=b"/" + LONG),
    "a negative length": a_post(b"{}", b"Content-Length: -5"),
    "a length that is no number": a_post(b"{}", b"Content-Length: 1e3"),
    "two lengths": a_post(b"{}", b"Content-Length: 2", b"Content-Length: 3"),
    "a length beside chunks": a_post(b"2\r\n{}\r\n0\r\n\r\n", b"Content-Length: 2", b"Transfer-Encoding: chunked"),
    "a chunk without a size": a_post(b"zz\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "a chunk of a negative size": a_post(b"-2\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    "an unknown transfer encoding": a_post(b"{}", b"Transfer-Encoding: knitted"),
    "a content encoding that it is not in": a_post(b"{}", b"Content-Encoding: gzip", b"Content-Length: 2"),
    "an address with an open bracket": a_get(path=b"http://[::1"),
    "a path that climbs": a_get(path=b"/docs/../../../../etc/passwd"),
    "a path that climbs in code": a_get(path=b"/docs/%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
    "a path that is no UTF-8": a_get(path=b"/v1/jobs/%ff%fe"),
    "a path with line ends in code": a_get(path=b"/v1/jobs/a%0d%0aSet-Cookie:%20b"),
    "a path that is an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method that is none": b"BREW /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another host": b"GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a page of another host": a_post(b"{}", b"Origin: http://evil.example", b"Content-Length: 2"),
    "a zero byte in an id": a_get(path=b"/v1/jobs/%00"),
    "a zero byte in the query": a_get(path=b"/v1/jobs?name=%00&limit=x"),
    "an invalid If-Match": b"DELETE /v1/sites/ams HTTP/1.1\r\nHost: localhost\r\nIf-Match: what\r\n\r\n",
}


async def sent(broker, raw):
    """All that the endpoint answers to these bytes, until it hangs up or says nothing more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(broker.url.rpartition(":")[2]))
    try:
        writer.write(raw)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        (length,) = (line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return head, await reader.readexactly(int(length))
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_malformed_is_answered_by_a_problem_document(broker, fed, caplog, wrong):
    caplog.set_level(logging.INFO)
    head, body = await sent(broker, WRONG[wrong])
    status = int(head.split()[1])
    assert 400 <= status < 500, head
    assert b"application/problem+json" in head
    assert b"set-cookie" not in head.lower()
    told = json.loads(body)
    assert told["status"] == status
    assert len(told["detail"]) > 10
    assert "Traceback" not in body.decode() + caplog.text
    assert not (await fed.jobs())["items"]


async def test_what_it_quotes_is_not_in_the_log(broker, caplog):
    caplog.set_level(logging.DEBUG, "broker")
    await sent(broker, a_get(b"Authorization: Bearer a-secret\x00"))
    assert "sent what is no HTTP" in caplog.text
    assert "a-secret" not in caplog.text


async def test_a_body_that_never_comes_holds_up_nobody(broker, fed):
    port = int(broker.url.rpartition(":")[2])
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    for _, writer in slow:
        writer.write(a_post(b"{", b"Content-Length: 1000"))
    async with asyncio.timeout(10):
        assert (await fed.submit(a_job()))["id"]
    for _, writer in slow:
        writer.close()
        await writer.wait_closed()
