"""Published weights: the safetensors layout of the transformers library, read into a model and written from one."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bert.arguments import check_flag, check_kind
from bert.config import BertConfig
from bert.heads import BertForClassification, BertForPreTraining
from bert.model import Bert, init_matrix

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
_PREFIXES: dict[type[nn.Module], str] = {Bert: "", BertForPreTraining: "bert.", BertForClassification: "bert."}
_HEADS = {"cls.": BertForPreTraining, "classifier.": BertForClassification, "qa_outputs.": None}
_CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids")  # 0, 1, 2, ... and 0, stored by old versions
_WRAPPERS = ("_orig_mod", "module")  # where torch.compile and DataParallel keep what they wrap
_TIED = {  # the decoder's names, and what it shares
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_ONLY = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def load_pretrained(path: str | Path, kind: type[Model] = Bert, *, fused: bool = False) -> Model:
    """A model with the weights of a checkpoint, in evaluation: `load_pretrained("bert-base-uncased")`.

    path: a folder with model.safetensors and config.json, or such a file with config.json beside it, in the layout of
        the transformers library; tensors of a Bert may have `bert.` before their names
    kind: Bert; BertForPreTraining or BertForClassification, with their heads of the file
    fused: the new config's

    Weights are float32, those of a half precision too. LayerNorm's gamma and beta are weight and bias. Left out are
    the heads that `kind` does not have (cls., classifier., qa_outputs.) and the constants embeddings.position_ids and
    embeddings.token_type_ids. A checkpoint of a masked language model has no pooler and no head of the next sentence:
    there a Bert and a BertForPreTraining get new ones, with a UserWarning that names them.

    Raises FileNotFoundError where there is no such file, and ValueError for a file that is cut short, a config of
    another model, and tensors that are missing, that a BERT does not have, that are there twice and differ (a decoder
    that is not tied among them), or that have other shapes, all of them named.
    """
    if kind not in _PREFIXES:
        raise ValueError(f"kind must be Bert, BertForPreTraining or BertForClassification, got {kind!r}")
    check_flag("fused", fused)
    file = _path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint {file}: path must be a folder with model.safetensors and "
                                "config.json, or such a file")  # fmt: skip
    config = _config(file.parent / "config.json", fused)
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is cut short or no safetensors file: {error}") from None
    weights = _named(file, tensors, kind)
    with torch.device("meta"):
        model = _new(kind, config, weights)
    names = {name: their_name(name, _PREFIXES[kind]) for name in model.state_dict()}
    expected = {names[name]: tensor for name, tensor in model.state_dict().items()}
    new = _not_pretrained(kind, expected, weights)
    _check(file, {name: tensor for name, tensor in expected.items() if name not in new}, weights)
    wide = {name: _wide(weight) for name, weight in weights.items()}
    if new:
        warnings.warn(f"{file} has none of {', '.join(new)}: they are new and know nothing", stacklevel=2)
        dtype = wide[_PREFIXES[kind] + "embeddings.word_embeddings.weight"].dtype
        for name in new:
            wide[name] = torch.empty_like(expected[name], device="cpu", dtype=dtype)
            if name.endswith("bias"):
                nn.init.zeros_(wide[name])
            else:
                init_matrix(wide[name], config.init_std)
    model.load_state_dict({ours: wide[theirs] for ours, theirs in names.items()}, assign=True)
    return model.eval()


def save_pretrained(model: Bert | BertForPreTraining | BertForClassification, folder: str | Path) -> None:
    """Write model.safetensors and config.json, which `load_pretrained` and the transformers library read.

    A compiled model, and one in DataParallel's kind of wrapper, is saved as the model that it holds. The weights are in
    place whole or not at all: a run that is stopped leaves the old file.

    Raises ValueError for another kind of model, and one that holds tensors that `load_pretrained` would not know.
    """
    whole, state = plain(model)
    kind: Any = next((kind for kind in _PREFIXES if isinstance(whole, kind)), None)
    check_kind("model", whole, tuple(_PREFIXES), "a Bert, a BertForPreTraining or a BertForClassification")
    folder, prefix = _path(folder, "folder"), _PREFIXES[kind]
    c: Any = whole.config
    weights = {their_name(name, prefix): x.detach().to("cpu", copy=True).contiguous() for name, x in state.items()}
    with torch.device("meta"):
        new: nn.Module = _new(kind, c, weights)
    expected = {their_name(name, prefix): tensor for name, tensor in new.state_dict().items()}
    _check("model", expected, weights)
    folder.mkdir(parents=True, exist_ok=True)
    architecture = {Bert: "BertModel", BertForClassification: "BertForSequenceClassification"}.get(kind, kind.__name__)
    config: dict[str, Any] = {"architectures": [architecture], **_ONLY}
    config |= {theirs: getattr(c, ours) for ours, theirs in _SIZES.items()} | {"intermediate_size": c.ff_size}
    config |= {theirs: getattr(c, ours) for ours, (theirs, _) in _MORE.items()}
    config["attention_probs_dropout_prob"] = c.dropout
    if kind is BertForClassification:
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(len(weights["classifier.weight"]))}
    save_file(weights, folder / "model.safetensors.part", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")


def plain(model: Any) -> tuple[Any, dict[str, Tensor]]:
    """The model within torch.compile's and DataParallel's wrappers, and its state by plain names."""
    while isinstance(model, nn.Module) and (set(dict(model.named_children())) & set(_WRAPPERS)):
        model = next(child for name, child in model.named_children() if name in _WRAPPERS)
    state: dict[str, Tensor] = model.state_dict() if isinstance(model, nn.Module) else {}
    return model, {".".join(part for part in name.split(".") if part not in _WRAPPERS): x for name, x in state.items()}


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
    check_kind(str(file), config, dict, "names and values")
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


def _named(file: Path, tensors: Mapping[str, Tensor], kind: type[nn.Module]) -> dict[str, Tensor]:
    """The tensors by the names of today; without constants, and heads that `kind` has not."""
    result: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", old)  # as they were called in TensorFlow
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        if any(name.startswith(head) and kind is not owner for head, owner in _HEADS.items()):
            continue
        name = _TIED.get(name, name)
        body = name.removeprefix("bert.")
        if body in _CONSTANTS:
            continue
        name = body if body.startswith(tuple(_HEADS)) else _PREFIXES[kind] + body
        if name in result and not _same(result[name], tensor):
            raise ValueError(f"{file} has {name} twice, the second time as {old}, and they differ")
        result[name] = tensor
    return result


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(_wide(a), _wide(b))


def _not_pretrained(kind: type[nn.Module], expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Those that a checkpoint of a masked language model alone, or of another task than ours, does not have."""
    parts = ("pooler.",) if kind is Bert else ()
    if kind is BertForPreTraining and "cls.predictions.bias" in found:
        parts = ("bert.pooler.", "cls.seq_relationship.")
    absent = tuple(part for part in parts if not any(name.startswith(part) for name in found))
    return [name for name in expected if name.startswith(absent)]


def _new(kind: type[Model], config: BertConfig, weights: Mapping[str, Tensor]) -> Model:
    if kind is BertForClassification:
        classifier = weights.get("classifier.weight")
        return cast(Model, BertForClassification(config, 2 if classifier is None else len(classifier)))
    return cast(Model, (BertForPreTraining if kind is BertForPreTraining else Bert)(config))


def _check(where: Path | str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """ValueError with every tensor that is missing, too many, of another shape, or not of floats."""
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} is none of this model's" for name in sorted(found) if name not in expected]
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name].shape:
            wrong.append(f"{name} has the shape {tuple(found[name].shape)}, not {tuple(expected[name].shape)}")
        elif not found[name].is_floating_point():
            wrong.append(f"{name} holds {found[name].dtype}, not floats")
    if wrong:
        raise ValueError(f"{where} does not fit its {'config' if where == 'model' else 'config.json'}: "
                         + "; ".join(wrong))  # fmt: skip


def _wide(weight: Tensor) -> Tensor:
    """A copy: safetensors gives a view of the file, which a later write to the file would change."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)


def _path(path: Any, name: str = "path") -> Path:
    check_kind(name, path, (str, os.PathLike), "a path")
    return Path(path)
