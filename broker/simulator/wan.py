"""Links and electricity as measured between and at public cloud regions: Skyplane's tables of throughput, latency and egress
price (Jain et al., NSDI 2023), and the grid's carbon intensity per region."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.simulator.readers import BadTrace
from topology.link import GIB, Link

GB = 1e9
NEAREST = 5
"""Each site has links to so many others with the most bandwidth, and to the hubs, both ways; the rest is reached over these."""
HUBS = 6
SAME_REGION_GBPS = 10.0
DEFAULT_CARBON = 400.0
"""g/kWh, where a region is in no table: about the world's mean."""


@dataclass(frozen=True, slots=True)
class Wan:
    """Gbps, milliseconds one way and price per GiB, by pairs of regions; g/kWh by region."""

    regions: tuple[str, ...]
    gbps: Mapping[tuple[str, str], float]
    latency_ms: Mapping[tuple[str, str], float]
    price_per_gib: Mapping[tuple[str, str], float]
    carbon: Mapping[str, float]


def read_wan(folder: Path) -> Wan:
    """From `skyplane/` and `carbon/` below a folder. Raises BadTrace, and OSError for files that are missing."""
    gbps, latency, price = {}, {}, {}
    sent = "throughput_sent_bits_per_second"
    for row in _rows(folder / "skyplane" / "throughput_compact.csv", "src_region", "dst_region", sent):
        if row.get("src_tier") == row.get("dst_tier") == "PREMIUM":
            gbps[row["src_region"], row["dst_region"]] = float(row[sent]) / 1e9
    for row in _rows(folder / "skyplane" / "latency.csv", "src_region", "dst_region", "avg_rtt"):
        latency[row["src_region"], row["dst_region"]] = float(row["avg_rtt"]) / 2
    for row in _rows(folder / "skyplane" / "cost_compact.csv", "src", "dest", "cost"):
        price[row["src"], row["dest"]] = float(row["cost"]) * GIB / GB
    carbon = {}
    for row in _rows(folder / "carbon" / "mlco2_cloud_region_impact.csv", "provider", "region", "impact"):
        carbon[f"{row['provider']}:{row['region']}"] = float(row["impact"])
    regions = tuple(sorted({source for source, _ in gbps} & {target for _, target in gbps}))
    if len(regions) < 2:
        raise BadTrace(f"{folder}: skyplane/throughput_compact.csv has no two regions with throughput both ways")
    return Wan(regions, gbps, latency, price, carbon)


def carbon_of(wan: Wan, region: str) -> float:
    """g/kWh; zones of a region (`gcp:europe-west6-a`) count as the region."""
    known = wan.carbon
    return known.get(region, known.get(region.rpartition("-")[0], DEFAULT_CARBON))


def links_of(wan: Wan, regions: Mapping[str, str]) -> list[Link]:
    """Links between sites in these regions, by site."""
    names = sorted(regions)
    hubs = names[:: max(len(names) // HUBS, 1)][:HUBS]
    pairs: set[tuple[str, str]] = set()
    for name in names:
        others = [other for other in names if other != name and _gbps(wan, regions[name], regions[other]) > 0]
        best = sorted(others, key=lambda other: (-_gbps(wan, regions[name], regions[other]), other))[:NEAREST]
        for other in (*best, *(hub for hub in hubs if hub in others)):
            pairs |= {(name, other), (other, name)}
    return [_link(wan, a, b, regions) for a, b in sorted(pairs) if _gbps(wan, regions[a], regions[b]) > 0]


def _gbps(wan: Wan, source: str, target: str) -> float:
    return SAME_REGION_GBPS if source == target else wan.gbps.get((source, target), 0.0)


def _link(wan: Wan, a: str, b: str, regions: Mapping[str, str]) -> Link:
    pair = (regions[a], regions[b])
    latency = 0.5 if pair[0] == pair[1] else wan.latency_ms.get(pair, wan.latency_ms.get((pair[1], pair[0]), 100.0))
    return Link(a, b, _gbps(wan, *pair), latency, 0.0 if pair[0] == pair[1] else wan.price_per_gib.get(pair, 0.0))


def _rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing: Sequence[str] = [column for column in columns if column not in (rows.fieldnames or ())]
        if missing:
            raise BadTrace(f"{path.name}: no column {missing[0]}")
        for row in rows:
            if row[columns[2]]:
                yield row
