"""Skip-gram and CBOW with both of their objectives, by autograd: the definition. `word2vec.fast` trains them.

Losses are sums over what one example has, to be minimised: the negative of Eq. 3 and 4 of 2013b.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from word2vec.checks import one_of, whole
from word2vec.huffman import HuffmanTree


class _Tables(nn.Module):
    """Two tables of vectors: v for words that are given, v′ for words that are predicted or for a tree's inner nodes.

    The papers don't say how they begin. As the authors' program: v uniform in ± 0.5 / d, v′ zero.
    """

    def __init__(self, words: int, d: int, tree: HuffmanTree | None = None, seed: int = 0) -> None:
        super().__init__()
        whole("words", words, 2)
        whole("d", d)
        whole("seed", seed, 0)
        if tree is not None and len(tree.lengths) != words:
            raise ValueError(f"tree must have as many words as the model, {words}, got {len(tree.lengths)}")
        self.words, self.d = words, d
        draw = torch.Generator().manual_seed(seed)
        self.v = nn.Parameter((torch.rand(words, d, generator=draw) - 0.5) / d)
        self.v_prime = nn.Parameter(torch.zeros(words if tree is None else words - 1, d))
        self.nodes: Tensor
        self.signs: Tensor
        if tree is not None:
            signs = 1 - 2 * torch.from_numpy(tree.codes)
            self.register_buffer("nodes", torch.from_numpy(tree.nodes))
            self.register_buffer("signs", (signs * torch.from_numpy(tree.mask)).to(torch.int8))
        self.hierarchical = tree is not None

    def inputs(self, ids: Int[Tensor, "*ids"]) -> Float[Tensor, "*ids d"]:
        """v_I of each word."""
        return self.v[ids]

    @torch.no_grad()
    def vectors(self) -> Float[Tensor, "words d"]:
        """What one keeps: a vector per word."""
        return self.inputs(torch.arange(self.words))

    def _known(self, name: str, ids: Tensor) -> None:
        if ids.dtype != torch.int64 or (ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.words):
            raise ValueError(f"{name} must be int64 ids from 0 to {self.words - 1}, got {ids.dtype} of {ids.shape}")

    def _negative_sampling(
        self, h: Float[Tensor, "pairs d"], outputs: Int[Tensor, " pairs"], noise: Int[Tensor, "pairs k"]
    ) -> Float[Tensor, " pairs"]:
        if self.hierarchical:
            raise ValueError("negative_sampling_loss needs a model without a tree, got one with a tree")
        self._known("outputs", outputs)
        self._known("noise", noise)
        if outputs.shape != h.shape[:1] or noise.ndim != 2 or len(noise) != len(h):
            raise ValueError(
                f"outputs and noise must have one row per input, {len(h)}, got shapes {outputs.shape} and {noise.shape}"
            )
        wanted = (self.v_prime[outputs] * h).sum(-1)
        unwanted = torch.einsum("pkd,pd->pk", self.v_prime[noise], h)
        return -F.logsigmoid(wanted) - F.logsigmoid(-unwanted).sum(-1)  # 2013b, Eq. 4

    def _hierarchical_softmax(
        self, h: Float[Tensor, "pairs d"], outputs: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        if not self.hierarchical:
            raise ValueError("hierarchical_softmax_loss needs a model with a tree, got one without")
        self._known("outputs", outputs)
        if outputs.shape != h.shape[:1]:
            raise ValueError(f"outputs must have one word per input, {len(h)}, got shape {outputs.shape}")
        signs = self.signs[outputs].to(h.dtype)  # [[n(w, j+1) = ch(n(w, j))]]: 1 for the first child, −1 for the second
        scores = torch.einsum("psd,pd->ps", self.v_prime[self.nodes[outputs]], h)
        return -(F.logsigmoid(signs * scores) * signs.abs()).sum(-1)  # 2013b, Eq. 3


class SkipGram(_Tables):
    """A word predicts each word of its window. With a tree for hierarchical softmax, without for negative sampling.

    Raises ValueError for sizes below 1, fewer than two words, or another number of words in the tree.
    """

    def negative_sampling_loss(
        self, inputs: Int[Tensor, " pairs"], outputs: Int[Tensor, " pairs"], noise: Int[Tensor, "pairs k"]
    ) -> Float[Tensor, " pairs"]:
        """−log σ(v′_O · v_I) − Σ_i log σ(−v′_i · v_I), in nats (2013b, Eq. 4).

        noise: k words per pair, drawn from the noise distribution

        Raises ValueError for unknown ids, other shapes, or a model with a tree.
        """
        self._known("inputs", inputs)
        return self._negative_sampling(self.inputs(inputs), outputs, noise)

    def hierarchical_softmax_loss(
        self, inputs: Int[Tensor, " pairs"], outputs: Int[Tensor, " pairs"]
    ) -> Float[Tensor, " pairs"]:
        """−log p(O | I) = −Σ_j log σ([[n(O, j+1) = ch(n(O, j))]] · v′_n(O, j) · v_I), in nats (2013b, Eq. 3).

        Raises ValueError for unknown ids, other shapes, or a model without a tree.
        """
        self._known("inputs", inputs)
        return self._hierarchical_softmax(self.inputs(inputs), outputs)


class CBOW(_Tables):
    """The words of a window together predict the word in its middle.

    combine="mean": of their vectors, as 2013a says and later releases of the authors' program do
    combine="sum":  as the first release did

    Raises ValueError as SkipGram does.
    """

    def __init__(
        self, words: int, d: int, tree: HuffmanTree | None = None, combine: Literal["mean", "sum"] = "mean",
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(words, d, tree, seed)
        one_of("combine", combine, ("mean", "sum"))
        self.combine = combine

    def hidden(
        self, contexts: Int[Tensor, "examples slots"], mask: Bool[Tensor, "examples slots"]
    ) -> Float[Tensor, "examples d"]:
        """The projection layer; zero where a window is empty. The gradient of a mean is divided by its number of words.

        Raises ValueError for unknown ids, or a mask of another shape or type.
        """
        self._known("contexts", contexts)
        if mask.dtype != torch.bool or mask.shape != contexts.shape or contexts.ndim != 2:
            raise ValueError(
                f"mask must be bool of the contexts' shape, {contexts.shape}, got {mask.dtype} of {mask.shape}"
            )
        total = (self.v[contexts] * mask[..., None]).sum(1)
        return total / mask.sum(1, keepdim=True).clamp(min=1) if self.combine == "mean" else total

    def negative_sampling_loss(
        self, contexts: Int[Tensor, "examples slots"], mask: Bool[Tensor, "examples slots"],
        outputs: Int[Tensor, " examples"], noise: Int[Tensor, "examples k"],
    ) -> Float[Tensor, " examples"]:  # fmt: skip
        """As SkipGram's, with the hidden layer in the place of v_I."""
        return self._negative_sampling(self.hidden(contexts, mask), outputs, noise)

    def hierarchical_softmax_loss(
        self, contexts: Int[Tensor, "examples slots"], mask: Bool[Tensor, "examples slots"],
        outputs: Int[Tensor, " examples"],
    ) -> Float[Tensor, " examples"]:  # fmt: skip
        """As SkipGram's, with the hidden layer in the place of v_I."""
        return self._hierarchical_softmax(self.hidden(contexts, mask), outputs)
