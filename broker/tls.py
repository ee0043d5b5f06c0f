"""TLS of the endpoint: the certificate that it shows, taken anew when its files change, and whom its callers trust."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from broker.clock import Clock
from broker.config import SettingsError, Tls

log = logging.getLogger(__name__)

LOOK_S = 10.0


class Identity:
    """The endpoint's certificate and key. New connections get what the files hold. Raises SettingsError."""

    def __init__(self, settings: Tls, clock: Clock) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._settings = settings
        self._clock = clock
        self._seen = self._stamp()
        try:
            self._load()
        except (OSError, ssl.SSLError) as error:
            files = f"{settings.cert_file} and {settings.key_file}"
            raise SettingsError(f"tls: {files} are no certificate and its key: {error}") from error

    async def follow(self) -> None:
        """Take what changed, for ever. Files that do not fit each other, as in the middle of a renewal, leave the old."""
        while True:
            await self._clock.sleep(LOOK_S)
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            try:
                self._load()
                self._seen = stamp
                log.info("the endpoint's certificate was renewed")
            except (OSError, ssl.SSLError) as error:
                log.warning("the endpoint's new certificate cannot be taken yet: %s", error)

    def _load(self) -> None:
        self.context.load_cert_chain(self._settings.cert_file, self._settings.key_file)

    def _stamp(self) -> tuple[int, ...]:
        files = (Path(self._settings.cert_file), Path(self._settings.key_file))
        return tuple(number for path in files if path.exists() for number in (path.stat().st_mtime_ns, path.stat().st_ino))


def trusting(authority: str) -> ssl.SSLContext:
    """Of a client that trusts the authorities of a file. Raises SettingsError."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{authority}: holds no certificate of an authority: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
