"""Sums over the papers' own printed numbers, without any code of ours."""
