"""Calls of Hadoop's remote procedures: version 9 of its protocol, with DIGEST-MD5 by a token (RFC 2831).

https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-common/SecureMode.html tells of tokens; the frames are those of
org.apache.hadoop.ipc.Client and SaslRpcClient.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import uuid

from adapters.yarn.master.wire import (
    Fields,
    Token,
    delimited,
    field,
    integer,
    messages,
    octets,
    parse,
    read_varint,
    text,
    varint,
    zigzag,
)

MOST_BYTES = 64 << 20
_CONTEXT_CALL, _SASL_CALL = -3, -33
_NEGOTIATE, _INITIATE, _SUCCESS = 1, 2, 0


class RemoteError(Exception):
    """The other side answered with an exception, of the Java class `kind`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind.rpartition('.')[2]}: {message[:1000]}")
        self.kind = kind.rpartition(".")[2]


class Connection:
    """One connection to `address` ("host:port") for calls of one protocol, as whom `token` names.

    Raises OSError where there is no answer, and RemoteError for a refusal."""

    def __init__(self, address: str, protocol: str, token: Token, timeout_s: float = 20.0) -> None:
        host, _, port = address.rpartition(":")
        self._protocol = protocol
        self._client = uuid.uuid4().bytes
        self._calls = 0
        self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)
        try:
            self._reader = self._socket.makefile("rb")
            self._socket.sendall(b"hrpc" + bytes([9, 0, 0xDF]))  # version 9, no service class, SASL
            self._log_in(token)
            self._send(_CONTEXT_CALL, field(3, protocol))
        except BaseException:
            self._socket.close()
            raise

    def call(self, method: str, request: bytes) -> Fields:
        """The reply's fields."""
        self._calls += 1
        self._send(self._calls, field(1, method) + field(2, self._protocol) + field(3, 1), request)
        return parse(self._receive())

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._socket.close()

    def _send(self, call: int, *parts: bytes) -> None:
        """One frame: RpcRequestHeaderProto and what follows it."""
        client = b"" if call == _SASL_CALL else self._client
        header = field(1, 2) + field(2, 0) + varint(3 << 3) + varint(zigzag(call)) + field(4, client)
        header += varint(5 << 3) + varint(zigzag(-1 if call == _SASL_CALL else 0))
        frame = delimited(header) + b"".join(map(delimited, parts))
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)

    def _receive(self) -> bytes:
        """The message of one reply, after its RpcResponseHeaderProto."""
        (length,) = struct.unpack(">i", self._read(4))
        if not 0 < length <= MOST_BYTES:
            raise ConnectionError(f"a reply of {length} bytes")
        frame = self._read(length)
        size, at = read_varint(frame, 0)
        header = parse(frame[at : at + size])
        at += size
        if integer(header, 2) != 0:
            raise RemoteError(text(header, 4), text(header, 5))
        size, at = read_varint(frame, at)
        return frame[at : at + size]

    def _read(self, length: int) -> bytes:
        got = self._reader.read(length)
        if len(got) < length:
            raise ConnectionError("the other side hung up")
        return got

    def _log_in(self, token: Token) -> None:
        """RpcSaslProto: we negotiate, it challenges, we answer, and it proves that it knows the password as well."""
        self._send(_SASL_CALL, field(2, _NEGOTIATE))
        offered = [parse(message) for message in messages(parse(self._receive()), 4)]
        offer = next((auth for auth in offered if (text(auth, 1), text(auth, 2)) == ("TOKEN", "DIGEST-MD5")), None)
        if offer is None:
            raise ConnectionError("it takes no tokens")
        user, password = (base64.b64encode(part).decode() for part in (token.identifier, token.password))
        uri = f"{text(offer, 3)}/{text(offer, 4)}"
        answer, proof = digest(user, password, text(offer, 5), uri, uuid.uuid4().hex)
        chosen = b"".join(field(number, octets(offer, number)) for number in (1, 2, 3, 4))
        self._send(_SASL_CALL, field(2, _INITIATE) + field(3, answer) + field(4, chosen))
        reply = parse(self._receive())
        if integer(reply, 2, -1) != _SUCCESS or text(reply, 3) != f"rspauth={proof}":
            raise ConnectionError("it could not prove who it is")


def digest(user: str, password: str, challenge: str, uri: str, nonce: str) -> tuple[str, str]:
    """The answer to a DIGEST-MD5 challenge, and what the other side must prove itself with (RFC 2831, 2.1.2 and 2.1.3)."""
    asked = dict(re.findall(r'([\w-]+)="?([^",]*)"?', challenge))
    if "nonce" not in asked:
        raise ConnectionError("a challenge without a nonce")
    realm = asked.get("realm", "")
    secret = hashlib.md5(f"{user}:{realm}:{password}".encode()).digest()
    session = hashlib.md5(secret + f":{asked['nonce']}:{nonce}".encode()).hexdigest()

    def response(method: str) -> str:
        what = hashlib.md5(f"{method}:{uri}".encode()).hexdigest()
        return hashlib.md5(f"{session}:{asked['nonce']}:00000001:{nonce}:auth:{what}".encode()).hexdigest()

    answer = (
        f'charset=utf-8,username="{user}",realm="{realm}",nonce="{asked["nonce"]}",nc=00000001,cnonce="{nonce}",'
        f'digest-uri="{uri}",maxbuf=65536,response={response("AUTHENTICATE")},qop=auth'
    )
    return answer, response("")
