"""Numbers in, numbers out: no disk, no clock, no torch."""
