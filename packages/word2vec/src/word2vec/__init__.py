"""Efficient Estimation of Word Representations in Vector Space (arXiv 1301.3781)."""

from word2vec.softmax import softmax

__all__ = ["softmax"]
