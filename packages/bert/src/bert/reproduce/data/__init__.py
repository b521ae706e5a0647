"""Real text: classification sets, corpora and pairs of sentences, and what the small models read of them."""
