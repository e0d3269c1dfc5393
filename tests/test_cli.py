import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from decomp import photos
from decomp.batch.folder import MARK
from decomp.cli import app


@pytest.fixture
def model(saved):
    return str(saved)


def call(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_help_and_version_import_no_torch():
    code = """
import sys
from typer.testing import CliRunner
from decomp.cli import app
for option in ("--help", "--version"):
    assert CliRunner().invoke(app, [option]).exit_code == 0
assert CliRunner().invoke(app, ["decompose", "--help"]).exit_code == 0
print([name for name in ("torch", "cv2", "kornia", "skimage", "gradio") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_decompose_a_photo(model, folder, tmp_path):
    result = call("decompose", folder / "cat.png", "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    made = tmp_path / "out" / "cat.png"
    assert result.output.strip().endswith(str(made))
    assert (made / "sheet.png").exists() and (made / "layers.npz").exists()


@pytest.mark.slow
def test_decompose_a_folder(model, folder, tmp_path):
    out = tmp_path / "out"
    result = call("decompose", folder, "--model", model, "-o", out)
    assert result.exit_code == 1
    assert json.loads((out / "report.json").read_text())["done"] == 3
    assert {str(p.parent.relative_to(out)) for p in out.rglob("sheet.png")} == {"cat.png", "cat.jpg", "sub/cat.jpg"}
    again = call("decompose", folder, "--model", model, "-o", out, "--skip-existing")
    assert again.exit_code == 1  # the broken file is still broken
    assert json.loads((out / "report.json").read_text())["skipped"] == 3


def test_recompose_at_one_returns_the_photo(model, folder, tmp_path):
    out = tmp_path / "again.png"
    assert call("recompose", folder / "cat.png", "--model", model, "-o", out, "-s", "2=1").exit_code == 0
    assert np.array_equal(photos.load(out).pixels, photos.load(folder / "cat.png").pixels)


def test_recompose_changes_the_face_only(model, folder, tmp_path):
    out = tmp_path / "edited.png"
    args = ("--model", model, "-o", out, "-s", "residual=0.2", "--box", "100,50,120")
    assert call("recompose", folder / "cat.png", *args).exit_code == 0
    before, after = photos.load(folder / "cat.png").pixels, photos.load(out).pixels
    changed = (before != after).any(axis=2)
    assert changed[80:140, 130:190].mean() > 0.9
    changed[50:170, 100:220] = False
    assert not changed.any()


def test_recompose_from_layers_needs_no_network(model, folder, tmp_path):
    call("decompose", folder / "cat.png", "--model", model, "-o", tmp_path)
    out = tmp_path / "crop.png"
    result = call("recompose", tmp_path / "cat.png" / "layers.npz", "-o", out, "-s", "channel 1=0")
    assert result.exit_code == 0, result.output
    assert photos.load(out).pixels.shape == (32, 32, 3)


@pytest.mark.slow
def test_recompose_a_folder_keeps_names(model, folder, tmp_path):
    result = call("recompose", folder, "--model", model, "-o", tmp_path / "out", "-s", "1=2")
    assert result.exit_code == 1
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert names == {"cat.png", "cat.jpg", "sub/cat.jpg", "report.json", "report.csv"}


def test_another_class_shows(model, folder, tmp_path):
    """With the unexplained rest kept, a target class would change nothing."""
    for name, target in (("cat", "cat"), ("dog", "dog")):
        out = tmp_path / f"{name}.png"
        args = ("--model", model, "--domain", "cat", "--target", target, "-o", out)
        assert call("recompose", folder / "cat.png", *args).exit_code == 0
    assert not np.array_equal(photos.load(tmp_path / "cat.png").pixels, photos.load(tmp_path / "dog.png").pixels)


@pytest.mark.slow
def test_sweep(model, folder, tmp_path):
    args = ("--model", model, "-c", "2", "--steps", 4, "-o", tmp_path)
    assert call("sweep", folder / "cat.png", *args).exit_code == 0
    made = tmp_path / "cat.png.sweep-2"
    assert {p.name for p in made.iterdir()} == {"strip.png", "animation.webp", MARK}
    assert call("sweep", folder / "cat.png", *args, "--gif").exit_code == 0
    assert {p.name for p in made.iterdir()} == {"strip.png", "animation.gif", MARK}


def test_separate(model, folder, tmp_path):
    args = ("--model", model, "--a", "1", "--b", "2,channel 3", "-o", tmp_path)
    assert call("separate", folder / "cat.png", *args).exit_code == 0
    assert {p.name for p in (tmp_path / "cat.png.separate").iterdir()} == {
        "sheet.png",
        "a.png",
        "b.png",
        "rest.png",
        MARK,
    }


@pytest.mark.parametrize(
    "args, message",
    [
        (["decompose", "--model", "mammals"], "there is no model 'mammals'; accepted:"),
        (["decompose", "--domain", "cow"], "there is no class 'cow' in this model; accepted: cat, dog"),
        (["decompose", "--target", "1=cow"], "there is no class 'cow'"),
        (["decompose", "--size", "3"], "size is 3; accepted: 8 to 2048"),
        (["decompose", "--box", "1,2"], "'1,2' is not LEFT,TOP,SIDE"),
        (["decompose", "--box", "nan,1,20"], "is not LEFT,TOP,SIDE"),
        (["decompose", "--max-megapixels", "500"], "up to 178"),
        (["decompose", "--max-megapixels", "nan"], "up to 178"),
        (["recompose", "-s", "1=nan"], "'nan' is not a number"),
        (["recompose", "-s", "1=1e39"], "'1e39' is not a number"),
        (["recompose", "-s", "1=1", "-s", "1=2"], "'1' is given twice"),
        (["recompose", "-s", "1=5", "-s", "channel 1=-3"], "a layer is given twice, by number and by name"),
        (["recompose", "-s", "unexplained=2", "--base", "regenerated"], "use --base photo"),
        (["sweep", "-c", "1", "--from", "nan"], "'nan' is not a number"),
        (["recompose", "-s", "fur=2"], "there is no channel 'fur'; the channels are 1 'channel 1'"),
        (["recompose", "-s", "1=much"], "'much' is not a number"),
        (["recompose", "-s", "1"], "'1' is not LAYER=NUMBER"),
        (["recompose", "--base", "picture"], "accepted: photo, regenerated"),
        (["sweep", "-c", "12"], "there is no channel '12'"),
        (["separate", "--a", "1", "--b", "2,channel 1"], "channel 1 'channel 1' is in both groups"),
        (["separate", "--a", "1", "--b", ","], "every group needs at least one channel"),
        (["separate", "--a", "residual", "--b", "1"], "there is no channel 'residual'"),
    ],
)
def test_usage_errors_end_with_2(model, folder, tmp_path, args, message):
    options = ["-o", tmp_path / "out"] + ([] if "--model" in args else ["--model", model])
    result = call(args[0], folder / "cat.png", *args[1:], *options)
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_photo_that_is_none_ends_with_1(model, folder, tmp_path):
    result = call("decompose", folder / "broken.jpg", "--model", model, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "broken.jpg" in result.output
    assert not list((tmp_path / "out").iterdir())


def test_pixel_cap_can_be_moved(model, folder, tmp_path):
    args = ("decompose", folder / "cat.png", "--model", model, "-o", tmp_path / "out", "--max-megapixels")
    refused = call(*args, "0.1")
    assert refused.exit_code == 1 and "at most 0.1 megapixels" in refused.output
    assert call(*args, "0.2").exit_code == 0


@pytest.mark.slow
def test_commands_do_not_replace_each_others_results(model, folder, tmp_path):
    for args in (["decompose"], ["sweep", "-c", "1"], ["sweep", "-c", "2"], ["separate", "--a", "1", "--b", "2"]):
        assert call(args[0], folder / "cat.png", *args[1:], "--model", model, "-o", tmp_path / "out").exit_code == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"cat.png", "cat.png.sweep-1", "cat.png.sweep-2", "cat.png.separate"}


def test_layers_take_no_option_of_a_photo(model, folder, tmp_path):
    call("decompose", folder / "cat.png", "--model", model, "-o", tmp_path)
    layers = tmp_path / "cat.png" / "layers.npz"
    result = call("recompose", layers, "-o", tmp_path / "x.png", "--target", "dog")
    assert result.exit_code == 2 and "--target needs a photo" in result.output
    layers.write_bytes(layers.read_bytes()[:5000])
    result = call("recompose", layers, "-o", tmp_path / "x.png")
    assert result.exit_code == 1 and "layers.npz: not a decomposition" in result.output


def test_a_box_outside_the_photo(model, folder, tmp_path):
    result = call("decompose", folder / "cat.png", "--model", model, "-o", tmp_path / "out", "--box", "1,1,9999")
    assert result.exit_code == 1 and result.output.startswith("cat.png: box at (1, 1) of 9999 pixels; accepted")


def test_output_that_cannot_be_written(model, folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    result = call("decompose", folder, "--model", model, "-o", tmp_path / "file")
    assert result.exit_code == 2 and "Traceback" not in result.output
