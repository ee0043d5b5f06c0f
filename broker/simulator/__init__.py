"""The planner under virtual time: recorded or generated work on a federation that changes, and what came of it."""
