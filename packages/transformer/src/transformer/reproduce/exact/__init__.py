"""Claims without training and without a clock: counts, closed forms, identities, parity with other code, bytes."""
