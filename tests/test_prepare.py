import hashlib
import json
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from typer.testing import CliRunner

from decomp import photos
from decomp.cli import app
from decomp.data.check import check
from decomp.data.prepare import prepare
from decomp.faces import crop, find_face


def encoded(pixels, suffix=".png"):
    return cv2.imencode(suffix, np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


@pytest.fixture
def picture(cat):
    """The bytes of photo number i, each one different."""
    return lambda i, suffix=".png": encoded(cat[i : i + 60, i : i + 80], suffix)


def archive(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return path


def tree(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def crops(out):
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p.name != "prepared.json"}


def call(*args, jobs=1):
    return CliRunner().invoke(app, ["data", "prepare", *map(str, args), "--jobs", str(jobs)])


@pytest.fixture
def afhq(picture):
    """AFHQ, version 1."""
    places = [f"{split}/{domain}/{name}" for split in ("train", "val") for domain in ("cat", "dog") for name in "ab"]
    return {f"{place}.jpg": picture(i, ".jpg") for i, place in enumerate(places)}


@pytest.mark.parametrize("top", ["", "./", "afhq/", "data/afhq/"])
@pytest.mark.parametrize("held_out", ["val", "test"])
@pytest.mark.parametrize("make", [tree, archive])
def test_afhq(tmp_path, afhq, top, held_out, make):
    files = {top + name.replace("val/", f"{held_out}/"): data for name, data in afhq.items()}
    extra = {f"{top}readme.png": b"", "__MACOSX/afhq/train/cat/._a.jpg": b"", f"{top}train/cat/.DS_Store": b""}
    if make is tree:
        extra.pop("__MACOSX/afhq/train/cat/._a.jpg")
    result = call(make(tmp_path / "source", files | extra), "-o", tmp_path / "out", "--size", 32)
    assert result.exit_code == 0, result.output
    assert "8 done; see" in result.stdout
    assert crops(tmp_path / "out") == {f"{name}.png" for name in afhq}
    assert check(tmp_path / "out", size=32).clean


def test_a_crop_is_the_square_of_the_photo(tmp_path, cat):
    astronaut = skimage.data.astronaut()
    shown = {"train/cat/a": cat, "train/cat/b": astronaut, "val/cat/c": cat[:, ::-1]}
    files = {f"{name}.png": encoded(pixels) for name, pixels in shown.items()}
    prepare(tree(tmp_path / "source", files), tmp_path / "out", size=300)
    a, b = (photos.load(tmp_path / f"out/train/cat/{n}.png.png") for n in "ab")
    assert np.array_equal(a.pixels, cat[:, 75:375])  # the centre, not a bit changed
    whole = photos.load(astronaut)
    expected = crop(whole, find_face(whole, "centre"), 300)
    assert np.abs(b.pixels / 127.5 - 1 - expected).max() <= 1 / 255 + 1e-6
    assert b.exif is None and b.alpha is None and b.pixels.dtype == np.uint8


def test_names_never_collide(tmp_path, picture):
    names = ["a.jpg", "a.png", "a.jpg.png", "sub/a.jpg", "é ü (1) 50%.jpg"]
    files = {f"{s}/cat/{n}": picture(i) for i, (s, n) in enumerate((s, n) for s in ("train", "val") for n in names)}
    record = prepare(archive(tmp_path / "x.zip", files), tmp_path / "out", size=16)
    assert record["done"] == 10 and record["failed"] == 0
    assert crops(tmp_path / "out") == {f"{name}.png" for name in files}


def test_names_that_differ_in_case_only(tmp_path, picture):
    files = {"train/cat/a.jpg": picture(0), "train/cat/A.JPG": picture(1), "val/cat/b.jpg": picture(2)}
    record = prepare(archive(tmp_path / "x.zip", files), tmp_path / "out", size=16)
    assert record["done"] == 2 and record["failed"] == 1


HOSTILE = [
    "../train/cat/a.jpg",
    "../../../train/cat/a.jpg",
    "train/cat/../../../a.jpg",
    "train/../cat/x/a.jpg",
    "/train/cat/a.jpg",
    "//train/cat/a.jpg",
    "C:/train/cat/a.jpg",
    "train/cat/..\\..\\a.jpg",
    "train/cat\\a.jpg/b.jpg",
    "train//a.jpg",
    "train/cat/\x1b[2Ja.jpg",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_hostile_name_reaches_the_files(tmp_path, afhq, picture, name):
    deep = tmp_path / "1/2/3/4"
    source = archive(tmp_path / "x.zip", afhq | {name: picture(50)})
    result = call(source, "-o", deep / "out", "--size", 16)
    assert result.exit_code == 1
    assert crops(deep / "out") == {f"{name}.png" for name in afhq}
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} - {Path(n).name + ".png" for n in afhq} == {
        "x.zip",
        "prepared.json",
    }
    assert "its name" in result.stderr and "\x1b" not in result.stderr
    rows = json.loads((deep / "out/prepared.json").read_text())["photos"]
    assert [row["photo"] for row in rows if row["status"] == "failed"] == [name]


def declare(path, name, size):
    """Change the size that both headers of a zip declare for a member."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as z:
        local = z.getinfo(name).header_offset
    central = data.index(b"PK\1\2")
    while data[central + 46 : central + 46 + len(name)] != name.encode():
        central = data.index(b"PK\1\2", central + 4)
    struct.pack_into("<L", data, local + 22, size)
    struct.pack_into("<L", data, central + 24, size)
    path.write_bytes(data)


def encrypt(path, name):
    """Set the flag that says so."""
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\1\2")
    while data[central + 46 : central + 46 + len(name)] != name.encode():
        central = data.index(b"PK\1\2", central + 4)
    data[central + 8] |= 1
    path.write_bytes(data)


def spoil(path, name):
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as z:
        start = z.getinfo(name).header_offset + 30 + len(name)
    data[start + 100 : start + 200] = bytes(100)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm, reason",
    [
        (lambda path, name: declare(path, name, 0xF0000000), "declares 3,840 MiB; accepted: 256"),
        (lambda path, name: declare(path, name, 500), "is damaged"),
        (encrypt, "is damaged in the zip, or encrypted"),
        (spoil, "is damaged"),
    ],
    ids=["declared huge", "declared small", "encrypted", "spoilt"],
)
def test_harmed_members_of_a_zip(tmp_path, afhq, harm, reason):
    source = archive(tmp_path / "x.zip", afhq)
    harm(source, "train/dog/b.jpg")
    result = call(source, "-o", tmp_path / "out", "--size", 16)
    assert result.exit_code == 1
    assert f"train/dog/b.jpg: {reason}" in result.stderr
    assert crops(tmp_path / "out") == {f"{name}.png" for name in afhq} - {"train/dog/b.jpg.png"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_unpacked(tmp_path, afhq, method):
    """Python unfolds these two without a bound."""
    source = archive(tmp_path / "x.zip", afhq)
    with zipfile.ZipFile(source, "a", method) as z:
        z.writestr("train/cat/bomb.jpg", bytes(100_000))
    record = prepare(source, tmp_path / "out", size=16)
    assert [row["reason"] for row in record["photos"] if row["status"] == "failed"] == [
        "train/cat/bomb.jpg: is compressed in an unusual way; accepted: stored or deflated, as usual"
    ]


def test_a_member_twice(tmp_path, afhq, picture):
    source = archive(tmp_path / "x.zip", afhq)
    with zipfile.ZipFile(source, "a") as z, pytest.warns(UserWarning, match="Duplicate"):
        z.writestr("train/cat/a.jpg", picture(40))
    record = prepare(source, tmp_path / "out", size=16)
    assert (record["done"], record["failed"]) == (7, 1)


def test_broken_photos_are_reported(tmp_path, afhq):
    cut = afhq["val/dog/a.jpg"][:300]
    broken = {"train/cat/text.jpg": b"no photo", "val/dog/empty.png": b"", "val/dog/cut.jpg": cut}
    result = call(tree(tmp_path / "source", afhq | broken), "-o", tmp_path / "out", "--size", 16)
    assert result.exit_code == 1
    assert "8 done, 3 failed" in result.stdout
    reasons = ("is not a photo", "is empty", "is damaged")
    assert all(f"{name}: {reason}" in result.stderr for name, reason in zip(broken, reasons))
    assert crops(tmp_path / "out") == {f"{name}.png" for name in afhq}


def test_both_validation_and_test_photos(tmp_path, afhq, picture):
    record = prepare(tree(tmp_path / "x", afhq | {"test/cat/t.jpg": picture(50)}), tmp_path / "out", size=16)
    assert (record["done"], record["left out"]) == (8, 1)
    assert crops(tmp_path / "out") == {f"{name}.png" for name in afhq}


def in_validation(name, share):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 < share


def test_the_share_of_validation_photos_is_stable(tmp_path, cat):
    small = encoded(cat[:8, :8])
    few = {f"train/cat/{i}.png": small for i in range(0, 100, 2)}
    for n, files in enumerate((few, few | {f"train/cat/{i}.png": small for i in range(100)})):
        record = prepare(archive(tmp_path / f"{n}.zip", files), tmp_path / str(n), size=8, val=0.3)
        names = {name.rpartition("/")[2] for name in files}
        assert record["done"] == len(names)
        expected = {f"{'val' if in_validation(name, 0.3) else 'train'}/cat/{name}.png" for name in names}
        assert crops(tmp_path / str(n)) == expected
    assert 15 < len(list((tmp_path / "1/val").rglob("*.png"))) < 45


# CelebA-HQ


@pytest.fixture
def celeba(tmp_path, picture):
    """CelebAMask-HQ: photos, other pictures beside them, and the list of attributes."""
    files = {f"CelebA-HQ-img/{i}.jpg": picture(i, ".jpg") for i in range(6)}
    others = {"CelebAMask-HQ-mask-anno/0/00000_hair.png": picture(7), "previews/0.jpg": picture(8)}
    tree(tmp_path / "celeba", files | others)
    lines = ["6", "Male 5_o_Clock_Shadow "]
    lines += [f"{i}.jpg  {1 if i % 2 else -1} {1 if i < 2 else -1}" for i in range(6)]
    (tmp_path / "celeba/CelebAMask-HQ-attribute-anno.txt").write_text("\n".join([*lines, ""]))
    return tmp_path / "celeba"


@pytest.mark.parametrize(
    "attribute, domains",
    [
        ("Male", {"male": {1, 3, 5}, "not-male": {0, 2, 4}}),
        ("Male=men,women", {"men": {1, 3, 5}, "women": {0, 2, 4}}),
        ("5_o_Clock_Shadow", {"5_o_clock_shadow": {0, 1}, "not-5_o_clock_shadow": {2, 3, 4, 5}}),
    ],
)
def test_celeba_by_attribute(tmp_path, celeba, attribute, domains):
    result = call(celeba, "-o", tmp_path / "out", "--attribute", attribute, "--size", 16, "--val", 0)
    assert result.exit_code == 0, result.output
    assert crops(tmp_path / "out") == {f"train/{d}/{i}.jpg.png" for d, numbers in domains.items() for i in numbers}


def test_celeba_as_a_zip_of_png_with_a_list_of_its_own(tmp_path, celeba, picture):
    """CelebA's own list names .jpg where many copies of it hold .png."""
    source = archive(tmp_path / "x.zip", {f"img/{i}.png": picture(i) for i in range(6)})
    table = (celeba / "CelebAMask-HQ-attribute-anno.txt").rename(tmp_path / "list_attr_celeba.txt")
    record = prepare(source, tmp_path / "out", size=16, attribute="Male", attributes=table, val=0.5)
    assert record["done"] == 6
    assert {name.partition("/")[2] for name in crops(tmp_path / "out")} == {
        f"{'male' if i % 2 else 'not-male'}/{i}.jpg.png" for i in range(6)
    }


def test_celeba_with_photos_missing(tmp_path, celeba):
    (celeba / "CelebA-HQ-img/0.jpg").unlink()
    (celeba / "CelebA-HQ-img/1.jpg").unlink()
    result = call(celeba, "-o", tmp_path / "out", "--attribute", "Male", "--size", 16)
    assert result.exit_code == 1 and "4 done, 2 missing" in result.stdout
    assert "0.jpg: no such photo; in all, 2 photos of the table" in result.stderr


@pytest.mark.parametrize(
    "text, attribute, sentence",
    [
        ("2\nMale Young\n0.jpg 1 1\n1.jpg -1 1\n", "Old", "has no attribute 'Old'; accepted: Male, Young"),
        ("3\nMale Young\n0.jpg 1 1\n1.jpg -1 1\n", "Male", "is cut short"),
        ("file,domain\n0.jpg,cat\n", "Male", "is no list of attributes"),
        ("2\nMale Young\n0.jpg 1 1\n1.jpg -1\n", "Male", "line 4 is not a file and 2 values"),
        ("2\nMale Young\n0.jpg 1 1\n1.jpg -1 2\n", "Male", "line 4 is not a file and 2 values"),
        ("", "Male", "is no list of attributes"),
        ("1\nMale\n0.jpg 1\n", "Male=a", "accepted: NAME, or NAME=CLASS,CLASS"),
        ("1\nMale\n0.jpg 1\n", "Male=a,A", "accepted: NAME, or NAME=CLASS,CLASS"),
        ("1\nMale\n0.jpg 1\n", "Male=a,", "accepted: NAME, or NAME=CLASS,CLASS"),
    ],
)
def test_lists_of_attributes_that_are_none(tmp_path, celeba, text, attribute, sentence):
    (celeba / "CelebAMask-HQ-attribute-anno.txt").write_text(text)
    result = call(celeba, "-o", tmp_path / "out", "--attribute", attribute)
    assert result.exit_code == 2
    assert sentence in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


# Any photos with a CSV


@pytest.fixture
def flat(tmp_path, picture):
    return tree(tmp_path / "flat", {f"{i}.jpg": picture(i, ".jpg") for i in range(4)} | {"sub/0.jpg": picture(5)})


def table(tmp_path, text):
    (tmp_path / "photos.csv").write_text(text, encoding="utf-8")
    return tmp_path / "photos.csv"


def test_csv_with_splits(tmp_path, flat):
    rows = "\ufefffile,Domain,split,note\n0.jpg,cat,train,x\n1.jpg,dog,val,\nsub/0.jpg, cat ,val,\n"
    result = call(flat, "-o", tmp_path / "out", "--csv", table(tmp_path, rows), "--size", 16)
    assert result.exit_code == 0, result.output
    assert crops(tmp_path / "out") == {"train/cat/0.jpg.png", "val/dog/1.jpg.png", "val/cat/sub/0.jpg.png"}


def test_csv_without_splits(tmp_path, flat):
    source = table(tmp_path, "file,domain\n0.jpg,cat\n1.jpg,dog\n")
    record = prepare(flat, tmp_path / "out", size=16, csv=source, val=0.999999)
    assert record["done"] == 2 and crops(tmp_path / "out") == {"val/cat/0.jpg.png", "val/dog/1.jpg.png"}


@pytest.mark.parametrize(
    "row, status, reason",
    [
        ("9.jpg,cat,train", "missing", "9.jpg: no such photo"),
        ("../flat/1.jpg,cat,train", "failed", "leads out of its folder"),
        ("/etc/passwd.jpg,cat,train", "failed", "leads out of its folder"),
        ("1.jpg,..,train", "failed", "leads out of its folder"),
        ("1.jpg,../../cat,train", "failed", "leads out of its folder"),
        ("1.jpg,cat/tabby,train", "failed", "its class is no folder's name"),
        ("1.jpg,.cat,train", "failed", "is hidden"),
        ("1.jpg,,train", "failed", "row 2 has no domain"),
        (",cat,train", "failed", "row 2 has no file"),
        ("1.jpg", "failed", "row 2 has no domain"),
        ("1.jpg,cat,", "failed", "its split in photos.csv is ''; accepted: train, val, test"),
        ("1.jpg,cat,Train", "failed", "its split in photos.csv is 'Train'"),
        ("0.jpg,dog,train", "failed", "another photo has this name"),
        ("nowhere/1.jpg,cat,train", "missing", "no such photo"),
    ],
)
def test_csv_rows_that_are_none(tmp_path, flat, row, status, reason):
    source = table(tmp_path, f"file,domain,split\n0.jpg,cat,val\n{row}\n")
    record = prepare(flat, tmp_path / "out", size=16, csv=source)
    assert record["photos"][1]["status"] == status and reason in record["photos"][1]["reason"]
    assert crops(tmp_path / "out") == {"val/cat/0.jpg.png"}
    assert {p.name for p in tmp_path.iterdir()} == {"flat", "out", "photos.csv"}


def test_a_name_that_two_photos_have(tmp_path, picture):
    source = tree(tmp_path / "x", {"a/0.jpg": picture(0), "b/0.jpg": picture(1), "b/1.jpg": picture(2)})
    record = prepare(source, tmp_path / "out", size=16, csv=table(tmp_path, "file,domain\n0.jpg,cat\n1.jpg,cat\n"))
    assert record["photos"][0]["reason"] == "0.jpg: 2 photos have this name, a/0.jpg and b/0.jpg"
    assert record["done"] == 1


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("name,class\n0.jpg,cat\n", "has the columns ['name', 'class']; needed: file, domain"),
        ("", "has the columns []"),
        ("file,domain\n", "names no photos"),
    ],
)
def test_tables_that_are_none(tmp_path, flat, text, sentence):
    result = call(flat, "-o", tmp_path / "out", "--csv", table(tmp_path, text))
    assert result.exit_code == 2 and sentence in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_table_in_another_encoding(tmp_path, flat):
    (tmp_path / "photos.csv").write_bytes("file,domain\n0.jpg,löwe\n".encode("latin-1"))
    assert "is no CSV in UTF-8" in call(flat, "-o", tmp_path / "out", "--csv", tmp_path / "photos.csv").stderr


# Faces


def test_photos_without_a_face_are_left_out(tmp_path, cat):
    astronaut = skimage.data.astronaut()
    files = {"a.png": encoded(astronaut), "b.png": encoded(cat), "c.png": encoded(skimage.data.coffee())}
    source = table(tmp_path, "file,domain\na.png,human\nb.png,human\nc.png,human\n")
    out = tmp_path / "out"
    result = call(tree(tmp_path / "x", files), "-o", out, "--csv", source, "--face", "human", "--size", 64, "--val", 0)
    assert result.exit_code == 0
    assert "1 done, 2 no face" in result.stdout
    record = json.loads((out / "prepared.json").read_text())
    assert record["photos"][1] == {"photo": "b.png", "status": "no face", "reason": "b.png: no human face was found"}
    whole = photos.load(astronaut)
    box = find_face(whole, "human")
    assert box.found == "human" and record["photos"][0]["box"] == [box.left, box.top, box.side]
    expected = crop(whole, box, 64)
    assert np.abs(photos.load(out / "train/human/a.png.png").pixels / 127.5 - 1 - expected).max() <= 1 / 255 + 1e-6


def test_enlarged_crops_are_counted(tmp_path, afhq):
    result = call(tree(tmp_path / "x", afhq), "-o", tmp_path / "out", "--size", 61)
    assert result.exit_code == 0 and "8 crops are enlarged, from less than 61 pixels" in result.stderr
    assert "enlarged" not in call(tmp_path / "x", "-o", tmp_path / "out2", "--size", 60).stderr


# Stopping and resuming


def test_a_run_is_resumed(tmp_path, afhq, picture):
    source, out = tree(tmp_path / "source", afhq), tmp_path / "out"
    first = prepare(source, out, size=16)
    kept = {name: (out / name).read_bytes() for name in crops(out)}
    (out / "train/cat/a.jpg.png").unlink()
    (out / "val/dog/b.jpg.png").write_bytes(b"left alone")
    tree(source, {"train/cat/new.jpg": picture(50)})
    second = prepare(source, out, size=16)
    assert (second["done"], second["skipped"]) == (2, 7)
    assert (out / "train/cat/a.jpg.png").read_bytes() == kept["train/cat/a.jpg.png"]
    assert (out / "val/dog/b.jpg.png").read_bytes() == b"left alone"
    boxes = {row["photo"]: row["box"] for row in first["photos"]}
    assert all(row["box"] == boxes.get(row["photo"], [10, 0, 60]) for row in second["photos"])


def test_an_interrupted_run_says_how_far_it_came(tmp_path, afhq, monkeypatch):
    made = []

    def stop_at_third(photo, path):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path)
        return save(photo, path)

    save = photos.save
    source, out = tree(tmp_path / "source", afhq), tmp_path / "out"
    monkeypatch.setattr(photos, "save", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, size=16)
    record = json.loads((out / "prepared.json").read_text())
    assert (record["done"], record["not reached"], len(record["photos"]), record["foreign"]) == (2, 6, 2, [])
    monkeypatch.setattr(photos, "save", save)
    assert prepare(source, out, size=16)["skipped"] == 2


KILLED = """
import os, signal, sys
from decomp.data import prepare
made = []
def report(row):
    made.extend([row] if row else [])
    if len(made) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
prepare._report = report
prepare.prepare(sys.argv[1], sys.argv[2], size=16, jobs=2)
"""


@pytest.mark.slow
def test_a_killed_run_is_resumed(tmp_path, picture):
    files = {f"{s}/cat/{i}.jpg": picture(i, ".jpg") for i in range(20) for s in ("train", "val")}
    source, out = archive(tmp_path / "x.zip", files), tmp_path / "out"
    # ends when the last process that holds its output has ended: a process that outlives its parent would be waited for
    run = subprocess.run([sys.executable, "-c", KILLED, source, out], capture_output=True, timeout=60)
    assert run.returncode == -signal.SIGKILL
    reached = {name for name in crops(out) if "/." not in name}
    assert 5 <= len(reached) < 40
    record = prepare(source, out, size=16)
    assert (record["skipped"], record["done"], record["foreign"]) == (len(reached), 40 - len(reached), [])
    prepare(source, tmp_path / "whole", size=16)
    for name in crops(tmp_path / "whole"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_several_processes_make_the_same(tmp_path, afhq):
    files = afhq | {"train/cat/broken.jpg": b"no photo"}
    for jobs in (1, 2):
        record = prepare(archive(tmp_path / "x.zip", files), tmp_path / str(jobs), size=24, jobs=jobs)
        assert (record["done"], record["failed"]) == (8, 1)
        assert [row["photo"] for row in record["photos"]] == sorted(files)
    for name in crops(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_a_full_disk(tmp_path, afhq, monkeypatch):
    def full(photo, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(photos, "save", full)
    result = call(tree(tmp_path / "x", afhq), "-o", tmp_path / "out", "--size", 16)
    assert result.exit_code == 1 and "8 failed" in result.stdout and "No space left" in result.stderr


# Wrong calls


def test_photos_of_an_earlier_list_are_named(tmp_path, flat):
    prepare(flat, tmp_path / "out", size=16, csv=table(tmp_path, "file,domain,split\n0.jpg,cat,train\n1.jpg,cat,val\n"))
    table(tmp_path, "file,domain,split\n0.jpg,dog,train\n1.jpg,cat,val\n")
    result = call(flat, "-o", tmp_path / "out", "--csv", tmp_path / "photos.csv", "--size", 16)
    assert result.exit_code == 1
    assert "1 photos in" in result.stderr and "train/cat/0.jpg.png" in result.stderr


@pytest.mark.parametrize("option, value", [("--size", "24"), ("--face", "cat"), ("--csv", "other.csv")])
def test_other_options_need_another_folder(tmp_path, flat, option, value):
    source = table(tmp_path, "file,domain\n0.jpg,cat\n1.jpg,cat\n")
    (tmp_path / "other.csv").write_bytes(source.read_bytes())
    prepare(flat, tmp_path / "out", size=16, csv=source)
    before = crops(tmp_path / "out")
    options = {"--csv": source, "--size": "16"} | {option: tmp_path / value if option == "--csv" else value}
    result = call(flat, "-o", tmp_path / "out", *(part for pair in options.items() for part in pair))
    assert result.exit_code == 2 and f"was prepared with {option[2:]} " in result.stderr
    assert crops(tmp_path / "out") == before


def test_a_folder_with_something_else_is_left_alone(tmp_path, afhq):
    source = tree(tmp_path / "x", afhq)
    result = call(source, "-o", source)
    assert result.exit_code == 2 and "is not empty and holds no prepared.json" in result.stderr
    assert {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()} == set(afhq)


def test_results_below_the_source_are_no_input(tmp_path, afhq):
    source = tree(tmp_path / "x", afhq)
    for done in (8, 0):
        assert prepare(source, source / "made", size=16)["done"] == done


@pytest.mark.parametrize(
    "files, options, sentence",
    [
        ({"a.jpg": b""}, [], "holds no photos at train/CLASS/ and val/CLASS/ or test/CLASS/, as AFHQ does"),
        ({"train/a.jpg": b""}, [], "holds no photos at"),
        ({}, [], "holds no photos at"),
        ({"1/train/cat/a.jpg": b"", "2/train/cat/a.jpg": b""}, [], "holds 2 data sets, 1, 2; name one of them"),
        ({"train/cat/a.jpg": b"", "val/cat/b.jpg": b""}, ["--val", "0.1"], "names its own validation photos"),
        ({"a.jpg": b""}, ["--attribute", "Male"], "holds no CelebAMask-HQ-attribute-anno.txt or list_attr_celeba.txt"),
        ({"a.jpg": b""}, ["--attributes", "list.txt"], "which attribute makes the classes?"),
        ({"a.jpg": b""}, ["--attributes", "nowhere.txt", "--attribute", "Male"], "nowhere.txt: cannot be read"),
        ({"a.jpg": b""}, ["--csv", "nowhere.csv"], "nowhere.csv: cannot be read"),
        ({"a.jpg": b""}, ["--csv", "x.csv", "--attribute", "Male"], "give one of them"),
        ({"train/cat/a.jpg": b""}, ["--val", "1"], "accepted: at least 0, less than 1"),
        ({"train/cat/a.jpg": b""}, ["--face", "dog"], "accepted: 'cat', 'human', 'centre'"),
    ],
)
@pytest.mark.parametrize("make", [tree, archive])
def test_wrong_calls(tmp_path, files, options, sentence, make):
    (tmp_path / "x").mkdir() if make is tree else None
    result = call(make(tmp_path / "x", files), "-o", tmp_path / "out", *options)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "x.zip").write_text("no zip")
    result = call(tmp_path / "x.zip", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "is no zip" in result.stderr
