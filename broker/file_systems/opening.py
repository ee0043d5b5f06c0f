"""From a site's settings to its file system."""

from __future__ import annotations

import posixpath
import sys
from urllib.parse import unquote, urlsplit

from adapters.secrets import SecretMissing
from broker.documents.storage import S3Options, SftpOptions, StorageOptions, WebhdfsOptions, options_of
from broker.file_systems.base import CannotOpen, FileSystem
from broker.file_systems.local import LocalFiles
from broker.file_systems.s3 import S3Files
from broker.file_systems.sftp import SftpFiles
from broker.file_systems.webhdfs import WebhdfsFiles
from topology.site import Storage


def failures_of(url: str) -> tuple[type[Exception], ...]:
    """What the file system of this URL's scheme raises beside OSError when it does not answer or refuses."""
    match urlsplit(url).scheme:
        case "sftp" if "asyncssh" in sys.modules:
            return (sys.modules["asyncssh"].Error, ValueError)  # the latter is sshfs's, of a server without SFTP
        case "webhdfs":
            return (RuntimeError, ValueError)  # what fsspec makes of a RemoteException that it has no word for
        case "s3" if "botocore.exceptions" in sys.modules:
            found = sys.modules["botocore.exceptions"]
            return (found.BotoCoreError, found.ClientError)
    return ()


def opened(storage: Storage) -> FileSystem:
    """The file system of a site's storage. Connects, and raises OSError and what the library raises; CannotOpen for settings that
    cannot be used: a scheme, an extra or a secret that is missing."""
    options: StorageOptions = options_of(storage.url, storage.options)
    try:
        match options:
            case SftpOptions():
                return SftpFiles(storage, options)
            case WebhdfsOptions():
                return WebhdfsFiles(storage, options)
            case S3Options():
                return S3Files(storage, options)
    except SecretMissing as error:
        raise CannotOpen(str(error)) from error
    except ImportError as error:
        scheme = urlsplit(storage.url).scheme
        raise CannotOpen(f"{error.name} is not installed: pip install 'fedbroker[{scheme}]'") from error
    return LocalFiles(posixpath.normpath(unquote(urlsplit(storage.url).path)))
