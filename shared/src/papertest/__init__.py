"""papertest."""
