import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from decomp import photos
from decomp.batch import folder as batch
from decomp.cli import app
from decomp.photos import PhotoError


def copy(path, made):
    made.write_bytes(photos.load(path).pixels.tobytes())
    return {"note": "copied"}


def test_tree_is_mirrored_and_reported(folder, tmp_path):
    code = batch.run(folder, tmp_path, copy, folder=None, skip_existing=False)
    assert code == batch.SOME_FAILED
    results = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert results == {"cat.png", "cat.jpg", "sub/cat.jpg", "report.json", "report.csv"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["done"], report["skipped"], report["failed"]) == (3, 0, 1)
    failed = next(row for row in report["photos"] if row["status"] == "failed")
    assert failed["photo"] == "broken.jpg" and "broken.jpg" in failed["reason"]
    assert all(row["note"] == "copied" for row in report["photos"] if row["status"] == "done")


def test_a_picture_that_is_there_is_never_replaced_unasked(folder, tmp_path):
    (tmp_path / "cat.png").write_text("mine")
    batch.run(folder, tmp_path, copy, folder=None, skip_existing=True)
    assert (tmp_path / "cat.png").read_text() == "mine"
    (tmp_path / "cat.jpg").unlink()
    batch.run(folder, tmp_path, copy, folder=None, skip_existing=False)
    assert (tmp_path / "cat.png").read_text() == "mine" and (tmp_path / "cat.jpg").exists()
    rows = {row["photo"]: row for row in json.loads((tmp_path / "report.json").read_text())["photos"]}
    assert "--overwrite replaces it, --skip-existing leaves it" in rows["cat.png"]["reason"]
    batch.run(folder, tmp_path, copy, folder=None, skip_existing=False, overwrite=True)
    assert (tmp_path / "cat.png").read_bytes() != b"mine"


@pytest.mark.parametrize("name, text", [("report.json", '{"mine": 1}'), ("report.json", "[]"), ("report.csv", "a,b")])
def test_a_foreign_report_is_left_alone(folder, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(PhotoError, match=f"{name}: is not a report of decomp and is left alone"):
        batch.run(folder, tmp_path, copy, folder=None, skip_existing=False)
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == text


def test_a_run_that_breaks_leaves_nothing_half_written(folder, tmp_path):
    def half(path, made):
        made.mkdir()
        (made / "part").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run(folder / "cat.png", tmp_path, half, folder="", skip_existing=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_result_is_replaced_whole(folder, tmp_path):
    def write(name):
        def work(path, made):
            made.mkdir()
            (made / name).write_text(name)

        return work

    for name in ("first", "second"):
        assert batch.run(folder / "cat.png", tmp_path, write(name), folder="", skip_existing=False) == batch.DONE
    assert {p.name for p in (tmp_path / "cat.png").iterdir()} == {"second", batch.MARK}
    assert [p.name for p in tmp_path.iterdir()] == ["cat.png"]


def test_results_inside_the_source_are_no_input(folder, tmp_path):
    source = tmp_path / "photos"
    shutil.copytree(folder, source)
    for _ in range(2):
        batch.run(source, source / "out", copy, folder=None, skip_existing=False, overwrite=True)
    assert json.loads((source / "out" / "report.json").read_text())["done"] == 3


def make(path, made):
    made.mkdir()
    (made / "sheet").write_text("new")


def test_what_is_not_ours_is_never_replaced(folder, tmp_path):
    (tmp_path / "cat.png").mkdir()
    (tmp_path / "cat.png" / "thesis.txt").write_text("precious")
    assert batch.run(folder / "cat.png", tmp_path, make, folder="", skip_existing=False) == batch.SOME_FAILED
    assert (tmp_path / "cat.png" / "thesis.txt").read_text() == "precious"
    onto = folder / "cat.png"
    assert batch.run(onto, onto, copy, folder=None, skip_existing=False) == batch.SOME_FAILED
    assert photos.load(folder / "cat.png").pixels.shape == (300, 451, 3)


def test_the_last_result_survives_a_failing_disk(folder, tmp_path, monkeypatch):
    batch.run(folder / "cat.png", tmp_path, make, folder="", skip_existing=False)
    whole, calls = Path.replace, []

    def full(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError("no space left")
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert batch.run(folder / "cat.png", tmp_path, make, folder="", skip_existing=False) == batch.SOME_FAILED
    assert (tmp_path / "cat.png" / "sheet").read_text() == "new"


def test_results_beside_the_photos(folder, tmp_path):
    """`--out` may be a folder above the photos, but not the folder of the photos itself."""
    source = tmp_path / "photos"
    shutil.copytree(folder, source)
    batch.run(source, tmp_path, copy, folder=None, skip_existing=False)
    assert json.loads((tmp_path / "report.json").read_text())["done"] == 3
    with pytest.raises(PhotoError, match="is the folder with the photos"):
        batch.run(source, source, copy, folder=None, skip_existing=False)


def test_empty_folder(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(PhotoError, match="no photos below this folder; accepted: .*jpg"):
        batch.run(tmp_path / "in", tmp_path / "out", copy, folder=None, skip_existing=False)


def test_a_stopped_run_reports_what_it_did(folder, tmp_path):
    def stop_at_second(path, made, seen=[]):  # noqa: B006, which counts the calls
        seen.append(path)
        if len(seen) == 2:
            raise KeyboardInterrupt
        made.write_text("done")

    with pytest.raises(KeyboardInterrupt):
        batch.run(folder, tmp_path, stop_at_second, folder=None, skip_existing=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["not reached"] == 3 and len(report["photos"]) == 1


def test_an_edited_gif_becomes_a_png(folder, tmp_path, cat):
    (tmp_path / "in").mkdir()
    Image.fromarray(cat).save(tmp_path / "in" / "cat.gif")
    batch.run(tmp_path / "in", tmp_path / "out", copy, folder=None, skip_existing=False)
    assert (tmp_path / "out" / "cat.gif.png").exists()


def tell(path, made):
    """At module level, so that another process can have it."""
    copy(path, made)
    return {"process": os.getpid()}


def make_and_tell(path, made):
    photos.load(path)
    make(path, made)
    return {"note": photos.readable(path.name)}


def die_at_astronaut(path, made):
    if path.parent.name == "sub":
        os._exit(9)
    return copy(path, made)


@pytest.mark.slow
def test_processes_do_the_same(folder, tmp_path):
    code = batch.run(folder, tmp_path, tell, folder=None, skip_existing=False, jobs=2)
    assert code == batch.SOME_FAILED
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["done"], report["failed"], report["not reached"]) == (3, 1, 0)
    assert os.getpid() not in {row.get("process") for row in report["photos"]}
    assert [row["photo"] for row in report["photos"]] == ["broken.jpg", "cat.jpg", "cat.png", "sub/cat.jpg"]


@pytest.mark.slow
def test_a_killed_process_fails_its_own_photo_only(folder, tmp_path):
    assert batch.run(folder, tmp_path, die_at_astronaut, folder=None, skip_existing=False, jobs=2) == batch.SOME_FAILED
    rows = {row["photo"]: row for row in json.loads((tmp_path / "report.json").read_text())["photos"]}
    assert "process was killed" in rows["sub/cat.jpg"]["reason"] and "is not a photo" in rows["broken.jpg"]["reason"]
    assert rows["cat.jpg"]["status"] == rows["cat.png"]["status"] == "done"
    assert not list(tmp_path.rglob(".decomp-*"))


def slow(path, made):
    copy(path, made)
    print("at work", path.name, file=sys.__stdout__, flush=True)
    time.sleep(0.5)


RUN = (
    "import sys; sys.path.insert(0, {tests!r}); import test_batch; from pathlib import Path; "
    "from decomp.batch import folder; "
    "folder.run(Path({source!r}), Path({out!r}), test_batch.slow, folder=None, skip_existing=False, jobs={jobs})"
)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("stop, code", [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_stopped_run_counts_what_is_there(tmp_path, cat, jobs, stop, code):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for k in range(12):
        Image.fromarray(cat[:50, :50]).save(source / f"{k}.png")
    text = RUN.format(tests=str(Path(__file__).parent), source=str(source), out=str(out), jobs=jobs)
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a run in the background may have it ignored
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )
    for _ in range(2):
        process.stdout.readline()
    process.send_signal(stop)
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (code, -stop), errors
    report = json.loads((out / "report.json").read_text())
    there = {p.name for p in out.rglob("*.png")}
    assert {row["photo"] for row in report["photos"] if row["status"] == "done"} == there
    assert report["not reached"] == 12 - len(report["photos"]) > 0
    assert not list(out.rglob(".decomp-*"))


def grumble(path, made):
    os.write(2, b"libtiff: a native line\n")
    return copy(path, made)


def test_native_lines_stand_in_the_report(folder, tmp_path, capfd):
    batch.run(folder, tmp_path, grumble, folder=None, skip_existing=False)
    rows = json.loads((tmp_path / "report.json").read_text())["photos"]
    assert all(row["notes"] == "libtiff: a native line" for row in rows)
    assert "libtiff" not in capfd.readouterr().err
    batch.run(folder / "cat.png", tmp_path / "one.png", grumble, folder=None, skip_existing=False)
    assert "cat.png: libtiff: a native line" in capfd.readouterr().err


def full_disk(path, made):
    raise OSError(28, "No space left on device")


def test_what_the_system_says_names_the_photo(folder, tmp_path, capsys):
    assert batch.run(folder / "cat.png", tmp_path / "a.png", full_disk, folder=None, skip_existing=False) == 1
    assert capsys.readouterr().err == "cat.png: No space left on device\n"


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are UTF-8 there")
def test_odd_names(tmp_path, cat, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in (b"caf\xe9.png", b"a\nb.png", b"x" * 251 + b".png", b"y" * 251 + b".png", b"no\xff.jpg"):
        path = os.path.join(os.fsencode(source), name)
        with open(path, "wb") as file:
            if name.endswith(b".png"):
                Image.fromarray(cat[:40, :40]).save(file, "PNG")
    batch.run(source, out, make_and_tell, folder=".eyes", skip_existing=False)
    report = json.loads((out / "report.json").read_text())
    assert (report["done"], report["failed"]) == (4, 1)
    assert all(row["photo"].isprintable() and row["photo"].encode() for row in report["photos"])
    batch.run(source, out, make_and_tell, folder=".eyes", skip_existing=True)
    assert json.loads((out / "report.json").read_text())["skipped"] == 4
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 6
    assert (
        batch.run(
            Path(os.fsdecode(os.path.join(os.fsencode(source), b"caf\xe9.png"))),
            out,
            make_and_tell,
            folder="",
            skip_existing=False,
        )
        == 0
    )


def test_shards_share_the_work(folder, tmp_path):
    for i in (1, 2):
        batch.run(folder, tmp_path, copy, folder=None, skip_existing=False, shard=(i, 2))
    parts = [json.loads((tmp_path / f"report-{i}-of-2.json").read_text())["photos"] for i in (1, 2)]
    assert [len(part) for part in parts] == [2, 2]
    assert len({row["photo"] for part in parts for row in part}) == 4


def test_the_table_has_a_row_for_every_photo_also_after_resuming(folder, tmp_path):
    for _ in range(2):
        batch.run(folder, tmp_path, make_and_tell, folder="", skip_existing=True)
    with open(tmp_path / "report.csv", newline="") as file:
        rows = {row["photo"]: row for row in csv.DictReader(file)}
    assert rows["cat.png"]["status"] == "skipped" and rows["cat.png"]["note"] == "cat.png"
    assert rows["broken.jpg"]["status"] == "failed" and rows["broken.jpg"]["note"] == ""


@pytest.mark.slow
def test_leftovers_of_killed_processes_are_taken_away(folder, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive = (tmp_path / f"{batch.PREFIX}{pid}-x" for pid in (gone.pid, os.getpid()))
    (dead / "previous").mkdir(parents=True)  # killed between the two renames of a replacement
    (dead / "previous" / "sheet").write_text("the only whole one")
    (dead / "cat.jpg").mkdir()
    alive.mkdir()
    batch.run(folder, tmp_path, make, folder="", skip_existing=True)
    assert not dead.exists() and alive.exists()
    assert (tmp_path / "cat.jpg" / "sheet").read_text() == "the only whole one"


def stumble(path, made):
    if path.suffix == ".png":
        raise ZeroDivisionError("a mistake")
    return copy(path, made)


def test_a_mistake_at_one_photo_does_not_end_the_run(folder, tmp_path):
    assert batch.run(folder, tmp_path, stumble, folder=None, skip_existing=False) == batch.SOME_FAILED
    rows = {row["photo"]: row for row in json.loads((tmp_path / "report.json").read_text())["photos"]}
    assert rows["cat.png"]["reason"] == "cat.png: ZeroDivisionError: a mistake" and rows["cat.jpg"]["status"] == "done"


@pytest.mark.slow
def test_the_commands_work_in_processes_and_shards(toy, folder, tmp_path):
    toy.save_pretrained(tmp_path / "model")
    shared = ["--model", str(tmp_path / "model"), "-o", str(tmp_path / "out"), "--jobs", "2"]
    both = []
    for command, ending in ((["sweep", "-c", "1", "--steps", "2"], ".sweep-1"), (["decompose"], "")):
        result = CliRunner().invoke(app, [*command, str(folder), *shared, "--shard", "2/2"])
        assert result.exit_code == 0, result.output
        rows = json.loads((tmp_path / "out" / "report-2-of-2.json").read_text())["photos"]
        assert [row["photo"] for row in rows] == ["cat.jpg", "sub/cat.jpg"]
        both += [tmp_path / "out" / f"{row['photo']}{ending}" for row in rows]
    assert all(any(result.glob("*.png")) for result in both)
    wrong = CliRunner().invoke(app, ["sweep", str(folder), "-c", "1", *shared, "--shard", "3/2"])
    assert wrong.exit_code == 2 and "is not I/N" in wrong.output


@pytest.mark.slow
def test_the_scripts_are_the_commands():
    for name in ("segment_eyes", "decompose_folder", "sweep_folder"):
        script = Path(__file__).parents[1] / "apps" / f"{name}.py"
        result = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
        assert result.returncode == 0 and "--shard" in result.stdout, result.stderr
