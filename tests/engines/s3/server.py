"""An object store: moto's server, which answers S3's REST API (https://docs.getmoto.org/en/latest/docs/server_mode.html)."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from broker.store.embedded import ending_with_us, free_ports

START_TIMEOUT_S = 60.0
SERVE = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


class ObjectStore:
    """Everything is in its memory. Any keys will do; `bucket` is there."""

    bucket = "fed"

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "moto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> ObjectStore:
        """Start it; returns once it answers."""
        with self._log.open("ab") as log:
            command = ending_with_us([sys.executable, "-c", SERVE, str(self.port)])
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"moto does not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def send(self, number: int) -> None:
        """Signal it."""
        assert self._process
        self._process.send_signal(number)

    def _answers(self) -> bool:
        signed = {"Authorization": "AWS4 x/y/us-east-1/s3/z"}
        request = urllib.request.Request(f"{self.url}/{self.bucket}", method="PUT", headers=signed)
        try:
            with urllib.request.urlopen(request, timeout=5):
                return True
        except OSError:
            return False
