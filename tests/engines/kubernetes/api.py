"""A few words with an API server as its admin, for tests: plain HTTPS, no client library."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any


class Api:
    """The server at a port of this machine. `pki` has `ca.crt`, `admin.crt` and `admin.key`."""

    def __init__(self, port: int, pki: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        """Status and answer: JSON, or text where it is none. Status 0 where nobody answers."""
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=60, context=self._context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind})
            response = connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()
        try:
            return response.status, json.loads(raw)
        except ValueError:
            return response.status, raw.decode()

    def must(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """The answer of a call that has to succeed."""
        status, answer = self.ask(method, path, body, kind)
        assert 200 <= status < 300, f"{method} {path}: {status} {answer}"
        return answer
