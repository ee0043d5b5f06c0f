"""Bytes of Hadoop's wire: protocol buffers, and the file of tokens that a container is given. Pure.

The encoding is https://protobuf.dev/programming-guides/encoding/; field numbers are those of yarn_protos.proto,
yarn_service_protos.proto, RpcHeader.proto and ProtobufRpcEngine.proto in Hadoop's sources.
This package runs on the nodes of a site, from Python 3.8 on, with nothing but the standard library.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, List, Sequence, Union  # noqa: UP035 - aliases below are evaluated, on old Pythons too

Value = Union[int, float, str, bytes]  # noqa: UP007 - as above
Fields = Dict[int, List[Union[int, bytes]]]  # noqa: UP006, UP007 - as above

_U64 = (1 << 64) - 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class BadBytes(Exception):
    """What was read is not of the expected form."""


def varint(number: int) -> bytes:
    """An integer in base 128; negative ones as 64-bit two's complement."""
    number &= _U64
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> int:
    """A small unsigned number for a small signed one, as `sint32` has it."""
    return (number << 1) ^ (number >> 63)


def field(number: int, value: Value | None) -> bytes:
    """One field; nothing for None. A float is a `float`, an int a varint, text and bytes are length-prefixed."""
    if value is None:
        return b""
    if isinstance(value, float):
        return varint(number << 3 | _FIXED32) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3 | _VARINT) + varint(int(value))
    encoded = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _BYTES) + varint(len(encoded)) + encoded


def delimited(message: bytes) -> bytes:
    """A message after its length."""
    return varint(len(message)) + message


def read_varint(source: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at a place, and the place after it. Raises BadBytes."""
    number = shift = 0
    while True:
        if at >= len(source) or shift > 63:
            raise BadBytes("a number that does not end")
        byte = source[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, at


def parse(source: bytes) -> Fields:
    """Every field's values in order of appearance. Raises BadBytes."""
    fields: Fields = {}
    at = 0
    while at < len(source):
        key, at = read_varint(source, at)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = read_varint(source, at)
        else:
            if kind == _BYTES:
                length, at = read_varint(source, at)
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise BadBytes(f"a field of kind {kind}")
            value, at = source[at : at + length], at + length
            if at > len(source):
                raise BadBytes("a field that is longer than its message")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def integer(fields: Fields, number: int, default: int = 0) -> int:
    """A field as a signed integer."""
    value = fields.get(number, [default])[-1]
    if not isinstance(value, int):
        raise BadBytes(f"field {number} is no number")
    return value - (1 << 64) if value >> 63 else value


def int32(fields: Fields, number: int, default: int = 0) -> int:
    """A field as a signed 32-bit integer: some writers send the lower half alone."""
    value = integer(fields, number, default) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def octets(fields: Fields, number: int) -> bytes:
    """A field as bytes; empty where it is absent."""
    value = fields.get(number, [b""])[-1]
    if not isinstance(value, bytes):
        raise BadBytes(f"field {number} is a number")
    return value


def text(fields: Fields, number: int) -> str:
    """A field as text."""
    return octets(fields, number).decode("utf-8", "replace")


def inner(fields: Fields, number: int) -> Fields:
    """A field that is a message."""
    return parse(octets(fields, number))


def messages(fields: Fields, number: int) -> Sequence[bytes]:
    """A repeated field of messages."""
    return [value for value in fields.get(number, []) if isinstance(value, bytes)]


@dataclass(frozen=True)
class Token:
    """What a container may show for who it is."""

    identifier: bytes
    password: bytes
    kind: str = ""

    @staticmethod
    def of(message: bytes) -> Token:
        """From a TokenProto."""
        fields = parse(message)
        return Token(octets(fields, 1), octets(fields, 2), text(fields, 3))


def read_tokens(source: bytes) -> Sequence[Token]:
    """The tokens of a credentials file in `Writable` form: "HDTS", format 0, count, then for each an alias, identifier, password,
    kind and service with their lengths (Credentials.writeTokenStorageToStream). Raises BadBytes."""
    if source[:5] != b"HDTS\x00":
        raise BadBytes("not a file of tokens in its first format")
    count, at = _writable_int(source, 5)
    tokens = []
    for _ in range(count):
        parts = []
        for _ in range(5):
            length, at = _writable_int(source, at)
            parts.append(source[at : at + length])
            at += length
        if at > len(source):
            raise BadBytes("a file of tokens that ends early")
        tokens.append(Token(parts[1], parts[2], parts[3].decode()))
    return tokens


def _writable_int(source: bytes, at: int) -> tuple[int, int]:
    """As WritableUtils.readVLong: small ones in a byte, others after a byte that tells their sign and length."""
    if at >= len(source):
        raise BadBytes("a file of tokens that ends early")
    (first,) = struct.unpack_from("b", source, at)
    at += 1
    if first >= -112:
        return first, at
    is_negative = first < -120
    length = -120 - first if is_negative else -112 - first
    number = int.from_bytes(source[at : at + length], "big")
    return (~number if is_negative else number), at + length
