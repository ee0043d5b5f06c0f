"""One folder per engine kind behind one contract; knows topology, knows nothing of jobs."""
