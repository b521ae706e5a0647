"""What is computed on our implementation in seconds: closed forms, identities, limits, parity."""
