"""A site's storage: its URL, and the options that the URL's scheme has. Secrets are given by reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.secrets import Secret
from broker.documents.faults import objections_of, refuse
from broker.documents.fields import Body, Names, StorageUrl
from broker.documents.secrets import written_secrets

TIMEOUT_S = 30.0
AbsolutePath = Annotated[str, Field(pattern="^/")]


class StorageOptions(BaseModel):
    """What every scheme has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: Annotated[float, Field(ge=0.001, le=3600)] = TIMEOUT_S
    """An operation that makes no progress for so long has failed."""


class SftpOptions(StorageOptions):
    """A directory of a login node. Its key must be in `known_hosts`: there is no way to leave that check out."""

    user: Annotated[str, Field(min_length=1)]
    key: Secret
    """The private key itself, in any format OpenSSH reads."""
    passphrase: Secret | None = None
    known_hosts: AbsolutePath
    """A file as OpenSSH's; `ssh-keyscan -p PORT HOST` writes such lines."""


class WebhdfsOptions(StorageOptions):
    """HDFS by its name node's HTTP address. Without `token` and `password` HDFS believes `user`, where it is set up so."""

    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    """A delegation token; it says who the user is."""
    https: bool = False
    ca_file: AbsolutePath | None = None
    data_nodes: Mapping[str, str] = {}
    """Data nodes' addresses as HDFS names them, to those at which the broker reaches them."""

    @model_validator(mode="after")
    def _is_one_user(self) -> Self:
        if self.token and (self.user or self.password):
            refuse((("token",), "says who the user is: leave out user and password"))
        if self.password and not self.user:
            refuse((("password",), "is of a user: name the user"))
        return self


class S3Options(StorageOptions):
    """A bucket. Without keys, those that the broker's machine has (its environment, its role)."""

    endpoint: Annotated[str, Field(pattern="^https?://")] | None = None
    """Of a service that is not AWS."""
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None

    @model_validator(mode="after")
    def _has_both_keys(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            refuse(((), "give both access_key and secret_key, or neither"))
        return self


OPTIONS: Mapping[str, type[StorageOptions]] = {
    "file": StorageOptions,
    "sftp": SftpOptions,
    "webhdfs": WebhdfsOptions,
    "s3": S3Options,
}
"""By the scheme of the storage's URL."""


def options_of(url: str, options: Mapping[str, Any]) -> StorageOptions:
    """The options of storage at this URL. Raises ValidationError, and KeyError for a scheme that is not in the table."""
    return OPTIONS[urlsplit(url).scheme].model_validate(options)


class StorageBody(Body):
    """What tasks at the site read as local."""

    url: StorageUrl = Field(examples=['"file:///srv/ams"'])
    file_systems: Names = []
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _has_options_of_its_scheme(self) -> Self:
        refuse(*((("options", *where), why) for where, why in written_secrets(self.options)))
        try:
            options_of(self.url, self.options)
        except ValidationError as error:
            model = OPTIONS[urlsplit(self.url).scheme]
            refuse(*((("options", *where), why) for where, why in objections_of(error, model)))
        return self


