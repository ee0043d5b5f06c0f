"""Kubernetes behind the adapter contract: Jobs of its own, of Volcano, or queued by Kueue."""
