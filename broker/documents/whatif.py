"""What might be otherwise in the federation, field by field."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from broker.documents.faults import refuse
from broker.documents.fields import Amount, Body, Name, Names, Positive

MOST_CHANGES = 100


class NodesChange(Body):
    """So many nodes of a pool more, or fewer."""

    site: Name = Field(examples=["fra"])
    pool: Name = Field(examples=["gpu"])
    more: Annotated[int, Field(ge=-1_000_000, le=1_000_000, examples=["4"])]


class PriceChange(Body):
    """Other prices of an hour at a site; those that are not named stay."""

    site: Name = Field(examples=["ams"])
    cpu_hour: Amount | None = None
    gpu_hour: Annotated[dict[Name, Amount], Field(max_length=MOST_CHANGES)] = {}

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.cpu_hour is None and not self.gpu_hour:
            refuse((("cpu_hour",), "no price is named: name cpu_hour or gpu_hour"))
        return self


class LinkChange(Body):
    """Another bandwidth or price of a link; or a new link, which needs a bandwidth."""

    source: Name = Field(alias="from", examples=["ams"])
    target: Name = Field(alias="to", examples=["fra"])
    bandwidth_gbps: Positive | None = None
    price_per_gib: Amount | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.bandwidth_gbps is None and self.price_per_gib is None:
            refuse((("bandwidth_gbps",), "nothing of the link would change: name bandwidth_gbps or price_per_gib"))
        return self


class WhatIfBody(Body):
    """Changes that are tried on a copy of the federation as it is now: nothing is stored."""

    lose_sites: Names = []
    nodes: Annotated[list[NodesChange], Field(max_length=MOST_CHANGES)] = []
    prices: Annotated[list[PriceChange], Field(max_length=MOST_CHANGES)] = []
    links: Annotated[list[LinkChange], Field(max_length=MOST_CHANGES)] = []
    carbon: Annotated[dict[Name, Amount], Field(max_length=MOST_CHANGES, description="g of CO2 per kWh, by site")] = {}
    weights: Annotated[dict[Name, Annotated[float, Field(ge=0.001, le=1e6)]], Field(max_length=MOST_CHANGES)] = {}

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.lose_sites or self.nodes or self.prices or self.links or self.carbon or self.weights):
            refuse((("lose_sites",), "nothing would change: name lose_sites, nodes, prices, links, carbon or weights"))
        return self
