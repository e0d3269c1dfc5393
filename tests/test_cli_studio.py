"""`decomp swap` and `decomp relief`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from decomp import photos
from decomp.channels import ChannelFacts
from decomp.cli import app


@pytest.fixture(scope="module")
def model(saved, tmp_path_factory):
    """A toy whose channels are stated to carry light, hue and contours."""
    folder = shutil.copytree(saved, tmp_path_factory.mktemp("models") / "model")
    ChannelFacts(roles=tuple({"name": kind, "kind": kind} for kind in ("light", "hue", "contour"))).write(folder)
    return str(folder)


@pytest.fixture
def nameless(saved):
    return str(saved)


def call(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.mark.slow
def test_swap_changes_the_face_only(model, folder, tmp_path):
    out = tmp_path / "c.png"
    result = call(
        "swap", folder / "cat.png", folder / "sub" / "cat.jpg", "-c", "light", "-c", "3", "--model", model, "-o", out
    )
    assert result.exit_code == 0, result.output
    before, after = (photos.load(path).pixels for path in (folder / "cat.png", out))
    assert before.shape == after.shape and (before != after).any()
    assert np.array_equal(before[:, :75], after[:, :75])  # the middle square is decomposed


def test_swap_of_nothing_is_the_photo(model, folder, tmp_path):
    out = tmp_path / "c.png"
    arguments = ["-c", "2", "--amount", "0", "--model", model, "-o", out]
    assert call("swap", folder / "cat.png", folder / "cat.jpg", *arguments).exit_code == 0
    assert np.array_equal(photos.load(folder / "cat.png").pixels, photos.load(out).pixels)


@pytest.mark.slow
def test_swap_over_a_folder_names_what_failed(model, folder, tmp_path):
    result = call("swap", folder, folder / "cat.png", "-c", "hue", "--model", model, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "broken.jpg" in result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["done"] == 3 and {row.get("aligned") for row in report["photos"]} <= {"square", "eyes", None}
    assert (tmp_path / "out" / "sub" / "cat.jpg").is_file()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-c", "eyes"], "no channel of this model carries eyes"),
        (["-c", "9"], "there is no channel '9'"),
        (["-c", "light", "--amount", "nan"], "not a number"),
        (["-c", "light", "--giver-domain", "cow"], "accepted: cat, dog"),
        (["-c", "light", "--size", "7"], "size is 7"),
    ],
)
def test_swap_usage(model, folder, tmp_path, arguments, message):
    result = call(
        "swap", folder / "cat.png", folder / "cat.jpg", *arguments, "--model", model, "-o", tmp_path / "c.png"
    )
    assert result.exit_code == 2 and message in result.output
    assert not (tmp_path / "c.png").exists()


def test_swap_with_a_giver_that_is_no_photo(model, folder, tmp_path):
    result = call(
        "swap", folder / "cat.png", folder / "broken.jpg", "-c", "1", "--model", model, "-o", tmp_path / "c.png"
    )
    assert result.exit_code == 2 and "broken.jpg: is not a photo" in result.output


def test_relief(model, folder, tmp_path):
    pytest.importorskip("trimesh")
    result = call("relief", folder / "cat.png", "--model", model, "--light", "90,45", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    made = tmp_path / "cat.png.relief"
    files = {"height.png", "normals.png", "relief.glb", "relief.json", "relit.png", "sheet.png", "turning.webp"}
    assert {path.name for path in made.iterdir()} - {".decomp"} == files
    with Image.open(made / "height.png") as height, Image.open(made / "relit.png") as relit:
        assert height.mode == "I;16" and relit.size == (451, 300)
    light = json.loads((made / "relief.json").read_text())["light"]
    assert sum(part**2 for part in light.values()) == pytest.approx(1)


@pytest.mark.slow
def test_relief_without_light_says_so(nameless, folder, tmp_path):
    result = call("relief", folder / "cat.png", "--model", nameless, "-o", tmp_path)
    assert result.exit_code == 2
    assert "no channel of this model carries light" in result.output and "--channel names others" in result.output
    assert call("relief", folder / "cat.png", "--model", nameless, "-c", "2", "-o", tmp_path).exit_code == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--light", "90"], "not AZIMUTH,ELEVATION"),
        (["--light", "90,100"], "not AZIMUTH,ELEVATION"),
        (["--depth", "0"], "above 0"),
        (["--depth", "nan"], "above 0"),
        (["-c", "residual"], "computed from channels"),
    ],
)
def test_relief_usage(model, folder, tmp_path, arguments, message):
    result = call("relief", folder / "cat.png", "--model", model, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and message in result.output
    assert not (tmp_path / "out").exists()
