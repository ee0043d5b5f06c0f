"""A client of the etcd v3 API over grpc.aio; nothing outside this package knows of it."""

import os

# gRPC's fork handlers cannot work beside its own threads and say so at each fork; nothing of ours calls gRPC after a fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from broker.store.etcd.channel import TlsSettings
from broker.store.etcd.client import EtcdStore

__all__ = ["EtcdStore", "TlsSettings"]
