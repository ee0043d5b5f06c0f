"""Whether a site takes jobs: written by whoever cordons, drains, changes or removes it."""

from __future__ import annotations

from dataclasses import replace

from broker.api.changes import update_at
from broker.api.matching import Wanted
from broker.api.services import Services
from broker.errors import NotFound
from broker.store import keys as kinds
from topology.site import Admission, Site


async def admit(
    services: Services, name: str, admission: Admission, who: str, known: Wanted | None = None
) -> tuple[Site, int]:
    """The site, admitting jobs so from now on, and the revision of its record. Raises NotFound, InConflict, and Outdated where it
    is not as `known`."""

    def changed(site: Site | None) -> Site:
        if site is None:
            raise NotFound(f"no site is named {name}")
        return replace(site, admission=admission)

    key = services.context.world.mirror.keys.of(kinds.SITES, name)
    return await update_at(services, key, changed, who, str(admission), known)


async def close(services: Services, name: str, who: str, known: Wanted | None = None) -> tuple[Site, int]:
    """The site, cordoned, once it is known of all jobs that were placed there, and no more are: a placement names the record of
    the site that it relied on, so it is before this one, or fails. Raises as `admit`."""
    site, revision = await admit(services, name, Admission.CORDONED, who, known)
    await services.context.world.mirror.reached(revision)
    return site, revision
