import math

import numpy as np
import pytest
import torch

from decomp.lab.factorization import disentanglement, experiment, sprites
from decomp.lab.factorization.method import FactorNetworks, bottleneck, information_bound, released_bound


def test_sprites_are_where_and_what_their_factors_say():
    factors = torch.zeros(3, 5, dtype=torch.long)
    factors[:, 0] = torch.arange(3)  # square, ellipse, heart at the upper left
    factors[:, 1] = 5
    pictures = sprites.render(factors, 64)
    assert pictures.shape == (3, 1, 64, 64) and pictures.min() == 0 and pictures.max() == 1
    rows = torch.arange(64.0)
    for picture, slack in zip(pictures[:, 0], (0.5, 0.5, 5)):  # most of a heart lies above its centre
        assert (picture.sum(dim=1) * rows).sum() / picture.sum() == pytest.approx(0.225 * 64 - 0.5, abs=slack)
    # areas on a 64-pixel grid of side 2: (2 h)^2 and pi h (h / 2), h = 0.4
    assert pictures[0].sum() == pytest.approx(0.64 * 32**2, rel=0.03)
    assert pictures[1].sum() == pytest.approx(math.pi * 0.08 * 32**2, rel=0.03)
    right, down = factors[:1].clone(), factors[:1].clone()
    right[:, 3], down[:, 4] = 15, 15
    assert torch.equal(sprites.render(right, 64)[0, 0].flip(1), pictures[0, 0])
    assert torch.equal(sprites.render(down, 64)[0, 0].flip(0), pictures[0, 0])


def test_every_value_of_every_factor_makes_another_picture():
    for k, count in enumerate(sprites.COUNTS):
        factors = torch.tensor([2, 3, 3, 7, 7]).repeat(count, 1)
        factors[:, k] = torch.arange(count)
        pictures = sprites.render(factors).flatten(1)
        apart = torch.cdist(pictures, pictures) + 100 * torch.eye(count)
        assert apart.min() > 0.5, list(sprites.FACTORS)[k]


def test_any_subset_of_task_networks_gives_the_same_answers():
    torch.manual_seed(0)
    model = FactorNetworks((8, 8), (4, 4), (3, 6, 2)).eval()
    x = torch.randn(5, 1, 16, 16)
    whole, some = model(x), model(x, [2, 0])
    assert torch.equal(some.logits[0], whole.logits[2]) and torch.equal(some.logits[1], whole.logits[0])
    assert whole.mean.shape == (5, 3, 10) and some.mean.shape == (5, 2, 10)
    assert experiment.recombination(model, x) == 0
    assert torch.equal(model(x).logits[0], whole.logits[0])  # no noise outside training
    assert not torch.equal(model.train()(x).logits[0], whole.logits[0])


def test_the_bound_finds_the_information_of_gaussians():
    """Two Gaussians of correlation rho have information -log(1 - rho^2) / 2; the best f is their log density ratio."""
    torch.manual_seed(0)
    rho, n = 0.8, 2000
    a = torch.randn(n, dtype=torch.float64)
    b = rho * a + math.sqrt(1 - rho**2) * torch.randn(n, dtype=torch.float64)
    u, v = a[:, None], b[None, :]
    f = -0.5 * math.log(1 - rho**2) - (rho**2 * (u**2 + v**2) - 2 * rho * u * v) / (2 * (1 - rho**2))
    assert information_bound(f) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.05)
    assert information_bound(f[torch.randperm(n)]) < 0.05  # pairs that do not belong together
    assert information_bound(f + 3) == pytest.approx(float(information_bound(f)))  # constants do not matter


def test_the_released_bound_nearly_ignores_the_positives():
    cosine = torch.eye(64) * 2 - 1
    better = information_bound(cosine) - information_bound(-torch.ones(64, 64))
    released = released_bound(cosine) - released_bound(-torch.ones(64, 64))
    assert better == pytest.approx(2) and 0 < released < 0.04


def test_the_bottleneck_is_the_divergence_from_a_standard_normal():
    mean, log_variance = torch.randn(7, 2, 3), torch.randn(7, 2, 3)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    assert torch.isclose(bottleneck(mean, log_variance, False), kl.sum() / 7)
    # as released, images far apart cost nothing as long as their batch looks normal
    far = torch.tensor([-1.0, 1.0]).repeat(500)[:, None, None]
    assert bottleneck(far, far * 0 - 20, True) < 0.01 < bottleneck(far, far * 0 - 20, False)


@pytest.mark.slow  # forests are fitted
def test_measures_of_disentanglement():
    factors = sprites.sample(1500, seed=0).numpy()
    rng = np.random.default_rng(0)
    own = factors + 0.01 * rng.normal(size=factors.shape)  # a feature for each factor
    mixed = (factors / factors.std(axis=0)) @ rng.normal(size=(5, 5))
    for measure in (disentanglement.mig, disentanglement.dci, disentanglement.sap):
        assert 0 <= measure(mixed, factors) < 0.5 * measure(own, factors) <= 0.5, measure.__name__
    assert disentanglement.mig(own, factors) > 0.9 and disentanglement.dci(own, factors) > 0.9
    assert disentanglement.factor_vae(lambda v: v.astype(float), sprites.COUNTS, votes=200) == 1
    shuffled = disentanglement.factor_vae(lambda v: rng.normal(size=(len(v), 5)), sprites.COUNTS, votes=400)
    assert shuffled < 0.45


def test_leakage_is_told_from_a_tasks_own_knowledge():
    factors = sprites.sample(600, seed=0)[:, [0, 1]]
    onehot = [torch.nn.functional.one_hot(factors[:, j], 6).float() for j in range(2)]
    clean = torch.stack([onehot[0], onehot[1]], dim=1)
    leaky = torch.stack([onehot[0] + onehot[1].roll(3, 1) / 7, onehot[1]], dim=1)
    told, mixed = experiment.leakage(clean, factors), experiment.leakage(leaky, factors)
    assert told[0][0] == told[1][1] == 1 and told[0][1] < 0.4
    assert mixed[0][1] > 0.6
    counts = (3, 6)
    assert experiment.leaked({"leakage": told}, counts) < 0.1 < experiment.leaked({"leakage": mixed}, counts)


def test_tasks_of_cifar_come_together_as_ten_classes():
    vehicles, animals = experiment.task_label(experiment.VEHICLES), experiment.task_label(experiment.ANIMALS)
    assert vehicles.tolist() == [0, 1, 4, 4, 4, 4, 4, 4, 2, 3] and animals.tolist() == [6, 6, 0, 1, 2, 3, 4, 5, 6, 6]
    logits = [torch.nn.functional.one_hot(labels).float() for labels in (vehicles, animals)]
    assert experiment.joint(logits).argmax(dim=1).tolist() == list(range(10))


@pytest.mark.parametrize("name", ["factorization-cpu", "factorization-quick", "factorization-gpu"])
def test_bundled_configurations(name):
    schedules = experiment.configured(name)
    assert all({"kd", "kf"} <= set(schedule.variants) for schedule in schedules.values())
