import dataclasses

import pytest
import torch

from decomp.codes import LINES
from decomp.config import ModelConfig
from decomp.gates import BranchGate, semhash
from decomp.generator import BranchedGenerator
from decomp.lab.generator import experiment

X = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
Y = torch.tensor([0, 1, 0, 1])


@pytest.fixture
def gated(config) -> BranchedGenerator:
    torch.manual_seed(0)
    model = BranchedGenerator(dataclasses.replace(config, gated=True))
    torch.nn.init.normal_(model.gate.select.weight, std=3)
    torch.nn.init.zeros_(model.gate.select.bias)
    return model.eval()


def test_a_closed_branch_puts_out_nothing_and_is_not_computed(gated):
    ran = []
    for k, branch in enumerate(gated.branches):
        branch.register_forward_hook(lambda _, args, out, k=k: ran.append((k, len(out))))
    with torch.no_grad():
        output = gated(X, Y)
        z = gated.gate(output.phi).bool()
    assert z.any() and not z.all()
    assert output.channels[~z].eq(0).all() and output.channels[z].flatten(1).ne(0).any(dim=1).all()
    assert dict(ran) == {k: int(column.sum()) for k, column in enumerate(z.T) if column.any()}


def test_open_branches_are_those_of_the_plain_generator(gated, config):
    plain = BranchedGenerator(config).eval()
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if not k.startswith("gate.")})
    with torch.no_grad():
        output, whole = gated(X, Y), plain(X, Y)
        z = gated.gate(output.phi).bool()
    assert torch.allclose(output.channels[z], whole.channels[z], atol=1e-5)
    assert torch.equal(output.residual, whole.residual)


def test_a_gate_learns_to_close(config):
    torch.manual_seed(0)
    gate, phi = BranchGate(3), torch.randn(8, 3, 3, 8, 8)
    assert gate.eval()(phi).eq(1).all()  # all are open in the beginning
    optimizer = torch.optim.Adam(gate.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        z = gate.train()(phi)
        # only the first branch is of use
        ((1 - z[:, 0]).square().mean() + 0.5 * gate.open_branches(phi)).backward()
        optimizer.step()
    assert gate.eval()(phi).mean(dim=0).tolist() == [1, 0, 0]


def test_gates_are_binary_in_use_and_differentiable_in_training():
    g = torch.tensor([[-2.0, -0.1, 0.1, 2.0]], requires_grad=True)
    assert semhash(g, training=False).tolist() == [[0, 0, 1, 1]]
    torch.manual_seed(0)
    z = semhash(g.expand(10_000, 4), training=True)
    binary = ((z - z.round()).abs() < 1e-6).float().mean(dim=0)
    # half is binary by design; the clamped sigmoid reaches 0 or 1 as well where g is far from 0
    assert binary.min() > 0.48
    assert torch.all(z.mean(dim=0).diff() > 0) and abs(z[:, 3].mean() - 0.92) < 0.05
    (gradient,) = torch.autograd.grad(z.sum(), g)
    assert gradient.gt(0).all()


def test_codes_of_a_model_are_checked():
    assert ModelConfig(codes=LINES[:3]).codes == LINES[:3]
    for bad in (LINES[:2], ("11", "10", "01"), ("111000000", "110000000", "000000111"), ("x" * 9,) * 3, ("0" * 9,) * 3):
        with pytest.raises(ValueError, match="codes is"):
            ModelConfig(codes=bad)


@pytest.mark.slow  # a whole experiment
def test_comparison_of_three_runs(config, data, tmp_path):
    torch.manual_seed(0)
    config = dataclasses.replace(config, domains=("cat", "person"))
    runs = {
        "plain": config,
        "coded": dataclasses.replace(config, codes=("100", "001")),
        "gated": dataclasses.replace(config, gated=True),
    }
    for name, one in runs.items():
        BranchedGenerator(one).save_pretrained(tmp_path / name)
        (tmp_path / name / "stats.jsonl").write_text('{"images": 16}\n')
    folders = [tmp_path / name for name in runs]
    told = experiment.run(*folders, data, tmp_path / "out", count=2)
    assert len(told.claims) == 7 and told.numbers["images"] == {"plain": 16, "coded": 16, "gated": 16}
    coded = told.numbers["coded"]
    assert 0 <= coded["own_share"] <= 1 and len(coded["usage"]) == 2
    assert told.numbers["gated"]["open"] == 3  # untrained gates are open
    with pytest.raises(ValueError, match="must have been trained with codes"):
        experiment.run(folders[0], folders[0], folders[2], data, tmp_path / "out")
    with pytest.raises(ValueError, match="holds no trained model"):
        experiment.run(tmp_path, folders[1], folders[2], data, tmp_path / "out")


def test_own_energies_are_told_from_others():
    output = experiment.Output(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 3, 4, 4), torch.zeros(2, 3, 3, 4, 4))
    output.channels[0, 0], output.channels[1, 2] = 0.5, 0.25
    x = output.image
    numbers = experiment.of_codes(output, x, torch.tensor([0, 1]), torch.tensor([[1.0, 0, 0], [0, 0, 1]]))
    assert numbers["own_share"] == pytest.approx(1) and numbers["decoded"] == 1
    assert numbers["psnr_own"] > 60 > numbers["psnr_others"] == pytest.approx(numbers["psnr_residual"])
