"""Softmax regression on digits: the training run that the trend claims share."""

from __future__ import annotations

import torch

from papertest import Run

from word2vec.reproduce.data import digits
from word2vec.softmax import softmax

TRAINING = 1000  # examples to train on, at most; the other 797 are the test set
STEPS, RATE = 100, 0.05  # pilot with seeds 1000 to 1002: with more steps the errors stay within half a point
TINY = 1e-12  # so that no logarithm is infinite


def error_after(run: Run, examples: int) -> float:
    """Test error in per cent after training on so many examples, with Adam on the whole of them in each step.

    A seed fixes the test set and the order of the examples, so that two runs with it differ in their number alone.
    """
    images, labels = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(run.seed))
    train, test = order[:examples], order[TRAINING:]
    W = torch.zeros(images.shape[1], 10, requires_grad=True)
    b = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.Adam([W, b], lr=RATE)
    for _ in run.progress(range(20 if run.quick else STEPS), f"{examples} examples"):
        p = softmax(images[train] @ W + b)
        loss = -torch.log(p[range(examples), labels[train]] + TINY).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    guessed = (images[test] @ W + b).argmax(dim=1)
    return 100 * (guessed != labels[test]).double().mean().item()
