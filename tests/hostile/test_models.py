"""Model folders, archives and command lines that ask for too much: one sentence, before memory is taken."""

import json
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from decomp.cli import app
from decomp.config import ModelConfig
from decomp.decomposer import Decomposer, load
from decomp.export import read_npz
from decomp.photos import PhotoError


@pytest.mark.parametrize(
    "change, message",
    [
        ({"branches": 64, "base": 256, "cap": 2048, "downs": 6, "style": 1024}, "million parameters are too many"),
        ({"base": 256, "size": 2048, "cap": 256, "downs": 0}, "million numbers; accepted: at most"),
        ({"domains": ["x" * 100]}, "at most 80 characters"),
        ({"domains": [f"class {k}" for k in range(2000)]}, "at most 1000 domains"),
    ],
)
def test_a_huge_model_is_refused_by_its_size(toy, tmp_path, change, message):
    toy.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | change | {"face": []}))
    started = time.process_time()
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path)
    assert time.process_time() - started < 5 and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x" * 5000, "two\nlines", "7"])
def test_role_names(toy, tmp_path, name):
    toy.save_pretrained(tmp_path)
    roles = [{"name": name}, {"name": "a"}, {"name": "b"}]
    (tmp_path / "channels.json").write_text(json.dumps({"roles": roles}))
    with pytest.raises(ValueError, match=r"role") as error:
        load(tmp_path)
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def test_unknown_keys_are_named():
    with pytest.raises(ValueError, match=r"unknown model settings \['pickle'\]; accepted: "):
        ModelConfig.from_dict({"pickle": 1})


def test_an_unknown_key_in_a_model_folder(toy, tmp_path):
    toy.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"pickle": 1}))
    with pytest.raises(ValueError, match=r"unknown model settings \['pickle'\]"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"garbage", None])
def test_a_damaged_calibration_of_the_classes(toy, tmp_path, data):
    from safetensors.numpy import save

    toy.save_pretrained(tmp_path)
    foreign = save({"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)})
    (tmp_path / "classes.safetensors").write_bytes(foreign if data is None else data)
    with pytest.raises(ValueError, match="could not be loaded as a decomp model"):
        load(tmp_path)


@pytest.mark.slow  # making it takes a second
def test_an_archive_of_50_000_arrays_is_refused_at_once(tmp_path):
    path = tmp_path / "layers.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(50_000):
            archive.writestr(f"{k}.npy", b"")
    started = time.process_time()
    with pytest.raises(PhotoError, match="layers.npz: holds 50000 arrays"):
        read_npz(path)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("name", ["edited.xyz", "edited", "edited.gif", "edited.heic"])
def test_a_suffix_that_is_not_written_is_refused_before_the_network_runs(tmp_path, cat, monkeypatch, name):
    monkeypatch.setattr(Decomposer, "decompose", lambda *_, **__: pytest.fail("the network ran"))
    Image.fromarray(cat).save(tmp_path / "cat.png")
    result = CliRunner().invoke(app, ["recompose", str(tmp_path / "cat.png"), "-o", str(tmp_path / name)])
    assert result.exit_code == 2 and "cannot be written; accepted: .jpg" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["cat.png"]


def test_a_foreign_picture_is_kept_unless_overwrite_is_said(toy, tmp_path, cat):
    toy.save_pretrained(tmp_path / "model")
    photo, out = tmp_path / "cat.png", tmp_path / "mine.png"
    Image.fromarray(cat[:80, :80]).save(photo)
    out.write_bytes(b"precious")
    command = ["recompose", str(photo), "-o", str(out), "--model", str(tmp_path / "model"), "--domain", "cat"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1 and out.read_bytes() == b"precious"
    assert "mine.png: is already there; --overwrite replaces it" in result.output
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
    with Image.open(out) as image:
        assert image.size == (80, 80)
