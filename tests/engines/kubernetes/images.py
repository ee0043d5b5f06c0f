"""Container images for nodes that can pull nothing, as archives that `ctr images import` takes.

`host` has nothing of its own and sees the programs of the machine where /usr is mounted; `busybox` stands on its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

HOST, BUSYBOX, PAUSE = "localhost/host:1", "localhost/busybox:1", "localhost/pause:1"
STATIC = Path("/bin/busybox")
_APPLETS = "sh cat cp cut date echo env false head hostname kill ln ls mkdir mv printf rm seq sleep tail test touch true uname wc"
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}


def write_images(folder: Path) -> list[Path]:
    """The archives, written below `folder`."""
    shared = dict.fromkeys(_APPLETS.split(), "busybox")
    busybox = _layer({f"bin/{name}": target for name, target in shared.items()}, has_busybox=True)
    images = ((HOST, _layer(_LINKS), ["/bin/sh"]), (BUSYBOX, busybox, ["/bin/sh"]), (PAUSE, busybox, ["/bin/sleep", "100000000"]))
    return [_archive(folder / f"{name.split('/')[1].split(':')[0]}.tar", name, layer, command) for name, layer, command in images]


def _layer(links: Mapping[str, str], has_busybox: bool = False) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("etc", "tmp", "usr", "var", *(["bin"] if has_busybox else [])):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        if has_busybox:
            tar.add(STATIC, "bin/busybox")
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return content.getvalue()


def _archive(path: Path, name: str, layer: bytes, command: list[str]) -> Path:
    """The layout of `docker save`: https://github.com/moby/docker-image-spec/blob/main/spec.md"""
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for member, content in ((config_name, config), (f"{digest}/layer.tar", layer), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path
