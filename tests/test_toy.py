import itertools
import json
import math

import pytest
import torch
from torch import nn

from decomp.lab import findings
from decomp.lab.branched import Branched
from decomp.lab.specialization import toy, toy_experiment


class Unit(nn.Module):
    """One unit as anybody would write it."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x):
        return nn.functional.leaky_relu(self.line(x))


def descend(module, x, y, steps, rate):
    for _ in range(steps):
        loss = (module(x[:, None])[:, 0] - y).square().sum()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        with torch.no_grad():
            for p, g in zip(module.parameters(), gradients):
                p -= rate * g
    return torch.stack(
        [
            torch.cat([m.line.weight.detach()[0] for m in module.members]),
            torch.cat([m.line.bias.detach() for m in module.members]),
        ]
    )


@pytest.mark.parametrize("problem", toy.TOYS, ids=lambda t: t.name)
@pytest.mark.parametrize("m", [2, 4])
def test_training_is_gradient_descent_on_a_plain_sum_of_units(problem, m):
    torch.manual_seed(m)
    module = Branched(Unit, m)
    start = torch.stack(
        [
            torch.cat([u.line.weight.detach()[0] for u in module.members]),
            torch.cat([u.line.bias.detach() for u in module.members]),
        ]
    )
    x, y = toy.points(problem)
    expected = descend(module, x, y, toy.EVERY, toy.RATE / m)
    # A second, larger m in the same call: padding must change nothing.
    trained, _ = toy.train(problem, [start[None].clone(), toy.starts("uniform", m + 3, 2, 0)], steps=toy.EVERY)
    assert torch.allclose(trained.end[0], expected, atol=1e-5)
    assert torch.allclose(trained.error[0], toy.squared_error(expected, x, y), atol=1e-5)
    assert torch.allclose(toy.trace(problem, start, toy.EVERY)[-1], expected, atol=1e-5)


@pytest.mark.parametrize("problem", toy.TOYS, ids=lambda t: t.name)
@pytest.mark.parametrize("slope", [0.01, 0.3])
def test_two_units_fit_exactly_and_one_can_not(problem, slope):
    x, y = toy.points(problem)
    assert toy.squared_error(toy.exact(problem, slope), x, y, slope) < 1e-12
    grid = torch.linspace(-3, 3, 121)
    one = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), dim=-1).reshape(-1, 2, 1)
    assert toy.squared_error(one, x, y, slope).min() > 0.1


def test_a_run_that_starts_at_a_solution_stays_and_succeeds():
    (trained,) = toy.train(toy.TOY2, [toy.exact(toy.TOY2)[None]])
    assert trained.success.all() and trained.steps.tolist() == [toy.EVERY]


def test_success_is_the_sum_of_squared_errors_below_the_limit_and_failures_are_kept():
    (trained,) = toy.train(toy.TOY1, [toy.starts("uniform", 2, 60, 0)], steps=1000)
    x, y = toy.points(toy.TOY1)
    f = torch.where((z := trained.end[:, 0, :, None] * x + trained.end[:, 1, :, None]) > 0, z, 0.01 * z).sum(dim=1)
    errors = (f - y).square().sum(dim=1)
    assert torch.equal(trained.success, errors < 1e-4)
    assert 0.3 < trained.success.float().mean() < 0.9
    assert torch.allclose(errors[~trained.success], torch.tensor(0.25), atol=1e-3)  # the best straight line's
    measured = toy.figures_of(toy.TOY1, trained)
    assert measured["failed_straight"] == 1 and measured["active"] == 2
    assert measured["correlation"] < 0.1 < measured["correlation_strangers"]
    assert toy.sides(trained, toy.TOY1) == 1


def test_starts_are_a_function_of_the_seed():
    assert torch.equal(toy.starts("normal", 3, 5, 1), toy.starts("normal", 3, 5, 1))
    assert not torch.equal(toy.starts("normal", 3, 5, 1), toy.starts("normal", 3, 5, 2))
    assert toy.starts("uniform", 30, 50, 0).abs().max() <= 1 < toy.starts("normal", 30, 50, 0).abs().max()


def test_mean_of_pairs_counts_each_pair_of_different_chosen_units():
    values = torch.arange(9.0).view(1, 3, 3).expand(2, 3, 3)
    chosen = torch.tensor([[True, False, True], [False, True, False]])  # the second run has no pair
    assert toy.mean_of_pairs(values, chosen) == (2 + 6) / 2
    assert math.isnan(toy.mean_of_pairs(values[:1], torch.zeros(1, 3, dtype=torch.bool)))


def test_strangers_never_come_from_one_run():
    f = torch.arange(6.0)[:, None, None].expand(6, 4, 1)  # every row holds the number of its run
    for row in toy.strangers(f)[:, :, 0]:
        assert all(a != b for a, b in itertools.combinations(row.tolist(), 2))


def test_a_failed_claim_is_told_as_not_held():
    good = {"success": 1.0, "active": 4.0, "covariance": 0.1, "covariance_at_start": 0.3, "covariance_strangers": 0.2}
    measured = {m: good | {"success": min(1, m / 10)} for m in toy_experiment.SHOWN}
    choices = {"normal, slope 0.01": measured}
    assert all(c.held for c in toy_experiment.claims_of(toy.TOY1, measured, choices, 1.0))
    measured[20] = measured[20] | {"success": 0.9, "covariance_strangers": 0.05}
    measured[30] = measured[30] | {"active": 6.0}
    claims = toy_experiment.claims_of(toy.TOY1, measured, choices, 0.5)
    assert not any(c.held for c in claims) and len(claims) == 5


@pytest.mark.slow
def test_run_leaves_numbers_for_every_m(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_experiment, "COUNTS", (2, 5, 10))
    monkeypatch.setattr(toy_experiment, "SHOWN", (2, 5, 10))
    chosen = {name: toy_experiment.CHOICES[name] for name in ("uniform, slope 0.01", "normal, slope 0.01")}
    monkeypatch.setattr(toy_experiment, "CHOICES", chosen)
    monkeypatch.setattr(toy_experiment, "STEPS", 400)
    toy_experiment.run(tmp_path, runs=12, seed=3)
    read = findings.read(tmp_path)
    assert all((tmp_path / name).stat().st_size > 5000 for name in read.figures) and len(read.figures) == 6
    numbers = json.loads((tmp_path / "findings.json").read_text())["numbers"]
    assert set(numbers["by_m"]["Toy2"]) == {"2", "5", "10"}
    assert all(
        {"success", "active", "correlation", "correlation_at_start"} <= set(v) for v in numbers["by_m"]["Toy1"].values()
    )
    assert len(read.claims) == 10


def test_the_limit_of_success():
    theta = torch.zeros(3, 2, 1)
    trained = toy.Trained(theta, theta, torch.tensor([0.0, 0.99e-4, 1.01e-4]), torch.zeros(3, dtype=torch.int64))
    assert trained.success.tolist() == [True, True, False]
