"""Where a job's labelled samples come from, one file each."""
