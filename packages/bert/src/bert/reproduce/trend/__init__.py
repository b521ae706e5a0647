"""Trend claims: effects over seeds, of small models trained here, and of MiniLM fine-tuned."""
