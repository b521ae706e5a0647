"""Published weights: the safetensors layout of the transformers library, read into a model and written from one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bert.config import BertConfig
from bert.heads import BertForClassification, BertForPreTraining
from bert.model import Bert

Model = TypeVar("Model", Bert, BertForPreTraining, BertForClassification)

# Our names of modules and parameters, and theirs; whole parts of a name, the longer first
_NAMES = {
    "embeddings.tokens": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "encoder": "encoder.layer",
    "attention.W_Q": "attention.self.query",
    "attention.W_K": "attention.self.key",
    "attention.W_V": "attention.self.value",
    "attention.W_O": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.W_1": "intermediate.dense",
    "feed_forward.W_2": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
    "pooler": "pooler.dense",
    "mlm.dense": "cls.predictions.transform.dense",
    "mlm.norm": "cls.predictions.transform.LayerNorm",
    "mlm.bias": "cls.predictions.bias",
    "nsp": "cls.seq_relationship",
}
_OURS = re.compile(rf"(?<![^.])({'|'.join(map(re.escape, _NAMES))})(?![^.])")
_SIZES = {
    "vocab_size": "vocab_size",
    "n_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "n_types": "type_vocab_size",
}
_MORE = {  # and what a config.json may leave out, with what stands for it then
    "dropout": ("hidden_dropout_prob", 0.1),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "init_std": ("initializer_range", 0.02),
    "causal": ("is_decoder", False),
}
_ONLY = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def load_pretrained(path: str | Path, kind: type[Model] = Bert, *, fused: bool = False) -> Model:
    """A model with the weights of a checkpoint, in evaluation: `load_pretrained("bert-base-uncased")`.

    path: a folder with model.safetensors and config.json, or such a file with config.json beside it, in the layout of
        the transformers library; tensors of a Bert may have `bert.` before their names
    kind: Bert, which leaves out the heads of the file; BertForPreTraining or BertForClassification, with theirs
    fused: the new config's

    Weights are float32, those of a half precision too. Raises FileNotFoundError where there is no such file, and
    ValueError for a file that is cut short, a config of another model, and tensors that are missing, that a BERT does
    not have, or that have other shapes, all of them named.
    """
    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint {file}: path must be a folder with model.safetensors and "
                                "config.json, or such a file")  # fmt: skip
    config = _config(file.parent / "config.json", fused)
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is cut short or no safetensors file: {error}") from None
    weights = _named(tensors, kind)
    with torch.device("meta"):
        model = _new(kind, config, weights)
    names = {name: their_name(name, "" if kind is Bert else "bert.") for name in model.state_dict()}
    _check(file, {names[name]: tensor for name, tensor in model.state_dict().items()}, weights)
    model.load_state_dict({ours: _wide(weights[theirs]) for ours, theirs in names.items()}, assign=True)
    return model.eval()


def save_pretrained(model: Bert | BertForPreTraining | BertForClassification, folder: str | Path) -> None:
    """Write model.safetensors and config.json, which `load_pretrained` and the transformers library read.

    The weights are in place whole or not at all: a run that is stopped leaves the old file.
    """
    folder, c = Path(folder), model.config
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "" if isinstance(model, Bert) else "bert."
    weights = {their_name(name, prefix): x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    if isinstance(model, BertForPreTraining):
        architecture = "BertForPreTraining"
    else:
        architecture = "BertModel" if isinstance(model, Bert) else "BertForSequenceClassification"
    config: dict[str, Any] = {"architectures": [architecture], **_ONLY}
    config |= {theirs: getattr(c, ours) for ours, theirs in _SIZES.items()} | {"intermediate_size": c.ff_size}
    config |= {theirs: getattr(c, ours) for ours, (theirs, _) in _MORE.items()}
    config["attention_probs_dropout_prob"] = c.dropout
    if isinstance(model, BertForClassification):
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(model.n_labels)}
    save_file(weights, folder / "model.safetensors.part", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")


def their_name(name: str, prefix: str) -> str:
    """`encoder.3.attention.W_Q.weight` as `encoder.layer.3.attention.self.query.weight`; prefix: before a Bert's."""
    name = name.removeprefix("bert.")
    head = name.startswith(("mlm.", "nsp.", "classifier."))
    return ("" if head else prefix) + _OURS.sub(lambda found: _NAMES[found[0]], name)


def _config(file: Path, fused: bool) -> BertConfig:
    try:
        config: Any = json.loads(file.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is cut short or no JSON: {error}") from None
    missing = [key for key in _SIZES.values() if key not in config]
    if missing:
        raise ValueError(f"{file} must have the keys {', '.join(missing)}")
    for key, accepted in _ONLY.items():
        if config.get(key, accepted) != accepted:
            raise ValueError(f"{file}: {key} must be {accepted!r}, got {config[key]!r}")
    found = {ours: config[theirs] for ours, theirs in _SIZES.items()}
    found |= {ours: config.get(theirs, default) for ours, (theirs, default) in _MORE.items()}
    dropout = config.get("attention_probs_dropout_prob", found["dropout"])
    if dropout != found["dropout"]:
        raise ValueError(f"{file}: attention_probs_dropout_prob must be hidden_dropout_prob, {found['dropout']}, got "
                         f"{dropout}")  # fmt: skip
    try:
        return BertConfig(**found, fused=fused)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from None


def _named(tensors: Mapping[str, Tensor], kind: type[nn.Module]) -> dict[str, Tensor]:
    """The tensors by the names of today; without constants, what is stored twice, and heads that `kind` has not."""
    pretraining, classification = kind is BertForPreTraining, kind is BertForClassification
    unwanted = tuple(p for p, wanted in (("cls.", pretraining), ("classifier.", classification)) if not wanted)
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)  # as they were called in TensorFlow
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        body = name.removeprefix("bert.")
        if (
            body == "embeddings.position_ids"
            or name.startswith("cls.predictions.decoder.")
            or name.startswith(unwanted)
        ):
            continue
        head = name.startswith(("cls.", "classifier."))
        result[body if head or kind is Bert else f"bert.{body}"] = tensor
    return result


def _new(kind: type[Model], config: BertConfig, weights: Mapping[str, Tensor]) -> Model:
    if kind is BertForClassification:
        classifier = weights.get("classifier.weight")
        return cast(Model, BertForClassification(config, 2 if classifier is None else len(classifier)))
    return cast(Model, (BertForPreTraining if kind is BertForPreTraining else Bert)(config))


def _check(file: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """ValueError with every tensor that is missing, too many, of another shape, or not of floats."""
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is none of this model's" for name in sorted(found) if name not in expected]
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name].shape:
            wrong.append(f"{name} has the shape {tuple(found[name].shape)}, not {tuple(expected[name].shape)}")
        elif not found[name].is_floating_point():
            wrong.append(f"{name} holds {found[name].dtype}, not floats")
    if wrong:
        raise ValueError(f"{file} does not fit its config.json: " + "; ".join(wrong))


def _wide(weight: Tensor) -> Tensor:
    """A copy: safetensors gives a view of the file, which a later write to the file would change."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)
