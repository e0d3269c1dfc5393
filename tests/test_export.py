import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from decomp import export
from decomp.photos import PhotoError


@pytest.fixture
def d(toy, cat):
    return toy.decompose(cat, domain="cat", keep_phi=True)


def test_npz_is_exact(d, tmp_path):
    export.write_npz(d, tmp_path / "layers.npz")
    again = export.read_npz(tmp_path / "layers.npz")
    for name in ("picture", "residual", "channels", "unexplained", "phi"):
        assert np.array_equal(getattr(again, name), getattr(d, name)), name
    assert (again.names, again.domain, again.targets) == (d.names, d.domain, d.targets)
    assert np.array_equal(again.recompose({2: 0}), d.recompose({2: 0}))


def test_npz_that_is_none(tmp_path):
    (tmp_path / "a.npz").write_text("no")
    np.savez(tmp_path / "b.npz", picture=np.zeros(3))
    np.savez(tmp_path / "c.npz", picture=np.array([{"a": 1}], dtype=object))
    for name in "abc":
        with pytest.raises(PhotoError, match=f"{name}.npz: not a decomposition; accepted: layers.npz"):
            export.read_npz(tmp_path / f"{name}.npz")


@pytest.mark.parametrize(
    "broken",
    [
        {"names": np.array(["one"])},
        {"channels": np.zeros((3, 5, 32, 3), np.float32)},
        {"picture": np.full((32, 32, 3), np.nan, np.float32)},
        {"picture": np.array("text")},
        {"residual": np.zeros((32, 32, 3), np.complex64)},
        {"picture": np.zeros((32, 32), np.float32)},
    ],
)
def test_npz_whose_arrays_do_not_fit(d, tmp_path, broken):
    export.write_npz(d, tmp_path / "layers.npz")
    with np.load(tmp_path / "layers.npz") as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(tmp_path / "layers.npz", **(arrays | broken))
    with pytest.raises(PhotoError, match="not a decomposition"):
        export.read_npz(tmp_path / "layers.npz")


@pytest.mark.slow
def test_npz_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("picture.npy", "w", force_zip64=True) as member:
            for _ in range(1025):
                member.write(bytes(2**20))
    with pytest.raises(PhotoError, match="more than 1 GiB"):
        export.read_npz(tmp_path / "bomb.npz")


def test_tiff_pages_are_exact_and_named(d, tmp_path):
    export.write_tiff(d, tmp_path / "layers.tif")
    with tifffile.TiffFile(tmp_path / "layers.tif") as file:
        pages = {page.description: page.asarray() for page in file.pages}
    assert list(pages) == ["photo", "residual", *(f"channel-{k}-channel-{k}" for k in (1, 2, 3)), "unexplained"]
    assert all(p.dtype == np.float32 for p in pages.values())
    photo = pages.pop("photo")
    assert np.array_equal(photo, d.picture)
    assert np.abs(sum(pages.values()) - photo).max() <= 1e-5


def test_folder_holds_everything(d, tmp_path):
    export.write_folder(d, tmp_path / "cat")
    names = {p.name for p in (tmp_path / "cat").iterdir()}
    assert {"sheet.png", "photo.png", "residual.png", "layers.npz", "layers.tif", "decomposition.json"} <= names
    for k in (1, 2, 3):
        for kind in ("raw", "raised", "added"):
            assert f"channel-{k}-channel-{k}.{kind}.png" in names
    raw = np.asarray(Image.open(tmp_path / "cat" / "channel-2-channel-2.raw.png"))
    assert np.abs(raw / 127.5 - 1 - np.clip(d.channels[1], -1, 1)).max() <= 0.5 / 127.5 + 1e-6
    told = json.loads((tmp_path / "cat" / "decomposition.json").read_text())
    assert told["domain"] == "cat" and len(told["channels"]) == 3 and told["box"]["side"] == d.box.side


def test_animation_goes_there_and_back(d, tmp_path):
    pictures = d.sweep("residual", [0, 1, 2, 3])
    for suffix in ("webp", "gif"):
        export.animation(pictures, tmp_path / f"a.{suffix}")
        with Image.open(tmp_path / f"a.{suffix}") as file:
            assert file.n_frames == 6 and file.size == (32, 32)


def test_sheet_shows_every_channel(d):
    sheet = export.contact_sheet(d)
    assert sheet.width >= 3 * export.TILE and sheet.height >= 3 * (export.TILE + export.CAPTION)
    tile = np.asarray(sheet)[export.GAP :, export.GAP :][: export.TILE, : export.TILE]
    assert tile.std() > 10  # the photo, not white paper


def test_a_role_name_never_leaves_the_folder(d, tmp_path):
    hostile = replace(d, names=("../../etc/passwd", "a/b\\c", "\0"))
    export.write_folder(hostile, tmp_path / "out" / "cat")
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert "channel-1-etc-passwd.raw.png" in {p.name for p in (tmp_path / "out" / "cat").iterdir()}
