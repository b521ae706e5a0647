"""word2vec: Mikolov et al. (2013a, arXiv 1301.3781; 2013b, arXiv 1310.4546)."""
