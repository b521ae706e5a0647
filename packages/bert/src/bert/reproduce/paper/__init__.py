"""Claims that need a CUDA device."""
