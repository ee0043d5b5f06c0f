"""What `make demo` runs: a federation on this machine, real jobs, kills, and a check of every result.

It uses what a user has, the `fed` command and `broker.client`, and nothing else of the broker knows of it.
"""
