"""A client of the etcd v3 API over grpc.aio; nothing outside this package knows of it."""

from broker.store.etcd.channel import TlsSettings
from broker.store.etcd.client import EtcdStore

__all__ = ["EtcdStore", "TlsSettings"]
