"""Pre-training and fine-tuning: of the small models, and of MiniLM's real weights."""
