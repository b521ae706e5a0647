"""Trend claims: what the paper reports of whole policies, on a small one and real text."""
