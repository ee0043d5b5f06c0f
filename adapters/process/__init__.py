"""The embedded engine: a small daemon per site that queues and runs real processes, and the adapter that speaks to it."""
