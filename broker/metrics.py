"""Counters of one broker process. Names are stable: dashboards are built on them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """One registry per broker, so that two brokers in one test count apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs_accepted = Counter("fed_jobs_accepted", "Jobs acknowledged by this endpoint", registry=self.registry)
        self.events = Counter("fed_job_events", "Events written to jobs", ["event"], registry=self.registry)
        self.plan_seconds = Histogram("fed_plan_seconds", "Time of one plan and its hop", registry=self.registry)
        self.placements = Counter("fed_placements", "Placements", ["site"], registry=self.registry)
        self.evictions = Counter("fed_evictions", "Attempts asked to give way to others", ["site"], registry=self.registry)
        self.site_calls = Histogram("fed_site_call_seconds", "Site calls", ["site", "call", "outcome"], registry=self.registry)
        self.conflicts = Counter("fed_write_conflicts", "Writes lost to a newer revision", ["writer"], registry=self.registry)
        self.bugs = Counter("fed_bugs", "Errors that are ours: logged, and the work goes on", ["where"], registry=self.registry)
        self.transfer_bytes = Counter("fed_transfer_bytes", "Bytes brought by transfers", ["link"], registry=self.registry)
        self.jobs_phase = Gauge("fed_jobs", "Jobs by phase, as this process sees them", ["phase"], registry=self.registry)
        self.site_health = Gauge("fed_site_health", "1 for the health a site is in", ["site", "health"], registry=self.registry)
        self.refused_logins = Counter("fed_refused_logins", "Requests with a token that is not known", registry=self.registry)
        self.spans = Counter("fed_spans", "Spans that a collector took, and those lost", ["outcome"], registry=self.registry)
        self.is_leader = Gauge("fed_is_leader", "Whether this process plans", registry=self.registry)
