"""Trend claims on MiniLM: Tables 2, 3, 5 and 6 on labelled sentences, and what Section 7 finds in trained A and B."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from papertest import Measured, Run, claim
from papertest.models import minilm

from lora.reproduce.data import CHINESE, ENGLISH
from lora.reproduce.models import factors
from lora.reproduce.training.classifiers import ALPHA, BIAS, FULL, HEAD, LAST, METHODS, Classifier, lora_name, trained

RANKS = (1, 2, 4, 8, 64)  # Table 6
LORA, WIDE = lora_name("q,v", 8), lora_name("q,v", 64)
AGAIN = f"{WIDE}, another seed"
OTHER_SEED = 1000  # added to the seed
PARTS = {"q": "query", "v": "value"}
SHOWN = 3  # the layer whose φ is kept for every i and j, the third of six


# ---------------------------------------------------------------- how alike two adaptations are (Section 7)


def directions(a: Float[Tensor, "r d"]) -> Float[Tensor, "r d"]:
    """The right-singular vectors of A, one a row, that of the largest singular value first."""
    return torch.linalg.svd(a.double(), full_matrices=False)[2]


def similarity(a: Float[Tensor, "r1 d"], b: Float[Tensor, "r2 d"]) -> Float[Tensor, "r1 r2"]:
    """Eq. 4 for every i and j: ‖U_A^iᵀ U_B^j‖_F² / min(i, j), U^i the first i right-singular vectors.

    0 where the subspaces are orthogonal, 1 where one is in the other.
    """
    squares = (directions(a) @ directions(b).T) ** 2
    i, j = (torch.arange(1, n + 1, dtype=squares.dtype) for n in squares.shape)
    return squares.cumsum(0).cumsum(1) / torch.minimum(i[:, None], j[None, :])


def projections(
    w: Float[Tensor, "out in"], delta: Float[Tensor, "out in"], r: int, generator: torch.Generator
) -> dict[str, float]:
    """Table 7: ‖Uᵀ W V‖_F with U and V the first r singular vectors of ΔW, of W itself, and of a random matrix.

    Beside them ‖W‖_F, ‖ΔW‖_F and the amplification factor, ‖ΔW‖_F over the first.
    """
    w, delta = w.double(), delta.double()
    noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
    found: dict[str, float] = {}
    for name, matrix in (("delta", delta), ("w", w), ("random", noise)):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        found[name] = float(torch.linalg.norm(u[:, :r].T @ w @ v[:r].T))
    found["norm_w"], found["norm_delta"] = float(torch.linalg.norm(w)), float(torch.linalg.norm(delta))
    found["factor"] = found["norm_delta"] / found["delta"]
    return found


# ---------------------------------------------------------------- trainings


def train(run: Run, name: str, language: str) -> dict[str, Any]:
    """Accuracy and count of one method; of LoRA on the query also Table 7 for each layer."""
    model, kept = trained(run, name, language, run.seed)
    if "query" in METHODS[name].targets:
        kept["table_7"] = table_7(model, METHODS[name].r, run.seed)
    return kept


def together(run: Run) -> dict[str, Any]:
    """LoRA at r = 8, at r = 64 and at r = 64 from another seed, on the same English sentences.

    similarity: φ (Eq. 4) of A, and of ΔW, by pair of models and by part, for each layer at i = j = 1 and i = j = 8; and
    of random Gaussian matrices in A's place. maps: φ of A in one layer for every i to 8 and j to 64.
    """
    kept: dict[str, Any] = {}
    seen: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    for name in run.progress((LORA, WIDE, AGAIN), "LoRA at r = 8 and 64", total=3):
        again = name == AGAIN
        seed = run.seed + (OTHER_SEED if again else 0)
        model, kept[name] = trained(run, WIDE if again else name, ENGLISH, seed)
        seen[name] = {layer: (a.detach(), b.detach()) for layer, (a, b) in factors(model.bert).items()}
        if not again:
            kept[name]["table_7"] = table_7(model, METHODS[name].r, run.seed)
    noise = torch.Generator().manual_seed(run.seed)
    found: dict[str, Any] = {"models": kept, "similarity": {}, "maps": {}}
    for label, one, other in (("ranks", LORA, WIDE), ("seeds", WIDE, AGAIN)):
        for part, name in PARTS.items():
            layers = [layer for layer in seen[one] if layer.endswith(name)]
            pairs = [(seen[one][layer], seen[other][layer]) for layer in layers]
            maps = [similarity(a, b) for (a, _), (b, _) in pairs]
            random = [similarity(*(torch.randn(x.shape, generator=noise) for x in (a, b))) for (a, _), (b, _) in pairs]
            deltas = [similarity(b @ a, d @ c) for (a, b), (c, d) in pairs]
            found["similarity"][f"{label} {part}"] = {
                key: {"1": [float(m[0, 0]) for m in each], "8": [float(m[7, 7]) for m in each]}
                for key, each in (("a", maps), ("random", random), ("delta_w", deltas))
            }
            found["maps"][f"{label} {part}"] = rounded(maps[SHOWN - 1][:8, :64])
            found["maps"][f"{label} random"] = rounded(random[SHOWN - 1][:8, :64])
    return found


def rounded(numbers: Tensor) -> list[list[float]]:
    return [[round(x, 3) for x in row] for row in numbers.tolist()]


def table_7(model: Classifier, r: int, seed: int) -> list[dict[str, float]]:
    """Of W_q in every layer."""
    bert, noise = minilm()[0], torch.Generator().manual_seed(seed)
    return [
        projections(bert.get_submodule(layer).weight.detach(), ALPHA / r * (b @ a).detach(), r, noise)  # pyright: ignore[reportCallIssue]
        for layer, (a, b) in factors(model.bert).items()
        if layer.endswith("query")
    ]


def kept(run: Run, name: str, language: str = ENGLISH) -> dict[str, Any]:
    """What `train` or `together` has of a method, whichever trains it."""
    if language == ENGLISH and name in (LORA, WIDE):
        return run.shared(together)["models"][name]
    return run.shared(train, name, language)


def accuracies(run: Run, names: tuple[str, ...], language: str = ENGLISH) -> dict[str, float]:
    return {name: kept(run, name, language)["accuracy"] for name in names}


def ahead_of(run: Run, other: str, *shown: str) -> tuple[dict[str, float], dict[str, Any]]:
    """LoRA minus another method, in points of accuracy, in both languages; `shown` are in the English details."""
    details: dict[str, Any] = {
        "english": accuracies(run, (LORA, other, *shown)), "chinese": accuracies(run, (LORA, other), CHINESE)
    }  # fmt: skip
    return {language: found[LORA] - found[other] for language, found in details.items()}, details


# ---------------------------------------------------------------- claims


@claim("adapters-learn")
def adapters_learn(run: Run) -> Measured:
    """Control: LoRA's accuracy above that of the commoner label, in both languages."""
    found = {language: kept(run, LORA, language) for language in (ENGLISH, CHINESE)}
    value = {language.lower(): each["accuracy"] - each["majority"] for language, each in found.items()}
    return Measured(value, {"accuracy": {language.lower(): each["accuracy"] for language, each in found.items()}})


@claim("close-to-full")
def close_to_full(run: Run) -> Measured:
    """Table 2: LoRA minus full fine-tuning."""
    value, details = ahead_of(run, FULL)
    lora, full = kept(run, LORA), kept(run, FULL)
    details["trained"] = {LORA: lora["trained"], FULL: full["trained"]}
    return Measured({**value, "share": lora["percent"]}, details)


@claim("ahead-of-bias")
def ahead_of_bias(run: Run) -> Measured:
    """Table 2: LoRA minus BitFit."""
    return Measured(*ahead_of(run, BIAS))


@claim("ahead-of-last-layer")
def ahead_of_last_layer(run: Run) -> Measured:
    """Table 3: LoRA minus the last layer alone; the classifier alone is beside it in English."""
    return Measured(*ahead_of(run, LAST, HEAD))


@claim("ranks-level")
def ranks_level(run: Run) -> Measured:
    """Table 6."""
    found = {r: kept(run, lora_name("q,v", r))["accuracy"] for r in RANKS}
    value = {"spread": max(found.values()) - min(found.values()), "r1_minus_r64": found[1] - found[64]}
    return Measured(value, {"ranks": list(RANKS), "accuracy": list(found.values())})


@claim("q-and-v-together")
def q_and_v_together(run: Run) -> Measured:
    """Table 5: the same number of parameters in one kind of weights and in two."""
    both, q, v = lora_name("q,v", 4), lora_name("q", 8), lora_name("v", 8)
    found = accuracies(run, (both, q, v))
    counts = {name: kept(run, name)["trained"] for name in found}
    return Measured({"over_q": found[both] - found[q], "over_v": found[both] - found[v]},
                    {"accuracy": found, "trained": counts})  # fmt: skip


@claim("subspace-similarity")
def subspace_similarity(run: Run) -> Measured:
    """Figure 3, i = j = 1: A at r = 8 and at r = 64, mean over the layers."""
    found = run.shared(together)
    pairs = {part: found["similarity"][f"ranks {part}"] for part in PARTS}
    value = {part: statistics.mean(each["a"]["1"]) for part, each in pairs.items()}
    value["random"] = statistics.mean(x for each in pairs.values() for x in each["random"]["1"])
    return Measured(value, {"similarity": pairs, "maps": found["maps"], "layer": SHOWN})


@claim("two-seeds-similarity")
def two_seeds_similarity(run: Run) -> Measured:
    """Figure 4, i = j = 8: A at r = 64 from two seeds over two random matrices, means over the layers."""
    found = run.shared(together)
    pairs = {part: found["similarity"][f"seeds {part}"] for part in PARTS}
    value = {
        part: statistics.mean(each["a"]["8"]) / statistics.mean(each["random"]["8"]) for part, each in pairs.items()
    }
    return Measured(value, {"similarity": pairs, "maps": found["maps"], "layer": SHOWN})


@claim("amplification")
def amplification(run: Run) -> Measured:
    """Table 7 at r = 4, mean over the layers; the details have every layer, and r = 64 beside it."""
    layers = {str(r): kept(run, lora_name("q,v", r))["table_7"] for r in (4, 64)}
    ratios = {
        r: {
            "own_over_delta": statistics.mean(layer["w"] / layer["delta"] for layer in found),
            "delta_over_random": statistics.mean(layer["delta"] / layer["random"] for layer in found),
            "factor": statistics.mean(layer["factor"] for layer in found),
        }
        for r, found in layers.items()
    }
    return Measured(ratios["4"], {"layers": layers, "ratios": ratios})
