import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import skimage
import torch
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image

from decomp.decomposer import Decomposer, load
from decomp.faces import Box
from decomp.photos import PhotoError


def test_saved_and_loaded_gives_the_same_channels(toy, cat, tmp_path):
    toy.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.config == toy.config
    assert np.array_equal(again.decompose(cat, "cat").channels, toy.decompose(cat, "cat").channels)


@pytest.mark.slow  # a process
def test_loading_imports_no_compiler(saved):
    code = f"""
import sys, decomp
decomp.load({str(saved)!r}, "torch")
print([name for name in ("torch._dynamo", "torch._inductor", "triton", "torchvision") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_half_precision_weights_load_as_float(toy, cat, tmp_path):
    toy.half().save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    assert np.isfinite(again.decompose(cat, "cat").channels).all()


def test_what_is_not_a_model(tmp_path):
    with pytest.raises(ValueError, match="no model 'mammals'; accepted: "):
        load("mammals")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no config.json and no model.safetensors"):
        load(tmp_path / "empty")


@pytest.fixture
def hub(toy, tmp_path, monkeypatch):
    """A hub that serves one folder, in place of the network."""

    def download(repo_id, filename, **_):
        assert repo_id == "someone/cats"
        if not (tmp_path / "hub" / filename).is_file():
            raise EntryNotFoundError(filename)
        return str(tmp_path / "hub" / filename)

    toy.save_pretrained(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("decomp.decomposer.hf_hub_download", download)
    return tmp_path / "hub"


def test_hub_id(toy, cat, hub):
    assert np.array_equal(load("someone/cats").decompose(cat, "cat").channels, toy.decompose(cat, "cat").channels)


ROLES = [{"name": name} for name in ("one", "two", "three")]


@pytest.mark.parametrize("name", ["someone/cats", "folder"])
def test_models_saved_with_their_facts_inside_the_config(hub, name):
    (hub / "channels.json").unlink()
    config = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps(config | {"roles": ROLES, "eyes": {"step": 1}}))
    model = load(hub if name == "folder" else name)
    assert model.names == ("one", "two", "three") and model.facts.eyes == {"step": 1}
    model.save_pretrained(hub / "again")
    assert json.loads((hub / "again" / "config.json").read_text()) == config
    assert load(hub / "again").facts == model.facts


@pytest.mark.parametrize(
    "roles, message",
    [
        (ROLES[:1], "3 different names are needed"),
        ([*ROLES[:2], {"name": "3"}], "a name is text"),
        ([*ROLES[:2], {"name": 3}], "a name is text"),
        ([*ROLES[:2], ROLES[0]], "different names"),
        ([*ROLES[:2], {"name": "residual"}], "different names"),
        ([*ROLES[:2], "three"], "a list of objects"),
        ("three", "a list of objects"),
    ],
)
def test_hostile_roles_are_refused(hub, roles, message):
    (hub / "channels.json").write_text(json.dumps({"roles": roles, "eyes": {}}))
    with pytest.raises(ValueError, match=message):
        load("someone/cats")


def test_pickled_weights_are_refused(toy, hub):
    (hub / "model.safetensors").unlink()
    torch.save(toy.state_dict(), hub / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights are not read"):
        load("someone/cats")


def test_weights_of_another_model_are_refused(toy, tmp_path):
    """The hub client's default would leave what does not fit at random."""
    toy.generator.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="could not be loaded as a decomp model"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="could not be loaded as a decomp model"):
        load(tmp_path)


def test_every_kind_of_source_gives_the_same(toy, cat, tmp_path):
    Image.fromarray(cat).save(tmp_path / "cat.png")
    sources = [cat, tmp_path / "cat.png", str(tmp_path / "cat.png"), (tmp_path / "cat.png").read_bytes()]
    sources += [io.BytesIO(sources[-1]), Image.fromarray(cat), toy.decompose(cat, "cat").photo]
    channels = [toy.decompose(s, "cat").channels for s in sources]
    assert all(np.array_equal(c, channels[0]) for c in channels[1:])


def test_targets(toy, cat):
    own = toy.decompose(cat, "cat")
    assert own.targets == ("cat",) * 3
    assert toy.decompose(cat, "cat", target="dog").targets == ("dog",) * 3
    mixed = toy.decompose(cat, "cat", target={2: "dog"})
    assert mixed.targets == ("cat", "dog", "cat")
    assert np.allclose(mixed.channels[0], own.channels[0], atol=1e-5)
    assert not np.allclose(mixed.channels[1], own.channels[1], atol=1e-3)
    assert toy.decompose(cat, "cat", target=["dog", "cat", "dog"]).targets == ("dog", "cat", "dog")
    assert toy.decompose(cat, "cat", target={"channel 1": "dog"}).targets == ("dog", "cat", "cat")


def test_a_model_with_turns_turns_from_the_photos_own_class(config, cat):
    torch.manual_seed(0)
    model = Decomposer(replace(config, turns=1)).eval()
    for branch in model.generator.branches:
        torch.nn.init.normal_(branch.turn.style.weight, std=3)
    own = model.decompose(cat, "cat", keep_phi=True)
    turned = model.decompose(cat, "cat", target="dog")
    for d in (own, replace(own, phi=None)):
        assert np.allclose(model.transfer(d, "dog").channels, turned.channels, atol=1e-5)
    assert not np.allclose(model.decompose(cat, "dog", box=own.box).channels, turned.channels, atol=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"domain": "cow"}, "no class 'cow' in this model; accepted: cat, dog"),
        ({"domain": "cat", "target": "cow"}, "no class 'cow'"),
        ({"domain": "cat", "target": ["dog"]}, "1 target classes for 3 branches"),
        ({"domain": "cat", "target": {9: "dog"}}, "no channel 9"),
        ({"domain": "cat", "size": 4}, "at least 8 pixels"),
        ({"domain": "cat", "size": 0}, "at least 8 pixels"),
        ({"domain": "cat", "box": (400, 200, 200)}, "inside the photo of 451 x 300"),
        ({"domain": "cat", "box": Box(-100, -100, 80, "given")}, "inside the photo"),
    ],
)
def test_bad_options(toy, cat, options, message):
    with pytest.raises(ValueError, match=message):
        toy.decompose(cat, **options)


def test_auto_takes_the_likeliest_class(toy, cat):
    torch.nn.init.zeros_(toy.classifier.head.weight)
    toy.classifier.head.bias.data = torch.tensor([0.0, 2.0])
    d = toy.decompose(cat)
    assert d.domain == "dog" and d.targets == ("dog",) * 3
    assert d.confidence == pytest.approx({"cat": 0.1192, "dog": 0.8808}, abs=1e-3)


def test_another_class_shows_without_naming_a_base(toy, cat):
    """With E kept, the photo would come back: E = x - f(x, target) undoes the change."""
    d = toy.decompose(cat, "cat", target="dog")
    assert np.array_equal(d.recompose(), d.regenerated) and not np.allclose(d.recompose(), d.picture, atol=1e-2)
    assert np.array_equal(d.recompose(base="photo"), d.picture)
    own = toy.decompose(cat, "cat", target="cat")
    assert np.array_equal(own.recompose(), own.picture)
    mixed = toy.decompose(cat, "cat", target={2: "dog"})
    assert np.array_equal(mixed.sweep(1, [1])[0], mixed.regenerated)


def test_larger_than_trained(toy, cat):
    d = toy.decompose(cat, "cat", size=75)
    assert d.picture.shape == (75, 75, 3) and d.channels.shape == (3, 75, 75, 3)


def test_not_a_photo(toy):
    with pytest.raises(PhotoError, match="accepted"):
        toy.decompose(b"not a photo")


def test_each_class_is_framed_its_own_way(toy):
    """The human finder frames the astronaut; a class whose faces are not looked for takes the centre square."""
    toy.config = replace(toy.config, face=("human", "centre"))
    photo = skimage.data.astronaut()
    assert toy.decompose(photo, "cat").box.found == "human"
    assert toy.decompose(photo, "dog").box.found == "centre"
    assert toy.decompose(photo).domain in ("cat", "dog")


def test_each_face_is_searched_once(toy, cat, monkeypatch):
    searched = []

    def find(photo, kind):
        searched.append(kind)
        return Box(0, 0, 300, kind)

    monkeypatch.setattr("decomp.decomposer.find_face", find)
    toy.config = replace(toy.config, face=("cat", "centre"))
    toy.decompose(cat)
    assert searched == ["cat", "centre"]
