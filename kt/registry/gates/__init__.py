"""What a version must pass before it may serve, one file each."""
