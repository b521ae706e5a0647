"""One subword vocabulary for source and target, made from the training pairs, and batches of similar lengths."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch import Tensor

PAD, BOS, EOS = 0, 1, 2
Batch = tuple[Int[Tensor, "batch seq_src"], Int[Tensor, "batch seq_tgt"]]
Encoded = list[tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class Vocabulary:
    """Byte-pair encoding of bytes (Section 5.1): no text is outside it, and decoding gives back what was encoded."""

    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        self.tokenizer.encode_special_tokens = True  # as text, where a text holds their names

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> Vocabulary:
        """Merges learned from these texts; `size` counts padding, beginning, end and the 256 bytes."""
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=["<pad>", "<bos>", "<eos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def decode(self, sentences: list[list[int]]) -> list[str]:
        return [text.strip() for text in self.tokenizer.decode_batch(sentences)]

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()


def pad(rows: Sequence[Sequence[int]]) -> Int[Tensor, "batch seq"]:
    """Rows of tokens as one tensor, padded at their ends."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])


def tensors(pairs: Encoded) -> Batch:
    """The source with its end; the target with its beginning and end, of which `[:, :-1]` is read, `[:, 1:]` said."""
    return pad([[*source, EOS] for source, _ in pairs]), pad([[BOS, *target, EOS] for _, target in pairs])


def batches(pairs: Encoded, tokens: int, seed: int) -> Iterator[Batch]:
    """Pairs of approximate length together, about so many target tokens a batch (Section 5.1), without end.

    Each pass over the pairs is shuffled anew, all from the seed.
    """
    draw = random.Random(seed)
    while True:
        groups: list[Encoded] = [[]]
        longest = 0
        for pair in sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]) + 2 * draw.random()):
            longest = max(longest, len(pair[1]) + 1)
            if groups[-1] and longest * (len(groups[-1]) + 1) > tokens:
                groups.append([])
                longest = len(pair[1]) + 1
            groups[-1].append(pair)
        draw.shuffle(groups)
        yield from map(tensors, groups)
