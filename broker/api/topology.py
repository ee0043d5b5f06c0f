"""How sites are connected, as transfers see it."""

from __future__ import annotations

from aiohttp import web

from broker.api.services import SERVICES, answer
from broker.errors import Fault, Invalid, NotFound
from topology.graph import Metric

routes = web.RouteTableDef()


@routes.get("/v1/topology/path")
async def show_path(request: web.Request) -> web.Response:
    """The routes that a transfer `from` one site `to` another would take: the quickest and the cheapest; none where no links
    lead there."""
    services = request.app[SERVICES]
    ends = {name: request.query.get(name, "") for name in ("from", "to")}
    faults = [Fault(name, "name a site") for name, site in ends.items() if not site]
    if faults:
        raise Invalid(faults=faults)
    for site in ends.values():
        if site not in services.context.world.sites:
            raise NotFound(f"no site is named {site}")
    graph = services.planner.snapshots.topology(())
    found = {metric: graph.route(ends["from"], ends["to"], metric) for metric in Metric}
    shown = [
        {
            "by": metric.value,
            "links": [link.name for link in route.links],
            "bottleneck_gbps": route.bottleneck_gbps if route.links else None,
            "latency_ms": route.latency_ms,
            "price_per_gib": route.price_per_gib,
        }
        for metric, route in found.items()
        if route is not None
    ]
    return answer({**ends, "routes": shown})
