"""The real engines of the mixed federation, and what its documents must say of each start of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contract import kubernetes_kind, ray_kind, yarn_kind
from tests.engines.kubernetes import cluster as kubernetes
from tests.engines.kubernetes.images import HOST
from tests.engines.ray import cluster as ray
from tests.engines.running import RealEngine
from tests.engines.slurm import cluster as slurm
from tests.engines.yarn import cluster as yarn


@dataclass(frozen=True)
class Started:
    """An engine, and the words of `configs/engines/federation.yaml` that it stands for."""

    engine: RealEngine
    words: Mapping[str, str]


def _slurm(folder: Path) -> Started:
    cluster = slurm.Cluster(folder, "hpc", has_accounting=True)
    cluster.start()
    token = folder / "token"
    token.write_text(cluster.token())
    return Started(cluster, {"slurm_url": cluster.url, "slurm_user": cluster.user, "slurm_token": str(token)})


def _kubernetes(folder: Path) -> Started:
    cluster = kubernetes.KubernetesCluster(folder, kubernetes_kind.NODES)
    return Started(cluster, {"kubeconfig": str(cluster.kubeconfig), "image": HOST})


def _yarn(folder: Path) -> Started:
    cluster = yarn_kind.started(folder)
    return Started(cluster, {"yarn_url": cluster.url})


def _ray(folder: Path) -> Started:
    cluster = ray.RayCluster(folder, ray_kind.NODES)
    token = folder / "token"
    token.write_text(cluster.token)
    return Started(cluster, {"ray_url": cluster.url, "ray_token": str(token)})


@dataclass(frozen=True)
class _Way:
    """How one engine is started, and what is missing for it on this machine."""

    start: Callable[[Path], Started]
    missing: Callable[[], str]


WAYS: Mapping[str, _Way] = {
    "hpc": _Way(_slurm, slurm.missing),
    "cloud": _Way(_kubernetes, kubernetes.missing),
    "lake": _Way(_yarn, yarn.missing),
    "lab": _Way(_ray, ray.missing),
}
"""By site."""


def missing() -> str:
    """What this machine lacks; empty when nothing."""
    return "; ".join(lack for way in WAYS.values() if (lack := way.missing()))


@contextmanager
def engines(folder: Path) -> Iterator[Mapping[str, Started]]:
    """All of them, by site: started side by side, and ended with the block. Raises what the first that does not start raised."""
    with ThreadPoolExecutor() as pool:  # its threads live as long as the block: what they start ends with them
        starting = {site: pool.submit(way.start, folder / site) for site, way in WAYS.items()}
        try:
            yield {site: future.result() for site, future in starting.items()}
        finally:
            up = [future.result() for future in starting.values() if not future.exception()]
            for stopping in [pool.submit(each.engine.stop) for each in up]:
                stopping.result()
