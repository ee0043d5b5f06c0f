"""What the owner of a site does there: dispatch, observe, stop, collect, transfers, probes."""
