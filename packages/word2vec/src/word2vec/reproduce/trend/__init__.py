"""Trend claims: what the papers report of vectors from billions of words, on vectors from a dictionary."""
