import pytest
import torch
from torch import nn

from decomp.codes import codewords
from decomp.lab.coded import experiment
from decomp.lab.coded.method import Block, CodedResNeXt, Stage, carve, dropped

CODE = ("1100", "0011", "1010")


def filled(module: nn.Module) -> nn.Module:
    """In evaluation mode, with batch statistics and weights that are not those of the start."""
    torch.manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return module.eval()


@pytest.fixture
def network() -> CodedResNeXt:
    torch.manual_seed(0)
    stages = (Stage(8, 2, 1, 1), Stage(12, 3, 2, 2, CODE))
    return filled(CodedResNeXt(4, stages, branches=4, classes=3))


def branch_outputs(block: Block, x: torch.Tensor) -> torch.Tensor:
    """t_n written out, (N, B, C, H, W): what the block never computes."""
    h = block.norm2(block.conv(block.norm1(block.reduce(x)).relu())).relu()
    parts = zip(h.chunk(block.branches, dim=1), block.expand.weight.chunk(block.branches, dim=1))
    return torch.stack([nn.functional.conv2d(h_n, w_n) for h_n, w_n in parts])


def test_energies_and_output_are_those_of_the_branches_written_out():
    torch.manual_seed(0)
    block, x = filled(Block(6, 10, 3, 4, 2, coded=True)), torch.randn(5, 6, 8, 8)
    t = branch_outputs(block, x)
    y, energies = block(x)
    assert torch.allclose(energies, t.square().mean(dim=(2, 3, 4)).mT, rtol=1e-4)
    assert y.shape == (5, 10, 4, 4)
    # equation 6, with the third branch removed before and the first one dropped after normalisation
    keep, drop = torch.tensor([[1.0, 1, 0, 1]] * 5), torch.tensor([[0.0, 2, 2, 2]] * 5)
    kept = t * keep.mT[:, :, None, None, None]
    scale = kept.square().mean(dim=(2, 3, 4)).mean(dim=0).rsqrt()  # (B,)
    summed = (kept * drop.mT[:, :, None, None, None]).sum(dim=0) * scale[:, None, None, None]
    expected = (block.skip(x) + block.norm3(summed)).relu()
    assert torch.allclose(block(x, keep, drop)[0], expected, atol=1e-4)


def test_a_carved_classifier_is_the_network_with_all_other_branches_removed(network):
    x = torch.randn(6, 3, 16, 16)
    for k in range(3):
        words = codewords(CODE)[k].expand(6, -1)
        whole = network(x, keep={1: words, 2: words}).logits[:, k]
        small = carve(network, k)
        assert torch.allclose(small(x)[:, 0], whole, atol=1e-5)
        assert sum(p.numel() for p in small.parameters()) < 0.75 * sum(p.numel() for p in network.parameters())


def test_dropping_zeroes_and_rescales_and_is_shared_by_blocks_of_a_code(network):
    rng = torch.Generator().manual_seed(0)
    mask = dropped(torch.empty(10_000, 4), 0.1, rng)
    assert mask.unique().tolist() == pytest.approx([0, 1 / 0.9]) and abs(mask.mean() - 1) < 0.02
    drawn = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, args: drawn.append(args[2]))
    network(torch.randn(2, 3, 16, 16), drop=0.5, rng=rng)
    assert drawn[0] is None and drawn[1] is drawn[2]


def test_plain_networks_normalise_nothing():
    stages = (Stage(8, 2, 1, 1, CODE),)
    plain = filled(CodedResNeXt(4, stages, 4, 3, normalise=False))
    block, x = plain.blocks[0], torch.randn(2, 4, 8, 8)
    assert torch.allclose(
        block(x)[0], (block.skip(x) + block.norm3(branch_outputs(block, x).sum(dim=0))).relu(), atol=1e-5
    )


def test_measures_on_known_answers():
    labels = torch.tensor([0, 1, 2, 0])
    logits = nn.functional.one_hot(torch.tensor([0, 1, 2, 1]), 3).float()
    said = torch.tensor([[0, 1, 0, 1], [0, 1, 2, 0]])
    agreement = experiment.agreement(said, logits, labels)
    assert agreement == {"1": {"accuracy": 0.5, "images": 2}, "2": {"accuracy": 1.0, "images": 2}}
    early = experiment.early(said, logits, labels, [0.4, 0.7])
    assert early["stopped"] == 0.5 and early["work"] == pytest.approx(0.85) and early["accuracy"] == 0.75
    score = torch.tensor([0.1, 0.4, 0.35, 0.8])
    threshold = experiment.best_threshold(score, torch.tensor([False, False, True, True]))
    assert experiment.binary(score, torch.tensor([False, False, True, True]), threshold)["recall"] == 1


def test_calibration_sharpens_what_is_always_right():
    labels = torch.arange(400) % 4
    logits = nn.functional.one_hot(labels, 4).float()
    errors = experiment.calibration(logits, labels.expand(2, -1), labels, splits=1)
    assert errors["temperature"]["ece"] < 10 and errors["decoders"]["ece"] <= errors["temperature"]["ece"] + 1e-3


def test_removal_and_work(network):
    from decomp.lab.cifar.images import Images

    images = Images(torch.randint(0, 256, (12, 16, 16, 3), dtype=torch.uint8), torch.arange(12) % 3)
    curves = experiment.removal(network, 1, images)
    assert len(curves["active"]) == 3 and len(curves["inactive"]) == 3  # none, one, two of two
    assert curves["active"][0] == curves["inactive"][0]
    shares = experiment.work_until(network, 16)
    assert len(shares) == 2 and 0 < shares[0] < shares[1] < 1
    assert experiment.last_blocks(network) == [2]
