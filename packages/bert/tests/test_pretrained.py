"""Checkpoints: there and back, as others write them, and those that are cut short or do not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from bert_cases import batch, config, positions, shake, small
from safetensors.torch import load_file, save_file

from papertest.models import minilm_folder as minilm
from papertest.parity import relative_error

from bert import Bert, BertForClassification, BertForPreTraining, load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers", reason="the group peers is not installed")
QUERY = "encoder.layer.1.attention.self.query.weight"


def three() -> dict[Any, Any]:
    torch.manual_seed(0)
    c = config(causal=True, dropout=0.2, layer_norm_eps=1e-6)
    return {kind: shake(kind(c)) for kind in (Bert, BertForPreTraining)} | {
        BertForClassification: shake(BertForClassification(c, 4))
    }


@pytest.mark.parametrize("kind", [Bert, BertForPreTraining, BertForClassification])
def test_weights_and_config_come_back_bit_by_bit(kind, tmp_path):
    model = three()[kind]
    save_pretrained(model, tmp_path / "new" / "folder")
    back = load_pretrained(tmp_path / "new/folder", kind)
    assert type(back) is kind
    assert back.config == model.config
    assert not back.training
    assert not any(p.is_meta for p in back.parameters())
    assert all(p.requires_grad for p in back.parameters())
    ours, theirs = model.state_dict(), back.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert sorted(x.name for x in (tmp_path / "new/folder").iterdir()) == ["config.json", "model.safetensors"]
    # of a file with heads, its Bert; and of the file itself, with the config beside it
    bert = load_pretrained(tmp_path / "new/folder/model.safetensors", fused=True)
    assert type(bert) is Bert
    assert bert.config.fused
    ids, types, mask = batch()
    mask[:, 0] = 1
    whole = model if kind is Bert else model.bert
    assert relative_error(bert(ids, types, mask)[1], whole(ids, types, mask)[1]) < 1e-5


@pytest.mark.parametrize("theirs", ["BertModel", "BertForPreTraining", "BertForSequenceClassification"])
def test_what_the_transformers_library_writes_is_read_and_what_is_written_is_read_there(theirs, tmp_path):
    kind = {"BertModel": Bert, "BertForPreTraining": BertForPreTraining}.get(theirs, BertForClassification)
    c = transformers.BertConfig(
        vocab_size=23, num_hidden_layers=2, hidden_size=12, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=11, num_labels=4,
    )  # fmt: skip
    peer = shake(getattr(transformers, theirs)(c))
    peer.save_pretrained(tmp_path)
    ids, types, mask = batch()
    ours = load_pretrained(tmp_path, kind)
    out = ours(ids, types, mask)
    expected = peer(ids, mask, types, positions(mask), return_dict=False)
    for a, b in zip(out if isinstance(out, tuple) else (out,), expected, strict=True):
        real = mask == 1 if a.ndim == 3 else slice(None)
        assert relative_error(a[real], b[real]) < 1e-5
    save_pretrained(ours, tmp_path / "back")
    again, report = getattr(transformers, theirs).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(report.values())
    for name, x in peer.state_dict().items():
        assert torch.equal(again.state_dict()[name], x), name


def test_real_weights():
    model = load_pretrained(minilm())
    assert sum(p.numel() for p in model.parameters()) == 22_713_728 - 512  # the carrier counts a constant
    assert (model.config.n_layers, model.config.hidden_size, model.config.n_heads) == (6, 384, 12)


def write(folder: Path, change: Any = None, **config: Any) -> Path:
    """A good checkpoint, changed: the tensors by a function, the config by values (None: without)."""
    save_pretrained(small(), folder)
    tensors = load_file(folder / "model.safetensors")
    if change is not None:
        change(tensors)
        save_file({name: x.contiguous() for name, x in tensors.items()}, folder / "model.safetensors")
    file = folder / "config.json"
    values = json.loads(file.read_text("utf-8")) | config
    file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}), "utf-8")
    return folder


def test_older_and_other_layouts(tmp_path):
    expected = load_pretrained(write(tmp_path / "plain")).state_dict()

    def old(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            as_tensorflow = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            tensors["bert." + as_tensorflow] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(11)[None]
        tensors["cls.predictions.decoder.weight"] = torch.zeros(23, 12)
        tensors["cls.seq_relationship.bias"] = torch.zeros(2)
        tensors["classifier.bias"] = torch.zeros(2)
        tensors["qa_outputs.bias"] = torch.zeros(2)

    found = load_pretrained(write(tmp_path / "old", old, layer_norm_eps=None, is_decoder=None)).state_dict()
    assert all(torch.equal(x, expected[name]) for name, x in found.items())


@pytest.mark.parametrize("old", [False, True], ids=["LayerNorm.weight", "LayerNorm.gamma"])
def test_a_masked_language_model_without_a_pooler(old, tmp_path):
    """The usual kind on hubs: its logits and states are those of transformers; what is new is named, and starts new."""
    c = transformers.BertConfig(
        vocab_size=23, num_hidden_layers=2, hidden_size=12, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=11,
    )  # fmt: skip
    peer = shake(transformers.BertForMaskedLM(c))
    peer.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert not any("pooler" in name or "seq_relationship" in name for name in tensors)
    if old:
        changes = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for name in list(tensors):
            for new, older in changes.items():
                if name.endswith(new):
                    tensors[name.replace(new, older)] = tensors.pop(name)
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
        tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
        tensors["bert.embeddings.position_ids"] = torch.arange(11)[None]
        save_file(tensors, tmp_path / "model.safetensors")
    ids, types, mask = batch()
    out = peer(ids, mask, types, positions(mask), output_hidden_states=True)
    new = "bert.pooler.dense.weight, bert.pooler.dense.bias, cls.seq_relationship.weight, cls.seq_relationship.bias"
    with pytest.warns(UserWarning, match=f"has none of {re.escape(new)}: they are new and know nothing$"):
        model = load_pretrained(tmp_path, BertForPreTraining)
    assert relative_error(model(ids, types, mask)[0][mask == 1], out.logits[mask == 1]) < 1e-5
    with pytest.warns(UserWarning, match=r"has none of pooler\.dense\.weight, pooler\.dense\.bias: they are new"):
        bert = load_pretrained(tmp_path)
    assert relative_error(bert(ids, types, mask)[0][mask == 1], out.hidden_states[-1][mask == 1]) < 1e-5
    for one in (bert, model.bert):
        assert 0.01 < one.pooler.weight.std() < 0.03 and not one.pooler.bias.any()
        assert not any(p.is_meta or not p.requires_grad for p in one.parameters())
    with pytest.raises(ValueError, match=r"bert\.pooler\.dense\.weight is missing.*classifier\.bias is missing"):
        load_pretrained(tmp_path, BertForClassification)


def test_a_decoder_that_is_not_tied_is_refused_and_one_that_is_alone_is_read(tmp_path):
    model = three()[BertForPreTraining]
    save_pretrained(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    decoder, table = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
    save_file(tensors | {decoder: tensors[table] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"has {re.escape(table)} twice, the second time as .*, and they differ$"):
        load_pretrained(tmp_path, BertForPreTraining)
    assert torch.equal(load_pretrained(tmp_path).embeddings.tokens.weight, model.bert.embeddings.tokens.weight)
    tensors[decoder] = tensors.pop(table)
    save_file(tensors, tmp_path / "model.safetensors")
    back = load_pretrained(tmp_path, BertForPreTraining)
    assert torch.equal(back.bert.embeddings.tokens.weight, model.bert.embeddings.tokens.weight)
    norm = "bert.embeddings.LayerNorm."
    save_file(tensors | {norm + "gamma": tensors[norm + "weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"{re.escape(norm)}weight twice, the second time as .*, and they differ$"):
        load_pretrained(tmp_path, BertForPreTraining)


@pytest.mark.parametrize("kind", [Bert, BertForPreTraining, BertForClassification])
@pytest.mark.parametrize("wrap", ["compiled", "compiled part", "DataParallel", "averaged", "shared layers"])
def test_wrapped_models_are_saved_by_plain_names(wrap, kind, tmp_path):
    model = three()[kind]
    bert = model if kind is Bert else model.bert
    if wrap == "shared layers":
        bert.encoder[1] = bert.encoder[0]
    expected = {name: x.clone() for name, x in model.state_dict().items()}
    if wrap == "compiled":
        model = torch.compile(model)
    elif wrap == "compiled part":
        bert.encoder[1] = torch.compile(bert.encoder[1])
    elif wrap == "DataParallel":
        model = torch.nn.DataParallel(model)
    elif wrap == "averaged":
        model = torch.optim.swa_utils.AveragedModel(model)
    save_pretrained(model, tmp_path)
    back = load_pretrained(tmp_path, kind).state_dict()
    assert back.keys() == expected.keys()
    assert all(torch.equal(x, expected[name]) for name, x in back.items())


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    model = small()
    model.encoder[0].feed_forward.W_1 = torch.nn.Sequential(model.encoder[0].feed_forward.W_1)
    with pytest.raises(ValueError, match=r"^model does not fit its config: .*weight is missing.*is none of this"):
        save_pretrained(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for wrong in (torch.nn.Linear(2, 2), None, "model"):
        with pytest.raises(ValueError, match="^model must be a Bert, a BertForPreTraining or a BertForClass"):
            save_pretrained(wrong, tmp_path)
    for call, message in (
        (lambda: load_pretrained(tmp_path, "Bert"), "kind must be Bert, BertForPreTraining or BertForClassification"),
        (lambda: load_pretrained(tmp_path, torch.nn.Linear), "kind must be Bert,"),
        (lambda: load_pretrained(3), "path must be a path, got 3"),
        (lambda: load_pretrained(tmp_path, fused="no"), "fused must be True or False, got 'no'"),
        (lambda: save_pretrained(small(), None), "folder must be a path, got None"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call()


def test_numbers_of_numpy_are_saved(tmp_path):
    numpy = pytest.importorskip("numpy")
    save_pretrained(Bert(config(hidden_size=numpy.int64(12), dropout=numpy.float32(0.5))), tmp_path)
    assert load_pretrained(tmp_path).config == config(dropout=0.5)


def test_half_precision_becomes_float32(tmp_path):
    def halves(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name: x.bfloat16() for name, x in tensors.items()}

    model = load_pretrained(write(tmp_path, halves))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.pooler.weight, small().pooler.weight.bfloat16().float())


def drop(*names: str) -> Any:
    return lambda tensors: [tensors.pop(name) for name in names]


def add(**new: torch.Tensor) -> Any:
    return lambda tensors: tensors.update(new)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "missing": (
        drop(QUERY, "pooler.dense.bias"),
        {},
        f"does not fit its config.json: {QUERY} is missing; pooler.dense.bias is missing",
    ),
    "extra": (add(adapter=torch.ones(2)), {}, "does not fit its config.json: adapter is none of this model's"),
    "shape": (
        lambda tensors: tensors.update({QUERY: torch.ones(12, 6)}),
        {},
        f"does not fit its config.json: {QUERY} has the shape (12, 6), not (12, 12)",
    ),
    "integers": (
        lambda tensors: tensors.update({QUERY: torch.ones(12, 12, dtype=torch.int8)}),
        {},
        f"does not fit its config.json: {QUERY} holds torch.int8, not floats",
    ),
    "another vocabulary": (
        None,
        {"vocab_size": 24},
        "does not fit its config.json: embeddings.word_embeddings.weight has the shape (23, 12), not (24, 12)",
    ),
    "no size": (None, {"vocab_size": None, "hidden_size": None}, "must have the keys vocab_size, hidden_size"),
    "another model": (None, {"model_type": "roberta"}, ": model_type must be 'bert', got 'roberta'"),
    "another activation": (None, {"hidden_act": "relu"}, ": hidden_act must be 'gelu', got 'relu'"),
    "two dropouts": (
        None,
        {"attention_probs_dropout_prob": 0.3},
        ": attention_probs_dropout_prob must be hidden_dropout_prob, 0.1, got 0.3",
    ),
    "heads": (None, {"num_attention_heads": 5}, ": n_heads must divide hidden_size 12, got 5"),
}


@pytest.mark.parametrize(("change", "values", "message"), WRONG.values(), ids=WRONG.keys())
def test_checkpoints_that_do_not_fit(change, values, message, tmp_path):
    folder = write(tmp_path, change, **values)
    file = folder / ("model.safetensors" if "config.json:" in message else "config.json")
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} ?{re.escape(message)}$"):
        load_pretrained(folder)


def test_one_layer_fewer_names_all_that_is_too_many(tmp_path):
    with pytest.raises(ValueError, match="does not fit") as found:
        load_pretrained(write(tmp_path, num_hidden_layers=1))
    assert str(found.value).count("is none of this model's") == 16
    assert f"{QUERY} is none of this model's" in str(found.value)


def test_heads_that_the_file_has_not_are_missing(tmp_path):
    write(tmp_path)
    with pytest.raises(
        ValueError, match=r"cls\.predictions\.bias is missing.*cls\.seq_relationship\.weight is missing"
    ):
        load_pretrained(tmp_path, BertForPreTraining)
    with pytest.raises(ValueError, match=r": classifier\.weight is missing; classifier\.bias is missing$"):
        load_pretrained(tmp_path, BertForClassification)


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_files_that_are_cut_short(left, tmp_path):
    file = write(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} is cut short or no safetensors file: "):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 23', "utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / 'config.json'))} is cut short or no JSON: "):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_files_that_are_not_there(name, tmp_path):
    (write(tmp_path) / name).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        load_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_pretrained(tmp_path / "nowhere")
