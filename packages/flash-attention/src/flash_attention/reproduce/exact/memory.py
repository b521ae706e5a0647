"""Memory: the peak of forward and backward, counted by torch's allocator."""

from __future__ import annotations

from papertest import counting
from papertest.claims import Measured, Run, claim

from flash_attention.reproduce.attentions import ATTENTIONS, call, draw


@claim("memory-exponent")
def memory_exponent(run: Run) -> Measured:
    """Thm. 1 and Section 2.2: the exponents of N in the peak extra memory, by a fit.

    Forward and backward, float32, d = 64; counted beyond Q, K, V and dO, so with O, dQ, dK and dV. One head: the
    memory of both attentions is proportional to batch times heads.
    """
    lengths = [512, 1024, 2048] if run.quick else [512, 2048, 8192]
    peaks = {name: [run.shared(peak, name, n) for n in lengths] for name in ("flash", "standard")}
    return Measured(
        {name: counting.exponent(lengths, row) for name, row in peaks.items()}, {"lengths": lengths, **peaks}
    )


@claim("memory-share")
def memory_share(run: Run) -> Measured:
    """Section 4.3 at N = 8192: flash attention's peak extra memory over standard attention's, as in memory-exponent."""
    n = 2048 if run.quick else 8192
    flash, standard = run.shared(peak, "flash", n), run.shared(peak, "standard", n)
    return Measured(flash / standard, {"flash": flash, "standard": standard})


def peak(run: Run, attention: str, n: int) -> int:
    """Bytes at the peak of forward and backward beyond the inputs, of one head of size 64 in float32."""
    inputs = draw(run.seed, (1, 1, n, 64), run.device)
    return counting.peak_memory(call(ATTENTIONS[attention], inputs, "both"), run.device)
