"""Where our things lie below a site's storage: paths relative to it."""

from __future__ import annotations

from topology.dataset import DatasetId

OURS = ".fed"


def claim_path(run: str) -> str:
    """The file whose exclusive creation decides whether a run may start."""
    return f"{OURS}/claims/{run}"


def output_path(run: str, dataset: str) -> str:
    """An attempt's own directory for one output; it stays there and becomes the replica when the job succeeds."""
    return f"{OURS}/outputs/{run}/{dataset}"


def replica_path(dataset: DatasetId) -> str:
    """A copy that a transfer brought."""
    return f"{OURS}/replicas/{dataset.tenant}/{dataset.name}@{dataset.version}"


def uploads_path(federation: str) -> str:
    """The folder of all that a federation was sent."""
    return f"{OURS}/uploads/{federation}"


def upload_path(federation: str, upload: str) -> str:
    """What somebody sent: it stays there and becomes a replica once it is whole."""
    return f"{uploads_path(federation)}/{upload}"


def incoming_path(dataset: DatasetId) -> str:
    """The folder of what a transfer is bringing: `<epoch>`, and `<epoch>.part` for the file that is under way."""
    return f"{OURS}/incoming/{dataset.tenant}/{dataset.name}@{dataset.version}"
