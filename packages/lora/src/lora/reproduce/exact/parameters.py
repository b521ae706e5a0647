"""The columns of trainable parameters of Tables 2 to 5 and 15, counted on models without weights."""

from __future__ import annotations

from typing import Any

import torch

from papertest import Measured, Run, claim, counting

from lora.reproduce.models import (
    QUERY_VALUE,
    SIZES,
    adapter_formula,
    biases,
    deberta_xxl,
    gpt,
    gpt3_lora,
    insert,
    lora_formula,
    prefix,
    roberta,
    with_lora,
)

ROBERTA_R = 8  # Table 9: r_q = r_v = 8
ROBERTA_TARGETS = ("query", "value")
DEBERTA_R = 8  # Table 10: r_q = r_v = 8
DEBERTA_TARGETS = ("query_proj", "value_proj")
GPT2_R = 4  # Table 11: r_q = r_v = 4
V = ("v_proj",)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
PREFIX_EMBED = ((32, 8), (64, 8), (128, 8), (256, 8), (512, 8))  # Table 15: l_p, l_i
PREFIX_LAYER = ((2, 2), (8, 0), (8, 8), (32, 4), (64, 0))
GPT3_LAYERS, GPT3_WIDTH = SIZES["gpt3"][:2]
ADAPTER_H = ("o_proj", "fc_out")  # after self-attention and after the MLP


def millions(counts: dict[str, int]) -> dict[str, float]:
    return {name: count / 1e6 for name, count in counts.items()}


def ranks_that_fit(printed: float, decimals: int, matrices: int, d_model: int) -> list[int]:
    """The ranks whose count of LoRA's parameters rounds to the printed number of millions."""
    return [r for r in range(1, 65) if round(lora_formula(matrices, d_model, r) / 1e6, decimals) == printed]


@claim("params-roberta")
def params_roberta(run: Run) -> Measured:
    """Table 2, RoBERTa: 10^6 parameters of LoRA (r 8), AdptP (r 64 and 16) and AdptH (r 64 and 8, Table 9).

    The details have the counts, and those of AdptP and AdptH in 2^20 without biases.
    """
    layers, d_model = 24, 1024
    after_mlp = tuple(f"{layer}.output.dense" for layer in range(layers))
    after_both = ("output.dense",)
    rows = {"large_adpt_p": (after_mlp, 64), "large_adpt_p_small": (after_mlp, 16)}
    rows |= {"large_adpt_h": (after_both, 64), "large_adpt_h_small": (after_both, 8)}
    counts = {f"{size}_lora": with_lora(roberta(size), ROBERTA_R, ROBERTA_TARGETS) for size in ("base", "large")}
    binary = {}
    for name, (after, width) in rows.items():
        with torch.device("meta"):
            counts[name] = insert(roberta("large").encoder, after, d_model, width, norm=False)
        adapters = layers if after is after_mlp else 2 * layers
        assert counts[name] == adapter_formula(adapters, d_model, width)
        binary[name] = 2 * adapters * d_model * width / 2**20
    return Measured(millions(counts), {"parameters": counts, "without_biases_in_2_20": binary})


@claim("params-deberta")
def params_deberta(run: Run) -> Measured:
    """Table 2, DeBERTa XXL: 10^6 parameters of LoRA with Table 10's r_q = r_v = 8.

    The details have the ranks that would give the printed number, and the count with a pooler (d² + d) trained too.
    """
    printed: Any = run.reported["table-2-parameters"].value
    model = deberta_xxl()
    layers, d_model = model.config.num_hidden_layers, model.config.hidden_size
    count = with_lora(model, DEBERTA_R, DEBERTA_TARGETS)
    fits = ranks_that_fit(printed["xxl_lora"], 1, 2 * layers, d_model)
    details = {"parameters": count, "ranks_that_fit": fits, "with_pooler": count + d_model**2 + d_model}
    return Measured({"xxl_lora": count / 1e6}, details)


@claim("params-gpt2")
def params_gpt2(run: Run) -> Measured:
    """Table 3: 10^6 parameters of LoRA on GPT-2 medium and large with Table 11's r_q = r_v = 4.

    The details have the ranks that would give the printed numbers (none), and a thousandth of the printed parameters
    of full fine-tuning, rounded as the table rounds.
    """
    printed: Any = run.reported["table-3-parameters"].value
    value, ranks, thousandth = {}, {}, {}
    for size in ("medium", "large"):
        layers, d_model = SIZES[f"gpt2_{size}"][:2]
        value[f"{size}_lora"] = with_lora(gpt(f"gpt2_{size}"), GPT2_R) / 1e6
        ranks[size] = ranks_that_fit(printed[f"{size}_lora"], 2, 2 * layers, d_model)
        thousandth[size] = round(printed[f"{size}_ft"] / 1000, 2)
    return Measured(value, {"ranks_that_fit": ranks, "a_thousandth_of_the_model": thousandth})


@claim("params-gpt3")
def params_gpt3(run: Run) -> Measured:
    """Table 4: 10^6 parameters of PreEmbed (264 tokens), AdapterH (r 1 and 8) and LoRA on q and v (r 1 and 8)."""
    counts = {"preembed": prefix(1, GPT3_WIDTH, 256 + 8)}
    counts |= {"adapter_h_small": adapter_h(1), "adapter_h": adapter_h(8)}
    counts |= {"lora_small": with_lora(gpt("gpt3"), 1), "lora": with_lora(gpt("gpt3"), 8)}
    return Measured(millions(counts), {"parameters": counts})


def adapter_h(r: int) -> int:
    """Parameters of AdapterH with bottleneck r on GPT-3."""
    with torch.device("meta"):
        return insert(gpt("gpt3"), ADAPTER_H, GPT3_WIDTH, r, norm=False)


@claim("params-prefix")
def params_prefix(run: Run) -> Measured:
    """Table 15: 10^6 parameters of PrefixEmbed and PrefixLayer on GPT-3, for five (l_p, l_i) each.

    The details have what is printed beyond the count, in tokens of one layer's width.
    """
    value = {
        "embed": [prefix(1, GPT3_WIDTH, sum(lengths)) / 1e6 for lengths in PREFIX_EMBED],
        "layer": [prefix(GPT3_LAYERS, GPT3_WIDTH, sum(lengths)) / 1e6 for lengths in PREFIX_LAYER],
    }
    printed: Any = run.reported["table-15-prefix"].value
    beyond = {
        name: [round((p - c) * 1e6 / GPT3_WIDTH, 1) for p, c in zip(printed[name], value[name], strict=True)]
        for name in value
    }
    return Measured(value, {"printed_beyond_in_tokens": beyond})


@claim("params-bitfit")
def params_bitfit(run: Run) -> Measured:
    """Table 4: 10^6 parameters in GPT-3's bias vectors.

    The details have the vectors of length d_model a layer, counted and as the printed number would need them, and
    10^6 bias parameters of RoBERTa base, for which Table 2 prints 0.1.
    """
    printed: Any = run.reported["table-4-parameters"].value
    count = biases(gpt("gpt3"))
    layer = GPT3_LAYERS * GPT3_WIDTH
    details = {"vectors_a_layer": round(count / layer, 2), "needed": round(printed["bitfit"] * 1e6 / layer, 2)}
    return Measured({"bitfit": count / 1e6}, details | {"roberta_base": biases(roberta("base")) / 1e6})


@claim("params-adapters")
def params_adapters(run: Run) -> Measured:
    """Table 15: 10^6 parameters of AdapterH on GPT-3, for the r in its columns."""
    columns: Any = run.reported["table-15-adapter"].columns
    counts = [adapter_h(r) for r in columns]
    formula = [adapter_formula(2 * GPT3_LAYERS, GPT3_WIDTH, r) for r in columns]
    return Measured([count / 1e6 for count in counts], {"parameters": counts, "formula": formula})


@claim("params-ranks")
def params_ranks(run: Run) -> Measured:
    """Table 15: 10^6 parameters of LoRA on GPT-3 for the runs of Table 6."""
    runs = {"v": (V, (2,)), "q_v": (QUERY_VALUE, (1, 2, 4, 8, 64)), "q_k_v_o": (ATTENTION, (1, 2, 4, 64))}
    counts = {name: [gpt3_lora(r, targets) for r in ranks] for name, (targets, ranks) in runs.items()}
    return Measured({name: [c / 1e6 for c in row] for name, row in counts.items()}, {"parameters": counts})


@claim("params-budgets-text")
def params_budgets_text(run: Run) -> dict[str, float]:
    """Appendix D.4: 10^6 parameters of LoRA on GPT-3 with the ranks that the text gives for its two budgets."""
    ranks = {"q_v_1": (QUERY_VALUE, 1), "v_2": (V, 2), "q_v_8": (QUERY_VALUE, 8), "q_k_v_o_2": (ATTENTION, 2)}
    return millions({name: gpt3_lora(r, targets) for name, (targets, r) in ranks.items()})


@claim("params-budget")
def params_budget(run: Run) -> Measured:
    """Table 5: least and largest of its columns' trainable parameters, in 10^6, and their difference."""
    columns: Any = run.reported["table-5"].columns
    counts = {}
    for column in columns:  # such as "q,v r 4"
        letters, _, r = column.split(" ")
        counts[column] = gpt3_lora(int(r), [f"{letter}_proj" for letter in letters.split(",")])
    least, largest = min(counts.values()), max(counts.values())
    value = {"least": least / 1e6, "largest": largest / 1e6, "difference": (largest - least) / 1e6}
    return Measured(value, {"parameters": counts})


@claim("params-full")
def params_full(run: Run) -> Measured:
    """Tables 2 to 4: parameters of whole models, and of GPT-2 medium's top two layers, over the printed numbers."""
    counts = {
        "roberta_base": counting.parameters(roberta("base")),
        "roberta_large": counting.parameters(roberta("large")),
        "deberta_xxl": counting.parameters(deberta_xxl()),
        "gpt2_medium": counting.parameters(gpt("gpt2_medium")),
        "gpt2_large": counting.parameters(gpt("gpt2_large")),
        "gpt2_medium_top2": counting.parameters(gpt("gpt2_medium").layers[-2:]),
        "gpt3": counting.parameters(gpt("gpt3")),
    }
    tables: dict[str, Any] = {name: entry.value for name, entry in run.reported.items()}
    glue, e2e = tables["table-2-parameters"], tables["table-3-parameters"]
    printed = [glue["base_ft"], glue["large_ft"], glue["xxl_ft"], e2e["medium_ft"], e2e["large_ft"]]
    printed += [e2e["medium_ft_top2"], tables["table-4-parameters"]["ft"]]
    value = {name: count / 1e6 / paper for (name, count), paper in zip(counts.items(), printed, strict=True)}
    return Measured(value, {"parameters": counts})
