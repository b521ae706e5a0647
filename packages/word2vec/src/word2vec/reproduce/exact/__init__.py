"""What is computed on our implementation in seconds: counts, identities, closed forms, parity."""
