"""Trend claims: what the papers report of whole models, on small ones."""
