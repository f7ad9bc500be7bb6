"""Work that kt does by itself: when it is due, and what it may not do."""
