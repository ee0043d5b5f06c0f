"""What a job is and how it lives. Pure: no IO, clock, logger or settings."""
