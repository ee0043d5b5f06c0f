"""Ray clusters, by the Jobs API of their head."""
