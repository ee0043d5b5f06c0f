"""The endpoint over TLS: who trusts its authority is answered; a renewed certificate is taken."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker.client import Client
from broker.config import SettingsError, Tls
from broker.errors import Invalid, NoAnswer


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._signed(self._name, self._key, is_authority=True).public_bytes(serialization.Encoding.PEM))

    def issue(self):
        """A new certificate and key in the same files; its serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")]), key, is_authority=False)
        (self._folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (self._folder / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
        return made.serial_number

    @property
    def settings(self):
        files = {name: str(self._folder / f"{name}.pem") for name in ("cert", "key", "ca")}
        return Tls(cert_file=files["cert"], key_file=files["key"], ca_file=files["ca"])

    def _signed(self, name, key, is_authority):
        now = datetime.datetime.now(datetime.UTC)
        until, number = now + datetime.timedelta(1), x509.random_serial_number()
        built = x509.CertificateBuilder(self._name, name, key.public_key(), number, now, until)
        where = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        built = built.add_extension(x509.BasicConstraints(is_authority, None), True).add_extension(where, False)
        return built.sign(self._key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path):
    made = Authority(tmp_path)
    made.issue()
    return made


async def serial_of(url, ca_file):
    """Of the certificate that an endpoint shows to a new connection."""
    context = ssl.create_default_context(cafile=str(ca_file))
    port = int(url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_who_trusts_its_authority_is_answered_and_nobody_else(federation, authority):
    async with federation.broker(tls=authority.settings) as broker:
        assert broker.url.startswith("https://")
        async with Client(broker.url, ca_file=str(authority.file)) as client:
            assert (await client.jobs())["items"] == []
        async with Client(broker.url, patience_s=0.1) as client:
            with pytest.raises(NoAnswer, match="FED_CA"):
                await client.jobs()
        async with Client(broker.url.replace("https", "http"), patience_s=0.1) as client:
            with pytest.raises(NoAnswer):
                await client.jobs()


async def test_what_only_another_broker_can_tell_comes_over_tls_too(federation, authority):
    tls, trusted = authority.settings, str(authority.file)
    async with (
        federation.broker(tls=tls) as one,
        federation.broker(tls=tls) as two,
        Client(one.url, ca_file=trusted) as client,
        Client(two.url, ca_file=trusted) as other,
    ):
        await client.put("sites", "ams", federation.site("ams"))
        for each in (client, other):
            assert (await each.test("ams"))["name"] == "ams"


async def test_a_renewed_certificate_is_shown_to_new_connections(federation, authority, monkeypatch):
    monkeypatch.setattr("broker.tls.LOOK_S", 0.05)
    first = authority.issue()
    async with federation.broker(tls=authority.settings) as broker:
        assert await serial_of(broker.url, authority.file) == first
        second = authority.issue()
        while (seen := await serial_of(broker.url, authority.file)) == first:
            pass
        assert seen == second


async def test_files_that_are_no_certificate_are_said_to_be_so(federation, authority, tmp_path):
    (tmp_path / "key.pem").write_text("nothing")
    with pytest.raises(SettingsError, match="no certificate and its key"):
        async with federation.broker(tls=authority.settings):
            pass
    with pytest.raises(Invalid, match="authority"):
        async with Client("https://127.0.0.1:1", ca_file=str(tmp_path / "key.pem")):
            pass
