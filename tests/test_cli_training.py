import json
import tomllib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import decomp
from decomp.cli import app
from decomp.config import ModelConfig
from decomp.training.estimate import kept_bytes
from decomp.training.trainer import TrainConfig

CONFIGS = Path(decomp.__file__).parent / "training" / "configs"
TOY = """
[model]
size = 32
branches = 2
base = 4
cap = 4
downs = 1
[training]
images = 8
batch = 4
critic_base = 4
critic_cap = 4
"""


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def toy_config(tmp_path):
    (tmp_path / "toy.toml").write_text(TOY)
    return tmp_path / "toy.toml"


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.toml")), ids=lambda p: p.stem)
def test_bundled_configurations_are_valid(path):
    options = tomllib.loads(path.read_text())
    assert set(options) == {"model", "training"}
    ModelConfig.from_dict({"domains": ("a", "b")} | options["model"])
    TrainConfig.from_dict(options["training"])


@pytest.mark.slow  # trainings, here and below
def test_train_takes_the_classes_from_the_folders_and_goes_on(toy_config, data, tmp_path):
    done = call("train", toy_config, "--data", data, "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    run = tmp_path / "runs" / "00000-toy"
    options = json.loads((run / "options.json").read_text())
    assert options["model"]["domains"] == ["cat", "person"]

    options["training"]["images"] = 16
    (run / "options.json").write_text(json.dumps(options))
    assert call("train", run, "--data", data).exit_code == 0
    assert [json.loads(line)["images"] for line in (run / "stats.jsonl").read_text().splitlines()] == [8, 16]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["00000-toy"]


@pytest.mark.slow
def test_every_new_run_has_its_own_number(toy_config, data, tmp_path):
    for _ in range(2):
        assert call("train", toy_config, "--data", data, "--out", tmp_path / "runs", "--seed", 3).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["00000-toy", "00001-toy"]
    assert json.loads((tmp_path / "runs" / "00001-toy" / "options.json").read_text())["training"]["seed"] == 3


@pytest.mark.slow
def test_start_from_a_compact_checkpoint(toy_config, data, tmp_path):
    assert call("train", toy_config, "--data", data, "--out", tmp_path).exit_code == 0
    toy_config.write_text(TOY.replace("images = 8", "images = 12"))
    done = call("train", toy_config, "--data", data, "--out", tmp_path, "--start", tmp_path / "00000-toy" / "compact")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "00001-toy" / "stats.jsonl").read_text())["images"] == 12


def test_dry_run_tells_and_writes_nothing(toy_config, data, tmp_path):
    done = call("train", toy_config, "--data", data, "--out", tmp_path / "runs", "--dry-run")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["model"]["size"] == 32 and told["training"]["images"] == 8
    assert told["parameters"]["generator"] > told["parameters"]["of it p"] == 40_529
    assert 0 < told["memory_gib"]["activations"] < 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[model]\nsize = 1\n", "size is 1; accepted"),
        ("[training]\nspeed = 3\n", "unknown training settings ['speed']"),
        ("[modell]\n", "unknown tables ['modell']"),
        ("no toml", "is not a configuration"),
    ],
)
def test_wrong_configurations_are_usage_errors(text, reason, data, tmp_path):
    (tmp_path / "wrong.toml").write_text(text)
    done = call("train", tmp_path / "wrong.toml", "--data", data, "--out", tmp_path / "runs")
    assert done.exit_code == 2 and reason in done.output
    assert not (tmp_path / "runs").exists()


def test_unknown_configuration_lists_the_bundled_ones(data):
    done = call("train", "nonsense", "--data", data)
    assert done.exit_code == 2
    assert all(name in done.output for name in ("smoke", "paper", "animals", "faces", "recipes/pure"))


def test_data_without_photos_is_a_usage_error(toy_config, tmp_path):
    done = call("train", toy_config, "--data", tmp_path, "--out", tmp_path / "runs")
    assert done.exit_code == 2 and "has no folders train/CLASS" in done.output


def test_kept_bytes_are_those_of_the_graph():
    """x @ W keeps x for the gradient of W, and W, which is the network's own."""
    layer = torch.nn.Linear(16, 4, bias=False)
    assert kept_bytes(lambda: layer(torch.zeros(8, 16)), layer) == 4 * 8 * 16
