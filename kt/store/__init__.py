"""What is observed while versions serve: traffic, outcomes, experiments. Decisions are in git, this is not."""
