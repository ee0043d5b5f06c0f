"""The storage section of a site's document."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from broker.documents import SiteBody, body_of, site_of
from broker.documents.faults import objections_of
from broker.documents.storage import StorageBody

SFTP = {"user": "fed", "key": {"file": "/etc/fed/key"}, "known_hosts": "/etc/fed/known_hosts"}
KEYS = {"access_key": {"env": "KEY"}, "secret_key": {"env": "SECRET"}}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("file:///srv/ams", {}),
        ("sftp://login.example:2222/srv/ams", SFTP),
        ("webhdfs://namenode.example:9870/fed", {"user": "fed", "data_nodes": {"dn1:9864": "10.0.0.1:9864"}}),
        ("s3://bucket", {"endpoint": "https://s3.example", "region": "eu", **KEYS}),
        ("s3://bucket/fed/ams", {"timeout_s": 60}),
    ],
)
def test_storage_of_each_scheme_is_taken_and_told_as_it_was_given(url, options):
    body = SiteBody.model_validate(
        {
            "name": "ams",
            "engine": {"kind": "process"},
            "pools": [{"name": "cpu", "nodes": 1, "per_node": {"cpus": 1, "memory_gib": 1}}],
            "storage": {"url": url, "options": options},
        }
    )
    site = site_of(body)
    assert (site.storage.url, site.storage.options) == (url, options)
    assert body_of(site)["storage"] == {"url": url, "file_systems": [], "options": options}


@pytest.mark.parametrize(
    ("url", "options", "field", "cure"),
    [
        ("sftp://login.example/srv", {**SFTP, "key": "-----BEGIN"}, "options.key", ""),
        ("sftp://login.example/srv", {"key": SFTP["key"], "known_hosts": "/x"}, "options.user", ""),
        ("sftp://login.example/srv", {**SFTP, "known_hosts": "relative"}, "options.known_hosts", ""),
        ("sftp://fed@login.example/srv", SFTP, "url", "without a user"),
        ("sftp:///srv", SFTP, "url", "use a host"),
        ("s3://bucket", {**KEYS, "secret_key": "AKIA"}, "options.secret_key", "secrets are given by reference"),
        ("s3://bucket", {"access_key": KEYS["access_key"]}, "options", "give both"),
        ("s3://bucket", {"bukket": "x"}, "options.bukket", ""),
        ("s3:///fed", {}, "url", "use a bucket"),
        ("webhdfs://name.example/fed", {"user": "fed", "token": {"env": "TOKEN"}}, "options.token", "leave out user"),
        ("file:///srv/ams", {"timeout_s": 0}, "options.timeout_s", "at least 0.001"),
    ],
)
def test_what_is_wrong_with_storage_is_told_by_field(url, options, field, cure):
    with pytest.raises(ValidationError) as refusal:
        StorageBody.model_validate({"url": url, "options": options})
    ((where, why),) = objections_of(refusal.value, StorageBody)
    assert ".".join(where) == field
    assert cure in why
    assert "AKIA" not in why
