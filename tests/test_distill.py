import itertools
import math

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from decomp.lab import findings
from decomp.lab.cifar import images as cifar
from decomp.lab.cifar.classifier import accuracy, outputs
from decomp.lab.distill import alexnet, experiment, method


def grating(size: int, cycles: float, colour: tuple[float, float, float], angle: float = 0.0) -> torch.Tensor:
    """(3, size, size) cosine of so many cycles per pixel."""
    x = torch.arange(size).float()
    phase = x[None] * math.cos(angle) + x[:, None] * math.sin(angle)
    return torch.tensor(colour)[:, None, None] * torch.cos(2 * math.pi * cycles * phase)


def test_colour_selectivity_is_the_share_outside_grey():
    grey, opponent = (1.0, 1.0, 1.0), (1.0, -1.0, 0.0)
    filters = torch.stack([grating(9, 0.2, grey), grating(9, 0.2, opponent), grating(9, 0.2, (1.0, 0.0, 0.0))])
    assert torch.allclose(method.colour_selectivity(filters), torch.tensor([0.0, 1.0, 2 / 3]), atol=1e-6)
    noise = torch.randn(500, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    assert abs(method.colour_selectivity(5 * noise).mean() - 2 / 3) < 0.01


@pytest.mark.parametrize("cycles", [0.1, 0.2, 0.35])
@pytest.mark.parametrize("angle", [0.0, 0.8])
def test_frequency_of_a_grating_is_its_own(cycles, angle):
    filters = torch.stack([grating(31, cycles, (1.0, 1.0, 1.0), angle), grating(31, cycles, (1.0, -1.0, 0.0), angle)])
    assert torch.allclose(method.frequency(filters), torch.tensor(cycles), atol=0.025)


def test_absolute_weights_are_summed_over_positions_and_zero_between_branches():
    first, second = nn.Conv2d(3, 6, 7), nn.Conv2d(6, 4, 3, groups=2)
    strengths = method.absolute_weights(method.layers_of(first, second))
    assert strengths.shape == (4, 6)
    assert strengths[:2, 3:].eq(0).all() and strengths[2:, :3].eq(0).all()
    assert torch.isclose(strengths[3, 5], second.weight[3, 2].abs().sum())


def test_hidden_blocks_are_found_by_the_first_factor():
    rng = torch.Generator().manual_seed(0)
    group, side = torch.randperm(20, generator=rng) < 8, torch.randperm(30, generator=rng) < 15
    strengths = torch.rand(30, 20, generator=rng) + 2 * (side[:, None] == group)
    of_neurons, of_filters = method.factors(strengths)
    for vector, truth in ((of_neurons[:, 1], side), (of_filters[:, 1], group)):
        inside, outside = vector[truth], vector[~truth]
        assert inside.min() > outside.max() or inside.max() < outside.min()


def test_rank_correlation():
    a = torch.arange(20.0)
    rho, p = method.rank_correlation(a, -(a**3))
    assert rho == pytest.approx(-1) and p < 1e-3
    noise = torch.randn(20, generator=torch.Generator().manual_seed(1))
    assert method.rank_correlation(a, noise)[1] > 0.05


def test_split_probability_against_every_assignment():
    branch = torch.arange(8) // 4
    for colour in ([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0], [0] * 8, [1] * 8, [0, 0, 0, 0, 1, 1, 1, 1]):
        marked = torch.tensor(colour, dtype=torch.bool)
        uneven = abs(int(marked[:4].sum()) - sum(colour) / 2)
        places = list(itertools.combinations(range(8), sum(colour)))
        as_uneven = sum(abs(sum(i < 4 for i in chosen) - sum(colour) / 2) >= uneven for chosen in places)
        assert method.split_probability(marked, branch) == pytest.approx(as_uneven / len(places))


def test_split_probability_of_the_article():
    """All 9 detectors among the 32 of 256 neurons, less than 1 in 1e8; all 30 among 96 of 480, less than 1 in 1e20."""
    for total, places, marked, limit in ((256, 32, 9, 1e-8), (480, 96, 30, 1e-20)):
        branch, colour = torch.arange(total) // places, torch.arange(total) < marked
        assert 0 < method.split_probability(colour, branch) < limit


def specialised(seed: int = 0) -> method.Layers:
    """Two branches of 12 filters, the first all colour and slow, the second all grey and fast."""
    slow = [grating(9, 0.06, (1.0, -1.0, 0.0), i) for i in range(12)]
    fast = [grating(9, 0.3, (1.0, 1.0, 1.0), i) for i in range(12)]
    rng = torch.Generator().manual_seed(seed)
    return method.Layers(torch.stack(slow + fast), torch.randn(16, 12, 3, 3, generator=rng))


def test_a_clear_split_is_told_and_no_split_is_not():
    clear = method.figures_of(specialised())
    assert clear["colour_filters"] == [12, 0] and clear["p_split"] < 1e-6 and clear["p_ranks"]["colour"] < 1e-3
    assert clear["colour_frequency"]["rho"] < -0.8
    layers = specialised()
    mixed = method.figures_of(method.Layers(layers.first[torch.arange(24).view(2, 12).T.flatten()], layers.second))
    assert mixed["colour_filters"] == [6, 6] and mixed["p_split"] == 1
    for networks, held in (
        ({"a": clear}, [True, True]),
        ({"a": clear, "b": mixed}, [True, False]),
        ({"b": mixed}, [False] * 2),
    ):
        told = experiment.claims_of_split(networks, experiment.combine(networks))
        assert [c.held for c in told] == held


def test_layers_that_do_not_follow_each_other_are_refused():
    with pytest.raises(ValueError, match="not the first two layers"):
        method.layers_of(nn.Conv2d(3, 8, 7), nn.Conv2d(4, 8, 3))


def untrained(name: str) -> nn.Module:
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", experiment.PRETRAINED)
def test_pretrained_reads_a_file_of_weights(name, tmp_path):
    """Untrained networks: only that the layers are found, and that chance is not told as specialisation."""
    tensors = untrained(name).state_dict()
    file = tmp_path / ("weights.safetensors" if name == "googlenet" else "weights.pth")
    save_file(tensors, file) if name == "googlenet" else torch.save(tensors, file)
    found = experiment.run_pretrained(name, tmp_path / "out", file)
    measured = found.numbers["networks"][name]
    assert len(measured["colour"]) == 64 and found.title.endswith(file.name)
    assert "p_split" not in measured and not found.claims[0].held
    assert found == findings.read(tmp_path / "out")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "other.pth")
    save_file({"layer.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for file, match in (
        ("text.pth", "no file of weights"),
        ("text.safetensors", "no file of weights"),
        ("other.pth", "not torchvision's alexnet"),
        ("other.safetensors", "not torchvision's alexnet"),
    ):
        with pytest.raises(ValueError, match=match):
            experiment.run_pretrained("alexnet", tmp_path / "out", tmp_path / file)
    with pytest.raises(ValueError, match="accepted: alexnet, googlenet"):
        experiment.run_pretrained("vgg", tmp_path / "out", tmp_path / "other.pth")


@pytest.fixture
def images(tmp_path):
    """Forty pictures of two classes, told apart by their colour."""
    rng = torch.Generator().manual_seed(0)
    tensors = {}
    for split in ("train", "test"):
        labels = torch.arange(40) % 2
        pixels = torch.randint(0, 100, (40, 32, 32, 3), generator=rng)
        pixels[labels == 1, ..., 0] += 120
        tensors |= {split: pixels.to(torch.uint8), f"{split}_labels": labels.to(torch.uint8)}
    save_file(tensors, tmp_path / cifar.FILE)
    return tmp_path


def test_branches_do_not_see_each_other():
    network = alexnet.SmallAlexNet(2).eval()
    x = torch.randn(1, 3, 32, 32)
    before = network.second(network.first(x))
    with torch.no_grad():
        network.first.weight[24:] += 1  # of the second branch
    after = network.second(network.first(x))
    assert torch.equal(before[:, :48], after[:, :48]) and not torch.allclose(before[:, 48:], after[:, 48:])
    assert method.layers_of(network.first, network.second).branch.tolist() == [0] * 24 + [1] * 24


@pytest.mark.slow
def test_training_learns_is_a_function_of_the_seed_and_is_not_done_twice(images, tmp_path):
    train, test = cifar.load(images, True), cifar.load(images, False)
    schedule = alexnet.Schedule(images=600, batch=16)
    network, _ = alexnet.fit(2, train, schedule, tmp_path / "a.safetensors")
    assert accuracy(outputs(network, test), test.labels) > 0.9
    assert network.first.weight.abs().max() > 0.02  # it left its start
    same, _ = alexnet.fit(2, train, schedule, tmp_path / "b.safetensors")
    assert torch.equal(network.first.weight, same.first.weight)
    time = (tmp_path / "a.safetensors").stat().st_mtime_ns
    read, _ = alexnet.fit(2, train, schedule, tmp_path / "a.safetensors")
    assert torch.equal(network.first.weight, read.first.weight)
    assert (tmp_path / "a.safetensors").stat().st_mtime_ns == time
    with pytest.raises(ValueError, match="give another folder"):
        alexnet.fit(1, train, schedule, tmp_path / "a.safetensors")


@pytest.mark.slow
def test_run_tests_every_network_it_trains(images, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "PLAIN_SEEDS", (0,))
    found = experiment.run(images, tmp_path / "out", images=64, seeds=2)
    assert set(found.numbers["networks"]) == {"branched-0", "branched-1", "plain-0"}
    assert all((tmp_path / "out" / name).stat().st_size > 5000 for name in found.figures) and len(found.figures) == 4
    assert len(found.claims) == 5 and found == findings.read(tmp_path / "out")
    product = math.prod(found.numbers["networks"][f"branched-{i}"]["p_split"] for i in range(2))
    assert found.numbers["fisher_over_seeds"]["p_split"] == pytest.approx(product * (1 - math.log(product)))
