"""The families, one file each, and one loop that trains them all."""
