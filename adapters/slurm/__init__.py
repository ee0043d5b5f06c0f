"""Slurm, by its REST daemon or its command line."""
