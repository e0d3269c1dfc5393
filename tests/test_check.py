import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from decomp.cli import app
from decomp.data.check import check
from decomp.photos import Photo, save


@pytest.fixture
def root(tmp_path, cat):
    """A clean data set: two classes, two photos each for training, one for validation; every photo is another one."""
    places = [f"{s}/{d}/{n}.png" for s, n in (("train", 0), ("train", 1), ("val", 0)) for d in ("cat", "dog")]
    for i, place in enumerate(places):
        put(tmp_path / "data" / place, cat[10 * i : 10 * i + 40, : 50 + i])
    return tmp_path / "data"


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def call(*args):
    return CliRunner().invoke(app, ["data", "check", *map(str, args), "--jobs", "1"])


def test_a_clean_data_set(root):
    report = check(root, size=40)
    assert report.clean
    rows = [(d.split, d.domain, d.photos, d.smallest, d.median, d.largest) for d in report.domains]
    assert rows == [(s, d, n, 40, 40, 40) for s, n in (("train", 2), ("val", 1)) for d in ("cat", "dog")]
    result = call(root, "--size", 40)
    assert result.exit_code == 0 and result.stdout.endswith("clean\n")
    assert [line.split() for line in result.stdout.splitlines()[1:3]] == [
        ["train", "cat", "2", "40", "40", "40"],
        ["train", "dog", "2", "40", "40", "40"],
    ]


def test_sides(root, cat):
    put(root / "train/cat/tall.png", cat[:70, :20])
    put(root / "train/cat/large.png", cat)
    row = check(root).domains[0]
    assert (row.photos, row.smallest, row.median, row.largest) == (4, 20, 40, 300)


def rotated(path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6
    put(path.with_suffix(".png"), np.rot90(pixels), exif=exif)


def described(path, pixels):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    put(path.with_suffix(".png"), pixels, exif=exif, dpi=(300, 300))


def deep(path, pixels):
    save(Photo(np.maximum(pixels.astype(np.int32) * 257 - 100, 0).astype(np.uint16)), path.with_suffix(".png"))


COPIES = {
    "same file type": lambda path, pixels: put(path.with_suffix(".png"), pixels),
    "bmp": lambda path, pixels: put(path.with_suffix(".bmp"), pixels),
    "tiff": lambda path, pixels: put(path.with_suffix(".tif"), pixels),
    "lossless webp": lambda path, pixels: put(path.with_suffix(".webp"), pixels, lossless=True),
    "other metadata": described,
    "rotated by its tag": rotated,
    "16 bits": deep,
    "alpha": lambda path, pixels: put(path.with_suffix(".png"), np.dstack([pixels, pixels[..., 0]])),
}


@pytest.mark.parametrize("copy", COPIES)
def test_the_same_picture_in_another_file(root, copy):
    COPIES[copy](root / "train/cat/copy", np.asarray(Image.open(root / "train/cat/0.png")))
    report = check(root)
    ((first, second),) = report.duplicates
    assert first == "train/cat/0.png" and second.startswith("train/cat/copy.")
    assert not report.clean and not report.leaks and not report.contradictions


def test_reshaped_pixels_are_another_picture(root):
    put(root / "train/cat/a.png", np.zeros((40, 60, 3), np.uint8))
    put(root / "train/cat/b.png", np.zeros((60, 40, 3), np.uint8))
    assert check(root).clean


@pytest.mark.parametrize(
    "place, kinds",
    [
        ("train/cat", {"duplicates"}),
        ("train/dog", {"contradictions"}),
        ("val/cat", {"leaks"}),
        ("val/dog", {"leaks", "contradictions"}),
    ],
)
def test_what_a_duplicate_means(root, place, kinds):
    put(root / place / "copy.bmp", np.asarray(Image.open(root / "train/cat/0.png")))
    report = check(root)
    assert {k for k in ("leaks", "contradictions", "duplicates") if getattr(report, k)} == kinds
    result = call(root)
    assert result.exit_code == 1
    assert result.stdout.count(f"  train/cat/0.png = {place}/copy.bmp") == len(kinds)
    assert ("same pixels in train and in val: 1" in result.stdout) == ("leaks" in kinds)


def test_unreadable_small_and_other_files(root, cat):
    (root / "train/cat/broken.jpg").write_text("no photo")
    (root / "val/dog/cut.png").write_bytes((root / "val/dog/0.png").read_bytes()[:500])
    put(root / "train/dog/deeper/small.png", cat[:30, :200])
    (root / "train/cat/notes.txt").write_text("not a photo, and no trainer reads it")
    (root / "train/cat/.hidden.jpg").write_text("nor this")
    put(root / "train/stray.png", cat)
    report = check(root, size=32)
    assert len(report.unreadable) == 2
    assert "train/cat/broken.jpg: is not a photo" in report.unreadable[0]
    assert "val/dog/cut.png: is damaged" in report.unreadable[1]
    assert report.small == ["train/dog/deeper/small.png: has 200 x 30 pixels, less than 32"]
    assert report.not_looked_at == {".txt": 1, ".jpg": 1, ".png": 1}
    assert [d.photos for d in report.domains] == [2, 3, 1, 1]
    assert call(root, "--size", 32).exit_code == 1


def test_classes_of_one_split_and_empty_ones(root, cat):
    put(root / "train/wild/0.png", cat)
    (root / "val/bird").mkdir()
    report = check(root)
    assert report.one_split == ["wild: has a folder in train only", "bird: has a folder in val only"]
    assert report.empty == ["val/bird: holds no photo that can be read"]
    bird = next(d for d in report.domains if d.domain == "bird")
    assert (bird.photos, bird.smallest, bird.median, bird.largest) == (0, None, None, None)
    assert call(root).exit_code == 1


def test_a_linked_class_counts(root, tmp_path, cat):
    put(tmp_path / "elsewhere/0.png", cat)
    for split in ("train", "val"):
        (root / split / "wild").symlink_to(tmp_path / "elsewhere")
    report = check(root)
    assert report.leaks == [["train/wild/0.png", "val/wild/0.png"]]


def test_figures_as_json_and_long_lists(root, tmp_path, cat):
    for i in range(15):
        put(root / f"train/cat/small{i}.png", cat[: 5 + i, :5])
    result = call(root, "--size", 32, "--json", tmp_path / "new/report.json")
    assert result.exit_code == 1 and "and 5 more" in result.stdout
    report = json.loads((tmp_path / "new/report.json").read_text())
    assert report["clean"] is False and len(report["small"]) == 15
    assert report["domains"][0]["photos"] == 17 and report["domains"][0]["smallest"] == 5


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: (p / "train").mkdir(parents=True)])
def test_no_such_layout(tmp_path, make):
    make(tmp_path / "data")
    result = call(tmp_path / "data")
    assert result.exit_code == 2
    assert "holds no folders train/CLASS and val/CLASS with photos, as AFHQ does" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_several_processes_find_the_same(root, cat):
    put(root / "val/cat/copy.png", cat[:40, :50])
    (root / "val/cat/broken.png").write_text("no photo")
    assert check(root, jobs=2) == check(root, jobs=1)
