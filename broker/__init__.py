"""The broker: jobs, placement, site work, store, API and command."""
