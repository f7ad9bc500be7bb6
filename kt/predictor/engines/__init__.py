"""What runs a version: one file an engine."""
