"""The three experiments of other papers at toy size, from the command line to the page."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from decomp.cli import app
from decomp.lab import findings
from decomp.lab.coded import experiment as coded
from decomp.lab.resume import train

CODED = """
size = 16
stem = 4
branches = 4
epochs = 2
batch = 50
lr = 0.1
warm_up = 0.2
weight_decay = 5e-4
train = 200
test = 300
seeds = 1
variants = ["coded", "plain", "no-drop", "exponent-2"]
[[stages]]
out = 8
width = 2
blocks = 1
stride = 1
[[stages]]
out = 8
width = 2
blocks = 2
stride = 2
code = ["1100", "0011", "1010", "0101", "1001", "0110", "1100", "0011", "1010", "0101"]
"""
DECOUPLING = """
size = 16
blocks = 1
width = 8
batch = 50
epochs = 1
lr = 0.1
gated_epochs = 1
gated_lr = 0.05
controller_lr = 0.5
weight_decay = 1e-4
train = 200
test = 200
seeds = 1
mi = [0.0, 0.5]
sparsity = [0.01, 0.1]
"""
FACTORIZATION = """
[sprites]
size = 32
teacher = [8, 8, 8, 8]
common = [8, 8]
specific = [4, 4]
teacher_epochs = 1
epochs = 1
batch = 50
lr = 2e-3
train = 200
test = 200
seeds = 1
variants = ["kd", "kf", "kf-beta-0", "kf-beta-0.1", "kf-alpha-0", "kf-as-released"]
[cifar]
size = 16
teacher = [8, 8, 8]
common = [8, 8]
specific = [4, 4]
teacher_epochs = 1
epochs = 1
batch = 50
lr = 2e-3
train = 200
test = 200
seeds = 1
variants = ["kd", "kf"]
"""
PAPERS = [("coded", CODED, 11), ("decouple", DECOUPLING, 9), ("factorize", FACTORIZATION, 7)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
@pytest.mark.parametrize("name, config, claims", PAPERS)
def test_a_papers_experiment_from_data_to_page(name, config, claims, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(coded, "CLOSE", 100)
    (tmp_path / "tiny.toml").write_text(config)
    out = tmp_path / "lab"
    call = ["lab", name, "--data", str(tiny), "--config", str(tmp_path / "tiny.toml"), "--out", str(out)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, (done.output, done.exception)
    told = findings.read(out / name)
    assert len(told.claims) == claims and all(claim.paper and claim.rule for claim in told.claims)
    for figure in told.figures:
        with Image.open(out / name / figure) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    networks = {file: file.stat().st_mtime_ns for file in out.rglob("*.pt")}
    again = CliRunner().invoke(app, call)
    assert again.exit_code == 0 and {file: file.stat().st_mtime_ns for file in out.rglob("*.pt")} == networks
    known, repeated = told.numbers, findings.read(out / name).numbers
    if name != "decouple":  # its times differ
        known, repeated = ({k: v for k, v in n.items() if k != "carving"} for n in (known, repeated))
        assert known == repeated
    page = CliRunner().invoke(app, ["lab", "report", "--out", str(out)])
    text = (out / "report.html").read_text()
    assert page.exit_code == 0 and told.claims[0].rule.split(";")[0] in text
    longer = config.replace("epochs = 1", "epochs = 2").replace("epochs = 2", "epochs = 3")
    (tmp_path / "tiny.toml").write_text(longer)
    other = CliRunner().invoke(app, call)
    assert other.exit_code == 2 and "give another --out" in other.output


def test_wrong_configurations_end_with_one_sentence(tiny, tmp_path):
    (tmp_path / "bad.toml").write_text("size = 16\n")
    for name, config, words in (
        ("coded", "none", "none is no configuration; accepted: coded-cpu"),
        ("decouple", str(tmp_path / "bad.toml"), "needed: size, blocks, width"),
        ("factorize", str(tmp_path / "bad.toml"), "needed: [sprites], and [cifar] if wanted, with size"),
    ):
        done = CliRunner().invoke(app, ["lab", name, "--data", str(tiny), "--config", config, "--out", str(tmp_path)])
        assert done.exit_code == 2 and words in done.output.replace("\n", " "), done.output


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path):
    def trained(file, stop: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters(), 0.1)

        def one_epoch(epoch: int) -> None:
            if epoch == stop:
                raise KeyboardInterrupt
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(epoch))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

        train(file, {"lr": 0.1}, {"model": model, "optimizer": optimizer}, 5, one_epoch)
        return model.weight

    whole = trained(tmp_path / "whole.pt", None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts.pt", 3)
    assert torch.equal(trained(tmp_path / "parts.pt", None), whole)
    with pytest.raises(ValueError, match="give another --out"):
        train(tmp_path / "parts.pt", {"lr": 0.2}, {}, 5, lambda epoch: None)
