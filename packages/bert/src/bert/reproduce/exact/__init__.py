"""Exact claims: counts, identities, and parity with libraries that nobody here wrote."""
