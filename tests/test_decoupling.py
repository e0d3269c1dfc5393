import math

import pytest
import torch
from torch import nn

from decomp.lab.decoupling import experiment
from decomp.lab.decoupling.method import GatedResNet, losses, without_silent


@pytest.fixture
def network() -> GatedResNet:
    """Untrained, with batch statistics that are not those of the start and gates that vary."""
    torch.manual_seed(0)
    model = GatedResNet(2, 8)
    for conv in model.gated:
        nn.init.normal_(conv.select.bias, 0, 1.5)
        nn.init.normal_(conv.norm.bias)
        conv.norm.running_mean.normal_()
        conv.norm.running_var.uniform_(0.5, 2)
    return model.eval()


X = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_closed_filters_put_out_nothing(network):
    seen = []
    for conv in network.gated:
        conv.register_forward_hook(lambda _, args, out: seen.append(out))
    network(X)
    for y, gate in seen:
        assert y[gate.z == 0].eq(0).all() and y[gate.z == 1].ne(0).any()
        assert gate.z.unique().tolist() == [0, 1]


def test_deleting_silent_filters_leaves_the_logits_unchanged(network):
    logits, gates = network(X)
    on = [gate.z.any(dim=0) for gate in gates]
    small = without_silent(network, on)
    assert sum(int((~kept).sum()) for kept in on) > 20
    assert torch.allclose(small(X)[0], logits, atol=1e-5)
    assert sum(p.numel() for p in small.parameters()) < 0.6 * sum(p.numel() for p in network.parameters())


def test_a_layer_whose_filters_are_all_silent_keeps_one(network):
    nn.init.constant_(network.gated[3].select.bias, -100)
    logits, gates = network(X)
    small = without_silent(network, [gate.z.any(dim=0) for gate in gates])
    assert small.gated[3].conv.out_channels == 1
    assert torch.allclose(small(X)[0], logits, atol=1e-5)


def test_gathering_active_filters_gives_the_same_logits(network):
    whole, _ = network(X)
    gathered = torch.cat([network.gathered(x) for x in X.split(1)])
    assert torch.allclose(gathered, whole, atol=1e-5)


def test_open_gates_are_the_plain_network_and_can_be_closed_again(network):
    gated, _ = network(X)
    plain, gates = network.open()(X)
    assert all(gate.z.eq(1).all() for gate in gates) and not torch.allclose(plain, gated)
    assert torch.equal(network.open(False)(X)[0], gated)


def test_losses_by_hand(network):
    _, gates = network(X)
    labels, told = torch.arange(6), losses(gates, torch.arange(6))
    assert told["sparsity"] == sum(int(gate.z.sum()) for gate in gates) / 6
    by_hand = sum(nn.functional.cross_entropy(g.logits, labels) for g in gates)
    assert torch.isclose(told["mi"], by_hand)
    p, q = gates[0].z.softmax(dim=1), gates[0].response.softmax(dim=1)
    assert torch.isclose(losses(gates[:1], labels)["kl"], (p * (p / q).log()).mean(), atol=1e-6)
    same = [gate._replace(response=gate.z) for gate in gates]
    assert abs(losses(same, labels)["kl"]) < 1e-6


def test_work_counts_active_inputs_and_filters(network):
    network.open()
    every = [torch.ones(4, conv.conv.out_channels, dtype=torch.bool) for conv in network.gated]
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        x = network.stem(X[:1])
        before = counter.get_total_flops()
        for block in network.blocks:
            x = block.second.conv(block.first.conv(x))
        convolutions = (counter.get_total_flops() - before) / 2
    assert experiment.work(network, every, 16) == pytest.approx(convolutions)
    network.open(False)
    half = [torch.arange(one.shape[1]).expand(4, -1) % 2 == 0 for one in every]
    assert experiment.work(network, half, 16) < 0.5 * convolutions


def test_states_and_paths(network):
    z = [torch.tensor([[1, 0, 1], [1, 0, 0]], dtype=torch.bool)]
    assert experiment.states(z) == [{"on": 1, "silent": 1, "dynamic": 1, "filters": 3}]
    found = experiment.paths(network, X)
    assert found.flat.shape == (6, sum(conv.conv.out_channels for conv in network.gated))
    assert torch.allclose(found.logits, network(X)[0], atol=1e-6)
    labels = torch.arange(40) % 4
    z = nn.functional.one_hot(labels, 4).float()
    assert experiment.neighbours(z, labels) == 1


def test_an_attack_moves_every_pixel_by_epsilon_and_raises_the_loss(network):
    labels = network(X)[0].argmax(dim=1)
    moved = experiment.attacked(network, X, labels, 4 / 255)
    step = (moved - X).abs().amax(dim=(0, 2, 3)) * torch.tensor(experiment.STD)
    assert torch.allclose(step, torch.tensor(4 / 255), atol=1e-5)
    loss = lambda x: nn.functional.cross_entropy(network(x)[0], labels)
    assert loss(moved) > loss(X)


def test_odd_paths_are_told():
    labels = torch.arange(40) % 2
    logits = nn.functional.one_hot(labels, 2).float()
    path = nn.functional.one_hot(labels, 2).bool()
    clean = experiment.Paths(logits, [path])
    fooled = experiment.Paths(logits.flip(1), [path])  # the predicted class changes, the path stays the true class's
    assert experiment.odd_paths(clean, fooled, labels) == {"fooled": 1.0, "auc": 1.0}
    assert math.isnan(experiment.odd_paths(clean, clean, labels)["auc"])


@pytest.mark.parametrize("name", ["decoupling-cpu", "decoupling-gpu"])
def test_bundled_configurations(name):
    schedule = experiment.configured(name)
    assert len(schedule.settings()) == 6 and schedule.settings()["no-gate"] is None
    assert schedule.settings()[schedule.shown].mi == max(schedule.mi) and min(schedule.mi) == 0
