"""What is asked about students: how well each masters a skill."""
