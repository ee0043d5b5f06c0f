"""The least role that each route wants. One that is not here wants an admin."""

from __future__ import annotations

from collections.abc import Mapping

from broker.access import Role

LEAST: Mapping[str, Role] = {
    "GET /v1/jobs": Role.VIEWER,
    "GET /v1/jobs/{job}": Role.VIEWER,
    "GET /v1/jobs/{job}/why": Role.VIEWER,
    "GET /v1/jobs/{job}/events": Role.VIEWER,
    "GET /v1/jobs/{job}/logs": Role.VIEWER,
    "GET /v1/jobs/{job}/outputs": Role.VIEWER,
    "GET /v1/events": Role.VIEWER,
    "GET /v1/sites": Role.VIEWER,
    "GET /v1/sites/{name}": Role.VIEWER,
    "GET /v1/links": Role.VIEWER,
    "GET /v1/links/{name}": Role.VIEWER,
    "GET /v1/datasets": Role.VIEWER,
    "GET /v1/datasets/{name}": Role.VIEWER,
    "GET /v1/tenants": Role.VIEWER,
    "GET /v1/tenants/{name}": Role.VIEWER,
    "GET /v1/topology/path": Role.VIEWER,
    "GET /v1/health": Role.VIEWER,
    "GET /metrics": Role.VIEWER,
    "POST /v1/plan": Role.USER,
    "POST /v1/jobs": Role.USER,
    "POST /v1/jobs/{job}/cancel": Role.USER,
    "POST /v1/jobs/{job}/hold": Role.USER,
    "POST /v1/jobs/{job}/release": Role.USER,
    "POST /v1/jobs/cancel": Role.USER,
    "POST /v1/jobs/hold": Role.USER,
    "POST /v1/jobs/release": Role.USER,
    "PUT /v1/datasets/{name}": Role.USER,
    "PUT /v1/datasets/{name}/content": Role.USER,
    "DELETE /v1/datasets/{name}": Role.USER,
    "POST /v1/sites/{name}/cordon": Role.OPERATOR,
    "POST /v1/sites/{name}/uncordon": Role.OPERATOR,
    "POST /v1/sites/{name}/test": Role.OPERATOR,
    "POST /v1/sites/{name}/drain": Role.OPERATOR,
    "POST /v1/whatif": Role.OPERATOR,
    "POST /v1/pause": Role.OPERATOR,
    "POST /v1/resume": Role.OPERATOR,
    "GET /v1/audit": Role.OPERATOR,
    "POST /v1/sites/{name}/forget": Role.ADMIN,
    "GET /v1/backup": Role.ADMIN,
    "POST /v1/jobs/{job}/unstick": Role.ADMIN,
    "PUT /v1/sites/{name}": Role.ADMIN,
    "PUT /v1/links/{name}": Role.ADMIN,
    "PUT /v1/tenants/{name}": Role.ADMIN,
    "DELETE /v1/sites/{name}": Role.ADMIN,
    "DELETE /v1/links/{name}": Role.ADMIN,
    "DELETE /v1/tenants/{name}": Role.ADMIN,
}

WITHOUT_TENANT = frozenset({"GET /metrics"})
"""Told only to those who are of all tenants."""
