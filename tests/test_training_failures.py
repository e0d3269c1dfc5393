"""What goes wrong with a training run ends in one sentence, and loses nothing."""

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from decomp.cli import app
from decomp.training import checkpoint
from decomp.training.log import Record

slow = pytest.mark.slow  # a training each

MODEL = "size = 32\nbranches = 2\nbase = 4\ncap = 4\ndowns = 1\nstyle = 8\nsigma = 1.0\n"
TRAINING = "images = 16\nbatch = 8\ntick = 8\ncritic_base = 4\ncritic_cap = 8\nbf16 = false\nr1 = 0.1\n"


def train(*arguments):
    result = CliRunner().invoke(app, ["train", *map(str, arguments), "--threads", "1", "--device", "cpu"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "toy.toml"
    path.write_text(f"[model]\n{MODEL}[training]\n{TRAINING}")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, settings):
    out = tmp_path_factory.mktemp("runs")
    assert train(settings, "--data", data, "--out", out).exit_code == 0
    return out / "00000-toy"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def refused(result, *words):
    assert result.exit_code == 2, result.output
    message = [line for line in result.output.splitlines() if line.startswith("decomp: ")]
    assert len(message) == 1 and all(word in message[0] for word in words), result.output


@slow
@pytest.mark.parametrize("damage", ["cut", "garbage", "foreign", "empty"])
def test_a_damaged_state(run, data, damage):
    state = (run / "state.pt").read_bytes()
    foreign = {"cut": state[: len(state) // 2], "garbage": b"x" * 1000, "empty": b""}
    (run / "state.pt").write_bytes(foreign.get(damage, state))
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, run / "state.pt")
    refused(train(run, "--data", data), "state.pt: is damaged, cut short, or no state of a run")


@slow
def test_changed_options(run, data):
    options = json.loads((run / "options.json").read_text())
    options["model"]["style"] = 16
    (run / "options.json").write_text(json.dumps(options))
    refused(train(run, "--data", data), "state.pt: does not fit the model of this configuration")
    for text in ("[1]", '{"model": 3}', "{"):
        (run / "options.json").write_text(text)
        refused(train(run, "--data", data), "is not a configuration")


@slow
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_start_leaves_no_run(run, data, settings, tmp_path, damage):
    file = run / "compact" / "generator.safetensors"
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * 1000, "empty": b""}[damage])
    result = train(settings, "--data", data, "--out", tmp_path / "runs", "--start", run / "compact")
    refused(result, "generator.safetensors: is damaged, cut short, or no checkpoint")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    "options, words",
    [
        (["--device", "tpu"], "accepted: auto, cpu, cuda"),
        (["--minutes", "-1"], "--minutes is -1"),
        (["--minutes", "nan"], "--minutes is nan"),
    ],
)
def test_bad_options_leave_no_run(data, settings, tmp_path, options, words):
    result = CliRunner().invoke(app, ["train", str(settings), "--data", str(data), "--out", str(tmp_path), *options])
    refused(result, words)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(data, settings, tmp_path):
    arguments = ["train", str(settings), "--data", str(data), "--out", str(tmp_path), "--device", "cuda"]
    refused(CliRunner().invoke(app, arguments), "torch finds no GPU")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["lr = inf", "lr = nan", "batch = 0", "memory = inf"])
def test_settings_that_are_no_finite_number(data, settings, tmp_path, line):
    name = line.split()[0]
    kept = [other for other in TRAINING.splitlines() if other.split()[0] != name]
    other = tmp_path / "other.toml"
    other.write_text(f"[model]\n{MODEL}[training]\n" + "\n".join([*kept, line]))
    refused(train(other, "--data", data, "--out", tmp_path / "runs"), name)
    assert not (tmp_path / "runs").exists()


@slow
@pytest.mark.parametrize("memory", ["", "memory = 1e-9\n"])
def test_a_bad_photo_is_named_and_left_out(data, settings, tmp_path, memory):
    """In memory, and streamed: there a resumed run must not stop at it again."""
    root = shutil.copytree(data, tmp_path / "data")
    (root / "train" / "cat" / "0.jpg").write_bytes(b"no photo")
    other = tmp_path / "other.toml"
    other.write_text(settings.read_text() + memory)
    first = train(other, "--data", root, "--out", tmp_path / "runs")
    assert first.exit_code == 0
    run = tmp_path / "runs" / "00000-other"
    options = json.loads((run / "options.json").read_text())
    options["training"]["images"] = 32
    (run / "options.json").write_text(json.dumps(options))
    assert train(run, "--data", root).exit_code == 0
    if not memory:  # streamed, it may not be drawn
        assert first.output.count("left out: cat/0.jpg: is not a photo") == 1
    assert [json.loads(line)["images"] for line in (run / "stats.jsonl").read_text().splitlines()] == [8, 16, 24, 32]


def test_photos_none_of_which_can_be_read(data, settings, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    for file in (root / "train" / "cat").iterdir():
        file.write_bytes(b"no photo")
    refused(train(settings, "--data", root, "--out", tmp_path / "runs"), "holds no photos that can be read")
    assert not list((tmp_path / "runs").iterdir())


@slow
def test_a_full_disk(run, data, monkeypatch):
    before = (run / "state.pt").read_bytes()
    options = json.loads((run / "options.json").read_text())
    options["training"]["images"] = 24
    (run / "options.json").write_text(json.dumps(options))

    def full(*_, **__):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    refused(train(run, "--data", data), "state.pt: cannot be written")
    assert (run / "state.pt").read_bytes() == before


def test_no_tick_of_the_statistics_is_lost_or_doubled(tmp_path):
    """Killed after the line and before the state, the run comes again to that tick; killed in the line, it is torn."""
    (tmp_path / "stats.jsonl").write_text('{"images": 8}\n{"images": 16}\n{"images": 24}\n{"ima')
    record = Record(tmp_path, 16)
    record.stats(24, {"d": 1.0})
    record.close()
    assert [json.loads(line)["images"] for line in (tmp_path / "stats.jsonl").read_text().splitlines()] == [8, 16, 24]
