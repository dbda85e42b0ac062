"""What the only loader of weights says of files that are none, and where it looks for classes and names."""

import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch

from psegan.common.errors import PseganError
from psegan.common.instantiate import search_here
from psegan.models.vocos import Vocos
from psegan.protection.protector import Protector
from psegan.weights import PretrainedModel, find, is_checkpoint, load_part, load_system, read_checkpoint
from tests.support.protectors import small_protector


def error_of(load, path) -> str:
    with pytest.raises(PseganError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.isprintable(), message
    return message


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "damaged, cut short"), ("text", "damaged, cut short"), ("half", "damaged, cut short"),
        ("zip", "damaged, cut short"), ("pickle", "damaged, cut short"), ("objects", "Python objects, which could run code"),
        ("list", "holds no checkpoint of psegan"), ("state", "holds no checkpoint of psegan"), ("folder", "is a folder"),
        ("pipe", "is a pipe or a device, not a checkpoint"), ("none", "no such checkpoint"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_said_in_our_own_words(kind, reason, trained, tmp_path):
    path = tmp_path / f"{kind}.ckpt"
    whole = Path(trained("emotion"))
    content = {
        "empty": b"", "text": b"hello, this is a text\n", "half": whole.read_bytes()[:5_000], "zip": b"PK\x03\x04" * 9,
        "pickle": pickle.dumps({"psegan": 1}),
    }  # fmt: skip
    held = {"objects": {"psegan": Path}, "list": [1], "state": torch.load(whole, weights_only=True)["state_dict"]}
    if kind in content:
        path.write_bytes(content[kind])
    elif kind in held:
        torch.save(held[kind], path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    message = error_of(load_system, path)
    assert reason in message
    assert not any(word in message for word in ("weights_only", "PyTorch 2.6", "[1m", "(101)", "miniz"))


@pytest.fixture
def of_own_class(trained, tmp_path):
    """Gives a checkpoint of a classifier as one whose settings name a class of the user's own."""

    def made(key: str, class_path: str) -> Path:
        checkpoint = torch.load(trained("emotion"), weights_only=True)
        settings = checkpoint["hyper_parameters"]
        settings[key] = {"class_path": class_path} if key == "encoder" else class_path
        torch.save(checkpoint, tmp_path / "own.ckpt")
        return tmp_path / "own.ckpt"

    return made


@pytest.mark.parametrize("key", ["_class_path", "encoder"])
def test_a_class_of_ones_own_must_be_importable(key, of_own_class, tmp_path, monkeypatch):
    base = {"_class_path": "psegan.systems.Classifier", "encoder": "psegan.models.classifier.SpeechEncoder"}[key]
    module = f"mine_of_{key.strip('_')}"
    path = of_own_class(key, f"{module}.Classifier")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, module, raising=False)
    message = error_of(load_system, path)
    assert f"cannot be imported (No module named '{module}'); correct its path, run psegan in the folder" in message
    home, _, name = base.rpartition(".")
    (tmp_path / f"{module}.py").write_text(f"from {home} import {name}\nclass Classifier({name}): pass\n")
    monkeypatch.chdir(tmp_path)
    search_here()
    assert sys.path[-1] == str(tmp_path), "what is installed comes first"
    found = load_system(path)
    assert type(found if key == "_class_path" else found.encoder).__module__ == module


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("class Classifier(:", r"cannot be imported \(SyntaxError: "), ("1 / 0", r"cannot be imported \(ZeroDivisionError: "),
        ("Classifier = 3", "is no Module"), ("import torch\nclass Classifier(torch.nn.Module): pass", "cannot be made of"),
    ],
)  # fmt: skip
def test_a_class_of_ones_own_that_is_broken_is_one_line(text, reason, of_own_class, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_broken", raising=False)
    (tmp_path / "mine_broken.py").write_text(text)
    with pytest.raises(PseganError, match=rf"own\.ckpt: .*{reason}"):
        load_system(of_own_class("_class_path", "mine_broken.Classifier"))


def test_released_names_are_not_hidden_by_what_lies_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    PretrainedModel.assemble({"vocoder": Vocos(width=8, hidden=8, depth=1)}, {"trained_on": []}).save_pretrained(
        "vocos"
    )
    Path("psegan-ravdess").write_text("no checkpoint")
    assert find("vocos") != "vocos" and not is_checkpoint("psegan-ravdess")
    assert load_part("vocos", "vocoder").state_dict()["head.weight"].shape[1] > 8
    assert capsys.readouterr().err.splitlines() == [
        "psegan: vocos: the released weights are taken; the folder here of that name is ./vocos"
    ]
    for name in ("./vocos", Path("vocos")):
        assert load_part(name, "vocoder").state_dict()["head.weight"].shape[1] == 8


@pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "no/such/folder", "nowhere", "a b/c", "a/b--c"])
def test_what_is_no_repository_is_not_looked_for_on_the_hub(name, monkeypatch):
    monkeypatch.setattr("psegan.weights.snapshot_download", None)
    assert ": is no folder; released here are" in error_of(PretrainedModel.from_pretrained, name)


def test_the_hubs_errors_are_said_in_our_own_words(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def raising(error):
        def download(*args, **kwargs):
            raise error

        return download

    for error, reason in (
        (
            LocalEntryNotFoundError("Got: ConnectError\nPlease check"),
            "the hub cannot be reached, and its cache has no copy",
        ),
        (TimeoutError("long\ntext"), "the hub cannot be reached: TimeoutError"),
    ):
        monkeypatch.setattr("psegan.weights.snapshot_download", raising(error))
        message = error_of(PretrainedModel.from_pretrained, "some/body")
        assert f"(there is no such folder, and {reason})" in message


def test_an_intact_checkpoint_is_read(trained):
    assert read_checkpoint(trained("emotion"))["psegan"]["system"] == "Classifier"


def test_weights_of_the_longest_name(tmp_path):
    folder = tmp_path / ("n" * 255)
    small_protector().save_pretrained(folder)
    assert PretrainedModel.from_pretrained(folder).about["emotions"]


def test_weights_of_before_the_level_keep_it(tmp_path):
    """As docs/protect.md has it."""
    small_protector().save_pretrained(old := tmp_path / "old")
    config = json.loads((old / "config.json").read_text())
    del config["parts"]["conversion"]["init_args"]["level"]
    (old / "config.json").write_text(json.dumps(config))
    assert Protector.from_pretrained(old).conversion.level == "kept"
