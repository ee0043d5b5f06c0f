"""Which job goes where, and why: pure values in, a plan with its reasons out. No IO, clock or logger."""
