"""The same counts without a network: PMI, its positive part, its shift by log k, and its SVD (Levy and Goldberg 2014).

SciPy's sparse matrices hold them.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from scipy.sparse.linalg import svds

from word2vec.checks import flag, number, whole
from word2vec.windows import Text

Matrix = Any  # scipy.sparse.csr_array of float64, words × words


def cooccurrences(text: Text, words: int, c: int, dynamic: bool = True) -> Matrix:
    """#(w, c) of Section 2.1: how often each word has each other one in its window of up to c words on either side.

    dynamic: a word at distance i counts (c − i + 1) / c, the chance that a window with R uniform on 1 … c has it

    Raises ValueError for an id that is not below `words`.
    """
    whole("words", words)
    whole("c", c)
    flag("dynamic", dynamic)
    if len(text) and text.ids.max() >= words:
        raise ValueError(f"words must be above the text's largest id, {text.ids.max()}, got {words}")
    total: Matrix = sp.csr_array((words, words))
    for i in range(1, min(c, len(text) - 1) + 1):
        same = text.sentences[i:] == text.sentences[:-i]
        rows, columns = text.ids[:-i][same], text.ids[i:][same]
        weight = (c - i + 1) / c if dynamic else 1.0
        total = total + sp.coo_array((np.full(len(rows), weight), (rows, columns)), shape=(words, words)).tocsr()
    return (total + total.T).tocsr()


def pmi(counts: Matrix, power: float = 1.0) -> Matrix:
    """log(#(w, c) · |D| / (#(w) · #(c))) in nats (Section 3.1), where #(w, c) is above 0, and no entry elsewhere.

    power: of #(c) in its distribution: 3/4 is the PMI of the noise distribution of negative sampling

    Raises ValueError for counts that are not square, negative, or all zero.
    """
    number("power", power)
    found: Any = sp.coo_array(counts)
    found.sum_duplicates()
    found.eliminate_zeros()
    if found.shape[0] != found.shape[1] or not found.nnz or (found.data < 0).any():
        raise ValueError(f"counts must be a square matrix of numbers of at least 0, not all 0, got {found.shape}")
    rows = np.asarray(found.sum(axis=1), dtype=np.float64)
    columns = np.asarray(found.sum(axis=0), dtype=np.float64) ** power
    columns /= columns.sum()
    i, j = found.coords
    return sp.csr_array((np.log(found.data) - np.log(rows[i]) - np.log(columns[j]), (i, j)), shape=found.shape)


def ppmi(counts: Matrix, k: float = 1, power: float = 1.0) -> Matrix:
    """SPPMI_k = max(PMI − log k, 0) (Eq. 11); k = 1 is positive PMI."""
    number("k", k)
    matrix = pmi(counts, power)
    matrix.data = np.maximum(matrix.data - math.log(k), 0)
    matrix.eliminate_zeros()
    return matrix


def svd_vectors(matrix: Matrix, d: int, power: float = 0.5, seed: int = 0) -> Float[np.ndarray, "words d"]:
    """U_d · Σ_d^power (Section 4.2): power 1/2 is the paper's symmetric form. The largest singular value comes first.

    Raises ValueError for a d that is not below the matrix's size.
    """
    whole("d", d)
    whole("seed", seed, 0)
    number("power", power, above=-1e-9)
    if d >= min(matrix.shape):
        raise ValueError(f"d must be below the size of the matrix, {min(matrix.shape)}, got {d}")
    start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
    U, S, _ = cast("tuple[np.ndarray, ...]", svds(matrix, k=d, v0=start))
    order = np.argsort(-S)
    return U[:, order] * S[order] ** power
