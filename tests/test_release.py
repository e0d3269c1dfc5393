"""`decomp release`: a model folder out of a toy run, whose card cannot differ from its figures."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from decomp import pretrained
from decomp.channels import ChannelFacts
from decomp.classifier import DomainClassifier
from decomp.cli import app
from decomp.decomposer import load
from decomp.evaluation import release
from decomp.evaluation.evaluate import EvaluationError
from decomp.evaluation.release import BEGIN, END, from_run, model_card

slow = pytest.mark.slow  # a classifier is trained, and a model evaluated


@pytest.fixture(scope="module", autouse=True)
def quick_judges():
    def missing():
        raise pretrained.Unavailable("this judge is not installed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "efficientnet_lite0", missing)
        patch.setattr(pretrained, "lpips_vgg", lambda: lambda a, b: 0.25)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Crops of two photos, 16 of each class to train on, 3 to measure on."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for domain, photo in [("cat", skimage.data.cat()), ("dog", skimage.data.astronaut())]:
        for split, count in (("train", 16), ("val", 3)):
            (root / split / domain).mkdir(parents=True)
            for i in range(count):
                top, left = rng.integers(0, 200, 2)
                Image.fromarray(photo[top : top + 96, left : left + 96]).save(root / split / domain / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def run(untrained, tmp_path_factory):
    """A training run's folder: the generator alone."""
    folder = tmp_path_factory.mktemp("run")
    untrained.generator.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def released(run, data, tmp_path_factory, quick_judges):
    """A model folder as `decomp release` writes it; only read by the tests."""
    out = tmp_path_factory.mktemp("models") / "toy"
    result = call("release", run, "--data", data, "--out", out, "--epochs", 2)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def evaluated(released, monkeypatch):
    """Another release has the figures of that one, without being evaluated again."""
    figures = json.loads((released / "figures.json").read_text())
    of_this = {key: value for key, value in figures.items() if key not in ("weights", "sha256")}
    monkeypatch.setattr(release, "evaluate", lambda *_, **__: of_this)


@pytest.fixture
def own(released, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(released, tmp_path / "models" / "toy"))


def call(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


@slow
def test_release(released, toy):
    out = released
    assert {p.name for p in out.iterdir()} == {
        "model.safetensors",
        "config.json",
        "channels.json",
        "classes.safetensors",
        "figures.json",
        "README.md",
    }
    assert [p.name for p in out.parent.iterdir()] == ["toy"]  # nothing temporary is left
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644
    weights = load_file(out / "model.safetensors")
    assert {t.dtype for t in weights.values() if t.is_floating_point()} == {torch.float16}
    for name, parameter in toy.generator.state_dict().items():
        assert torch.allclose(weights[f"generator.{name}"].float(), parameter, atol=1e-2)
    figures = json.loads((out / "figures.json").read_text())
    assert figures["sha256"] == hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    assert figures["weights"] == "toy" and figures["photos"] == 6 and figures["lpips_vgg"] == 0.25
    model = load(out)
    assert len(model.facts.roles) == 3 and figures["channels"] == list(model.names)
    assert not model.names[0].startswith("channel")


@slow
def test_what_the_channels_were_asked_for_is_told(run, released, tmp_path):
    asked = ["rest fine", "eyes dark", "rest hue"]
    own = Path(shutil.copytree(run, tmp_path / "run"))
    for weight, told in ((0.0, ()), (6.0, tuple(asked))):
        options = {"training": {"asked": [[0, weight]], "asked_for": asked}}
        (own / "options.json").write_text(json.dumps(options))
        model = from_run(own)
        assert model.facts.asked_for == told
    model.facts.write(tmp_path)
    assert ChannelFacts.read(tmp_path) == model.facts
    figures = json.loads((released / "figures.json").read_text())
    assert "asked for" not in model_card(figures)
    card = model_card(figures | {"asked_for": asked})
    assert all(f"(asked for: {text})" in card for text in asked)


@slow
def test_the_classifier_is_trained_on_the_training_photos_of_each_class(run, data, tmp_path, evaluated, monkeypatch):
    given = []
    monkeypatch.setattr(release, "fit", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(release, "recognition", lambda *arguments: None)
    assert call("release", run, "--data", data, "--out", tmp_path / "toy", "--epochs", 7).exit_code == 0
    [(classifier, by_domain, epochs)] = given
    assert isinstance(classifier, DomainClassifier) and epochs == 7
    for domain, stack in zip(("cat", "dog"), by_domain):
        assert stack.dtype == torch.uint8 and stack.shape == (16, 3, 80, 80)
        files = sorted((data / "train" / domain).iterdir())
        colours = [np.asarray(Image.open(file)).mean(axis=(0, 1)) for file in files]
        assert np.allclose(stack.float().mean(dim=(2, 3)), colours, atol=1)


@slow
def test_without_epochs_the_classifier_is_kept(run, data, own, evaluated, tmp_path):
    refused = call("release", run, "--data", data, "--out", tmp_path / "toy", "--epochs", 0)
    assert refused.exit_code == 2 and "has no classifier to keep" in refused.output
    before = load(own).classifier.state_dict()
    assert call("release", run, "--data", data, "--out", own, "--epochs", 0).exit_code == 0
    after = load(own).classifier.state_dict()
    assert before and all(torch.equal(before[name], after[name]) for name in before)


@slow
def test_eyes_are_calibrated_on_the_training_photos_too(run, data, own, evaluated, tmp_path, monkeypatch):
    (tmp_path / "photos.json").write_text("[]")
    monkeypatch.setattr(release, "marked_eyes", lambda *_: None)
    asked = []
    monkeypatch.setattr(release.calibrate, "calibrate", lambda *args: asked.append(args[1:]) or (None, {"right": 1.0}))
    monkeypatch.setattr(release.calibrate, "write", lambda *_: None)
    result = call("release", run, "--data", data, "--out", own, "--epochs", 0, "--eyes", tmp_path)
    assert result.exit_code == 0, result.output
    assert asked == [(tmp_path, [data / "train" / "dog"], [data / "train" / "cat"])]
    assert json.loads((own / "figures.json").read_text())["found eyes"] == {"right": 1.0}


@slow
def test_prose_and_front_matter_are_kept_and_numbers_are_not(run, data, own, evaluated):
    card = own / "README.md"
    card.unlink()
    stated = ("--licence", "cc-by-nc-4.0", "--tag", "owls")
    call("release", run, "--data", data, "--out", card.parent, "--epochs", 0, *stated)
    text = card.read_text()
    assert text.startswith("---\nlicense: cc-by-nc-4.0\n") and "branch-specialization, owls]" in text
    assert "## Recipe" in text and "| LPIPS-VGG | 0.250 |" in text
    text = text.replace("cc-by-nc-4.0", "mit", 1).replace("0.250", "0.001")
    mine = f"{BEGIN}\n## Recipe\n\nby hand: 3 < 4 & \\1\n\n\nend\n{END}"
    text = re.sub(f"{BEGIN}.*{END}", lambda _: mine, text, flags=re.DOTALL)
    card.write_text(text)
    call("release", run, "--data", data, "--out", card.parent, "--epochs", 0)
    again = card.read_text()
    assert again.startswith("---\nlicense: mit\n") and "by hand: 3 < 4 & \\1" in again
    assert "| LPIPS-VGG | 0.250 |" in again and "0.001" not in again
    call("release", run, "--data", data, "--out", card.parent, "--epochs", 0)
    assert card.read_text() == again


@slow
def test_a_card_written_by_hand_altogether_is_left_alone(run, data, own, evaluated):
    (own / "README.md").write_text("# mine\n")
    assert call("release", run, "--data", data, "--out", own, "--epochs", 0).exit_code == 0
    assert (own / "README.md").read_text() == "# mine\n"


@slow
def test_every_number_of_the_card_is_a_figure(released):
    figures = json.loads((released / "figures.json").read_text())
    card = (released / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: decomp\n")  # no licence that nobody gave
    assert f"| PSNR | {figures['psnr']:.1f} dB | R alone: {figures['psnr_of_residual']:.1f} dB |" in card
    for k, name in enumerate(figures["channels"], start=1):
        assert f"| {k} | {name} | {figures['rms_channels'][k - 1]:.3f}" in card
    assert f"| dog | {figures['accuracy_of_pairs']['dog']['cat']:.0%} |" in card
    assert "Left out: this judge is not installed." in card and "\n\n\n" not in card
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\|\n)+", card, flags=re.MULTILINE)]
    assert len(tables) == 6, card
    assert all(len({row.count("|") for row in table}) == 1 and len(table) > 2 for table in tables), card


@slow
def test_a_release_that_fails_leaves_everything_as_it_was(run, data, own, monkeypatch):
    before = {p.name: p.read_bytes() for p in own.iterdir()}

    def broken(*_, **__):
        raise EvaluationError("broken on the way")

    monkeypatch.setattr(release, "evaluate", broken)
    result = call("release", run, "--data", data, "--out", own, "--epochs", 0)
    assert result.exit_code == 2 and "broken on the way" in result.output
    assert {p.name: p.read_bytes() for p in own.iterdir()} == before
    assert [p.name for p in own.parent.iterdir()] == ["toy"]


def test_what_is_wrong_shows_before_the_classifier_is_trained(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(DomainClassifier, "forward", None)
    for args, message in [
        ((data, "--data", data), "holds no config.json and no model.safetensors; accepted: the folder of a training"),
        ((run, "--data", tmp_path), "no such folder"),
        ((run, "--data", data, "--eyes", data), "crops.json: no such file"),
        ((run, "--data", data, "--against", "nothing"), "there is no model 'nothing'"),
        ((run, "--data", data, "--against", "faces"), "the second model has no class cat, dog"),
    ]:
        result = call("release", *args, "--out", tmp_path / "toy")
        assert result.exit_code == 2 and message in result.output, result.output
    assert not (tmp_path / "toy").exists()


def test_a_new_card_asks_for_its_prose():
    figures = {"weights": "new", "photos": 1, "domains": ["cat"], "size": 8, "left_out": [], "psnr": 20.0}
    figures |= {"channels": ["a"], "rms_channels": [0.1], "input_correlation": [0.2], "linear_share": [0.3]}
    card = model_card(figures)
    places = [card.index(part) for part in (BEGIN, "## Recipe", "## Limits", END, "## Figures")]
    assert places == sorted(places)
    assert model_card(figures, card) == card
