import itertools

import pytest
import torch

from decomp.codes import LINES, codewords, coding_loss, decode, generate, normalised
from decomp.lab.coded.experiment import configured


def distances(code: torch.Tensor) -> list[int]:
    return [int((a != b).sum()) for a, b in itertools.combinations(code, 2)]


def test_lines_of_the_plane_serve_every_branch_equally():
    code = codewords(LINES)
    assert code.shape == (12, 9) and code.sum(dim=1).eq(3).all() and code.sum(dim=0).eq(4).all()
    assert min(distances(code)) == 4  # two lines share at most one point


@pytest.mark.parametrize("name", ["coded-cpu", "coded-gpu"])
def test_the_papers_codes_for_cifar(name):
    five, three = (codewords(stage.code) for stage in configured(name).stages if stage.code)
    for code, ones in ((five, 5), (three, 3)):
        assert code.sum(dim=1).eq(ones).all() and code.sum(dim=0).eq(ones).all() and min(distances(code)) == 4


@pytest.mark.parametrize("classes, branches, active, distance", [(10, 10, 5, 4), (10, 10, 3, 4), (100, 20, 4, 4)])
def test_generated_codes_are_far_apart_and_balanced(classes, branches, active, distance):
    code = codewords(generate(classes, branches, active, distance, tries=100))
    assert code.shape == (classes, branches) and code.sum(dim=1).eq(active).all()
    assert min(distances(code)) >= distance
    assert code.sum(dim=0).max() - code.sum(dim=0).min() <= 2


def test_impossible_codes_are_refused():
    with pytest.raises(ValueError, match="words of 2 ones among 4"):
        generate(10, 4, 2, 4)
    for bad in (("110", "011", "111"), ("110", "11"), ("12", "21"), ("00", "00"), ()):
        with pytest.raises(ValueError, match="codewords are"):
            codewords(bad)


def test_the_loss_is_zero_exactly_at_the_code_and_the_decoder_reads_it():
    code, labels = codewords(LINES), torch.arange(12)
    assert coding_loss(7 * code[labels], code, labels) < 1e-12  # any scale: energies are normalised
    assert torch.equal(decode(7 * code[labels], code), labels)
    uniform = torch.ones(12, 9)
    # r e - w is 1/3 for six branches and -2/3 for three
    assert coding_loss(uniform, code, labels) == pytest.approx((6 * (1 / 3) ** 4 + 3 * (2 / 3) ** 4) / 9)
    assert coding_loss(uniform, code, labels, exponent=2.0) == pytest.approx((6 / 9 + 3 * 4 / 9) / 9)
    assert torch.allclose(normalised(torch.rand(5, 9)).sum(dim=1), torch.tensor(9.0))


def test_descending_the_loss_moves_energy_to_the_class():
    code, labels = codewords(LINES), torch.tensor([0, 4, 11])
    log_energies = torch.zeros(3, 9, requires_grad=True)
    optimizer = torch.optim.Adam([log_energies], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        coding_loss(log_energies.exp(), code, labels).backward()
        optimizer.step()
    assert torch.equal(decode(log_energies.exp(), code), labels)
