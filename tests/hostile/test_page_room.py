"""Nobody can fill the disk or the memory, nobody's photo outlives the visit, and nobody at work loses one."""

import io
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import Server

pytest.importorskip("gradio")

from decomp.page import pictures, uploads, visits
from decomp.page.visit import receive, turn
from decomp.page.visits import CROWDED, GONE, Gone, Visits, open_root


@pytest.fixture
def here(tmp_path, monkeypatch) -> Visits:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return Visits(tmp_path)


@pytest.fixture
def come(here, toy, folder):
    """Somebody comes with a photo."""

    def come(session: str):
        with here.writing(here.folder(session)):
            source = pictures.place("original", kept=True)
            source.write_bytes((folder / "cat.png").read_bytes())
            visit = receive(toy, "toy", source, "cat.png", "cat", 32)
            visit = replace(visit, before=str(pictures.stored(visit.view, "photo.png", kept=True)))
        here.welcome(session, visit)
        return visit

    return come


def later(monkeypatch, seconds: float) -> None:
    clock, wall = time.monotonic, time.time
    monkeypatch.setattr(visits.time, "monotonic", lambda: clock() + seconds)
    monkeypatch.setattr(visits.time, "time", lambda: wall() + seconds)


def test_the_hour_runs_from_the_last_use(here, come, monkeypatch):
    come("anna"), come("ben")
    for _ in range(4):
        later(monkeypatch, 40 * 60)
        with here.serving("anna") as visit:
            assert Path(visit.before).is_file() and visit.photo.pixels.size
        here.sweep()
    with pytest.raises(Gone, match="an hour after the last use"):
        here.serving("ben").__enter__()
    assert len(list((here.root / "visits").iterdir())) == 1  # nothing of ben's is left


def test_an_example_outlives_everybody(here, monkeypatch):
    example = here.root / "examples" / "cat" / "photo.png"
    example.parent.mkdir(parents=True)
    icon = here.root / ("c" * 64) / "cat.png"  # where Gradio keeps a button's picture
    icon.parent.mkdir()
    for path in (example, icon):
        path.write_bytes(b"x")
    here.built()
    later(monkeypatch, 10 * 3600)
    here.sweep()
    assert example.is_file() and icon.is_file()


def test_an_upload_goes_an_hour_after_it_was_last_read(here, monkeypatch):
    path = here.root / ("a" * 64) / "cat.png"
    path.parent.mkdir()
    path.write_bytes(b"x")
    later(monkeypatch, 59 * 60)
    here.sweep()
    assert path.is_file()
    later(monkeypatch, 2 * 60)
    here.sweep()
    assert not path.exists()


def test_reading_an_upload_is_using_it(here):
    path = here.root / ("a" * 64) / "cat.png"
    path.parent.mkdir()
    path.write_bytes(b"x")
    visits.os.utime(path, (0, 0))
    uploads.read(uploads.photo({"path": str(path)}))
    assert time.time() - path.stat().st_mtime < 60


def test_a_new_photo_takes_the_place_of_the_last_one(here, come):
    first = come("anna")
    second = come("anna")
    assert not Path(first.before).exists() and not Path(first.source).exists()
    assert Path(second.before).is_file() and Path(second.source).is_file()
    assert len(list((here.root / "visits").iterdir())) == 1


def test_a_drag_leaves_a_handful_of_pictures(here, come):
    come("anna")
    for k in range(30):
        with here.serving("anna") as visit:
            last = pictures.stored(visit.view + np.uint8(k), "edited.png")
    edits = list(here.folder("anna").rglob("edited.png"))
    assert len(edits) == visits.MOST_EDITS and last in edits


def test_one_visitor_has_so_much_room_and_no_more(here, come, monkeypatch):
    monkeypatch.setattr(visits, "MOST_OF_ONE", 100_000)
    visit = come("anna")
    for k in range(10):
        with here.serving("anna"):
            path = pictures.place(f"{k}.bin")
            path.write_bytes(bytes(30_000))
            visits.os.utime(path, (k, k))
    left = sorted(here.folder("anna").rglob("*.bin"))
    assert {path.name for path in left} == {"7.bin", "8.bin", "9.bin"}
    assert Path(visit.source).is_file() and Path(visit.before).is_file()


def test_all_together_have_so_much_room_and_no_more(here, come, monkeypatch):
    upload = here.root / ("a" * 64) / "cat.png"
    upload.parent.mkdir()
    upload.write_bytes(bytes(2_000_000))
    come("anna")
    monkeypatch.setattr(visits, "MOST_IN_ALL", here._stored() + 50_000)
    assert not here.full()
    come("ben")
    assert not upload.exists()  # first what nobody works on ...
    with here.serving("anna"):
        pass
    monkeypatch.setattr(visits, "MOST_IN_ALL", here.entries["anna"].stored() + 1000)
    assert not here.full()
    with pytest.raises(Gone, match="other visitors needed the room"):  # ... then whoever was idle longest
        here.serving("ben").__enter__()
    with here.serving("anna"):
        pass
    monkeypatch.setattr(visits, "MOST_IN_ALL", 1000)
    assert here.full()


def test_those_who_only_look_go_first(here, come, monkeypatch):
    monkeypatch.setattr(visits, "MOST_VISITS", 3)
    example = replace(come("example"), shared=True)
    come("anna")
    for k in range(10):
        here.welcome(f"passer-by {k}", example)
    with here.serving("anna"):
        pass
    for k in range(3):
        come(f"visitor {k}")
    with pytest.raises(Gone) as caught:
        here.serving("anna").__enter__()
    assert str(caught.value) == CROWDED
    with pytest.raises(Gone) as caught:
        here.serving("nobody").__enter__()
    assert str(caught.value) == GONE


def test_layers_on_disk_are_the_layers(here, come, toy, monkeypatch):
    """Bit for bit, with another class and without; at most so many are in memory."""
    monkeypatch.setattr(visits, "IN_MEMORY", 2)
    anna, ben = come("anna"), turn(come("ben"), toy, ["cat", "dog", "cat"])
    here.welcome("ben", ben)
    for k in range(4):
        come(f"visitor {k}")
    assert sum(not entry.parked for entry in here.entries.values()) == 2
    assert here.entries["anna"].visit.own.channels is None
    for session, visit in (("anna", anna), ("ben", ben)):
        with here.serving(session) as again:
            for part in ("picture", "residual", "channels", "unexplained"):
                assert np.array_equal(getattr(again.own, part), getattr(visit.own, part))
            strengths = {1: 0.5, 2: 1.75}
            assert np.array_equal(again.recompose(strengths, "photo"), visit.recompose(strengths, "photo"))
            assert np.array_equal(again.view, visit.view) and again.own.info == visit.own.info
        assert sum(not entry.parked for entry in here.entries.values()) == 2


def test_what_a_crash_left_is_removed_at_the_next_start(tmp_path, monkeypatch):
    """A folder belongs to a server as long as its process lives; kill -9 gives it up."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = tmp_path / "decomp-page-held"
    held.mkdir()
    (held / "a visitor's photo.png").write_bytes(b"x")
    lock = f"lock = filelock.FileLock({str(held / '.lock')!r}); lock.acquire()"
    hold = f"import filelock, time; {lock}; print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        mine = open_root()
        assert held.is_dir() and mine.is_dir() and mine.stat().st_mode & 0o077 == 0
        other.send_signal(signal.SIGKILL)
        other.wait()
    mine_too = open_root()
    assert not held.exists() and mine.is_dir() and mine_too.is_dir() and mine != mine_too


@pytest.mark.slow  # a server
def test_a_visit_over_http_leaves_one_upload_and_a_handful_of_files(server: Server, cat):
    """The bytes of an upload are on disk once, however many names they have, and in the process not at all."""
    file = io.BytesIO()
    Image.fromarray(cat).save(file, "PNG")
    before = len(list(server.folder().rglob("*")))
    for _ in range(5):
        assert (
            server.call("decompose", [{"path": server.upload(file.getvalue())}, "animals", "auto", 0, ""])[0]
            == "complete"
        )
    assert len(list(server.folder().rglob("*"))) - before <= 2 + 5 * 2 + 5
