"""What is computed on our implementation in seconds: identities, bounds, closed forms, parity."""
