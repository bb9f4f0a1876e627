"""Messages between parent and child: four bytes of length, then JSON. Never a pickle."""

from __future__ import annotations

import json
import os
import struct
from typing import Any

__all__ = ["MOST_FROM_CHILD", "Garbled", "read_message", "write_message"]

#: Bytes of the longest message that is taken from a child.
MOST_FROM_CHILD = 2**20

_LENGTH = struct.Struct("<I")


class Garbled(ValueError):
    """What was read is no message."""


def write_message(fd: int, message: dict[str, Any]) -> None:
    """Send a message whole."""
    body = json.dumps(message).encode()
    data = memoryview(_LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(fd, data) :]


def read_message(fd: int, most: int = 2**32) -> dict[str, Any] | None:
    """The next message; None where the other side has closed.

    Raises
    ------
    Garbled
        It is cut off, longer than `most`, or no JSON object.
    """
    head = _exactly(fd, _LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise Garbled("a message without a whole length")
    (length,) = _LENGTH.unpack(head)
    if length > most:
        raise Garbled(f"a message of {length} bytes")
    body = _exactly(fd, length)
    if len(body) < length:
        raise Garbled("a message that is cut off")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Garbled("a message that is no JSON") from exc
    if not isinstance(message, dict):
        raise Garbled("a message that is no object")
    return message


def _exactly(fd: int, count: int) -> bytes:
    parts = []
    while count and (part := os.read(fd, min(count, 2**20))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
