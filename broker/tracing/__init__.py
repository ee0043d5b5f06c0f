"""Traces, as an extra: of jobs from their records, of requests, plans, commits and calls to sites as they happen."""
