"""Films and folders of frames: what changes, what stays, going on after a stop, and standing still."""

from fractions import Fraction

import numpy as np
import pytest
import skimage
from PIL import Image
from typer.testing import CliRunner

from decomp import photos, video
from decomp.cli import app
from decomp.faces import Box
from decomp.photos import PhotoError
from decomp.video import Change, Edit, Track, edit_film

av = pytest.importorskip("av")
TIMES = [0, 512, 1024, 1300, *range(2048, 512 * 22, 512)]  # not evenly spaced, in units of 1/12800 s
EDIT = Edit({1: 2.0, 3: 0.0}, domain="cat", size=32)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(video, "SEGMENT", 8)
    monkeypatch.setattr(video, "WARM", 3)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A cat that the camera slides over, with a tone."""
    path = tmp_path_factory.mktemp("film") / "cat.mp4"
    picture = skimage.data.cat()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 12800)
        sound = container.add_stream("aac", rate=44100)
        for k, time in enumerate(TIMES):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[60:180, 100 + k : 260 + k]), format="rgb24")
            frame.pts, frame.time_base = time, stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        tone = np.sin(np.arange(40 * 1024) / 20).astype(np.float32)
        for k, part in enumerate(tone.reshape(-1, 1, 1024)):
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 1024 * k
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def frames(path):
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def sound(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0)]


@pytest.mark.slow
def test_a_film_keeps_its_times_and_its_sound(toy, film, tmp_path):
    told = edit_film(toy, film, tmp_path / "out.mp4", EDIT)
    assert told == {"frames": 22, "looks": 5, "faces": 0, "domain": "cat"}
    before, after = frames(film), frames(tmp_path / "out.mp4")
    assert [t for t, _ in after] == pytest.approx([t for t, _ in before], abs=1e-4)
    assert sound(tmp_path / "out.mp4") == sound(film)
    assert list(tmp_path.iterdir()) == [tmp_path / "out.mp4"]  # nothing half-made is left
    for (_, x), (_, y) in zip(before, after):
        centre = np.abs(y[:, 20:140].astype(int) - x[:, 20:140]).mean()  # the square that was decomposed
        beside = np.abs(y[:, :16].astype(int) - x[:, :16]).mean()
        assert centre > 3 * beside and beside < 3  # beside it there is only the coding


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_the_same(toy, film, tmp_path, monkeypatch):
    edit_film(toy, film, tmp_path / "whole.mp4", EDIT)
    write, made = video.Film.write, []

    def stop_at_third(self, start, some):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(start)
        write(self, start, some)

    with monkeypatch.context() as patch:
        patch.setattr(video.Film, "write", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            edit_film(toy, film, tmp_path / "out.mp4", EDIT)
    assert not (tmp_path / "out.mp4").exists() and made == [0, 8]
    again = []
    monkeypatch.setattr(video.Film, "write", lambda self, start, some: (again.append(start), write(self, start, some)))
    edit_film(toy, film, tmp_path / "out.mp4", EDIT)
    assert again == [16]
    for (_, x), (_, y) in zip(frames(tmp_path / "whole.mp4"), frames(tmp_path / "out.mp4"), strict=True):
        assert np.array_equal(x, y)


def test_another_edit_starts_anew(toy, film, tmp_path, monkeypatch):
    write, made = video.Film.write, []

    def only_first(self, start, some):
        if made:
            raise KeyboardInterrupt
        made.append(start)
        write(self, start, some)

    monkeypatch.setattr(video.Film, "write", only_first)
    for edit in (EDIT, Edit({1: 3.0}, domain="cat", size=32)):
        made.clear()
        with pytest.raises(KeyboardInterrupt):
            edit_film(toy, film, tmp_path / "out.mp4", edit)
        assert made == [0]


def test_a_folder_of_frames(toy, tmp_path):
    source, out = tmp_path / "frames", tmp_path / "out"
    source.mkdir()
    for k in range(10):
        Image.fromarray(skimage.data.cat()[60:180, 100 + k : 260 + k]).save(source / f"{k:03}.png")
    assert edit_film(toy, source, out, EDIT)["frames"] == 10
    assert sorted(p.name for p in out.iterdir()) == [f"{k:03}.png" for k in range(10)]
    x, y = (photos.load(folder / "004.png").pixels.astype(int) for folder in (source, out))
    assert np.array_equal(x[:, :20], y[:, :20]) and np.abs(x - y)[:, 20:140].max() > 0
    with pytest.raises(PhotoError, match="another one"):
        edit_film(toy, source, source, EDIT)
    with pytest.raises(PhotoError, match="already there"):
        edit_film(toy, source, out, EDIT)


@pytest.mark.parametrize(
    "edit",
    [
        Edit({1: 2.0, 3: 0.0, "residual": 0.5, "unexplained": 0.2}),
        Edit({"residual": 1.5}),
        Edit({2: 0.0, "unexplained": 0.0}),
        Edit({}),
    ],
)
def test_the_change_is_that_of_recompose(toy, cat, edit):
    d = toy.decompose(cat, "cat", size=32)
    change = Change(toy, edit, "cat")(d.picture)
    assert np.abs(change - (d.recompose(edit.strengths) - d.picture)).max() < 1e-5


def test_the_change_to_another_class_keeps_the_unexplained_rest(toy, cat):
    own, dog = (toy.decompose(cat, "cat", target, size=32) for target in (None, {1: "dog"}))
    change = Change(toy, Edit({1: 2.0, 2: 0.5}, target={1: "dog"}), "cat")(own.picture)
    expected = 2 * dog.channels[0] - own.channels[0] - 0.5 * own.channels[1]
    assert np.abs(change - expected).max() < 1e-5


def test_only_the_branches_that_change_run(toy, cat):
    ran = []
    for k, branch in enumerate(toy.generator.branches):
        branch.register_forward_hook(lambda *_, k=k: ran.append(k))
    square = toy.decompose(cat, "cat", size=32).picture
    for edit, expected in ((Edit({2: 3.0}), [1]), (Edit({}), []), (Edit({"unexplained": 0}), [0, 1, 2])):
        ran.clear()
        Change(toy, edit, "cat")(square)
        assert ran == expected


def test_an_impossible_edit_is_refused(toy):
    for strengths in ({1: float("nan")}, {1: 1.0, "channel 1": 2.0}, {7: 1.0}):
        with pytest.raises(ValueError, match=r"accepted|there is no channel"):
            Change(toy, Edit(strengths), "cat")


@pytest.mark.slow
def test_a_still_face_flickers_less_and_a_moved_one_does_not_smear(toy, cat):
    """On a still photo with a camera's noise, the change differs from frame to frame at most half as much."""
    rng = np.random.default_rng(0)
    square = toy.decompose(cat, "cat", size=64).picture
    noisy = [np.clip(square + rng.normal(0, 0.02, square.shape), -1, 1).astype(np.float32) for _ in range(16)]
    flicker = {}
    for steady in (False, True):
        change = Change(toy, Edit({1: 3.0}, steady=steady), "cat")
        made = [change(x) for x in noisy]
        flicker[steady] = np.sqrt(np.mean(np.square(np.diff(made[6:], axis=0))))
    assert flicker[True] < 0.5 * flicker[False]
    change(np.ascontiguousarray(square[::-1]))
    alone = Change(toy, Edit({1: 3.0}, steady=False), "cat")(np.ascontiguousarray(square[::-1]))
    assert np.abs(change.before[1] - alone).mean() < 0.1 * np.abs(alone).mean()


def box(x, y, side):
    return Box(x, y, side, "cat")


def test_the_box_stands_still_with_the_face():
    rng = np.random.default_rng(0)
    boxes = [box(*(np.array([100, 80, 120]) + rng.integers(-2, 3, 3))) for _ in range(40)]
    track = Track(boxes, 200, 640, 480)
    assert len({(track[i].left, track[i].top, track[i].side) for i in range(200)}) <= 2
    assert abs(track[0].left - 100) <= 3 and abs(track[0].side - 120) <= 3


def test_the_box_follows_a_moving_face_and_not_a_false_one():
    boxes = [box(100 + 4 * k, 80, 120) for k in range(40)]
    boxes[11] = box(500, 300, 60)
    boxes[20] = None
    track = Track(boxes, 200, 640, 480)
    for k in (5, 11, 20, 30):
        assert abs(track[5 * k].left - (100 + 4 * k)) <= 8 and abs(track[5 * k].side - 120) <= 6
    assert track[199].left + track[199].side <= 640


def test_without_a_face_it_is_the_centre():
    track = Track([None] * 4, 20, 640, 480)
    assert (track[7].left, track[7].top, track[7].side) == (80, 0, 480)


def test_what_is_no_film_is_refused_in_one_sentence(toy, film, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("this is not a film")
    playlist = tmp_path / "playlist.mp4"  # which FFmpeg would follow to other files
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{film}\n#EXT-X-ENDLIST\n")
    for wrong in (text, playlist):
        with pytest.raises(PhotoError, match=f"{wrong.name}: is not a film"):
            edit_film(toy, wrong, tmp_path / "out.mp4", EDIT)
    with pytest.raises(PhotoError, match="the film itself"):
        edit_film(toy, film, film, EDIT)
    with pytest.raises(PhotoError, match=r"accepted: \.mp4"):
        edit_film(toy, film, tmp_path / "out.gif", EDIT)
    result = CliRunner().invoke(app, ["video", str(text), "-o", str(tmp_path / "out.mp4"), "-s", "1=2"])
    assert result.exit_code == 1 and "is not a film" in result.output
    assert CliRunner().invoke(app, ["video", str(film), "-o", "x.mp4", "-s", "99=2"]).exit_code == 2
    assert {path.name for path in tmp_path.iterdir()} == {"text.mp4", "playlist.mp4"}
