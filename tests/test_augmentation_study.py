import dataclasses
import json

import numpy as np
import pytest
import torch

from decomp.decomposer import Decomposer
from decomp.lab.augmentation import experiment as study
from decomp.lab.augmentation.experiment import NONE, Arm, augmented, claims
from decomp.lab.augmentation.pool import SIDE, gather


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return Decomposer(dataclasses.replace(config, domains=("cat", "person"), face=()))


def test_layers_add_up_to_the_photos_and_are_kept(model, data, tmp_path):
    pool = gather(data, model, "abc", tmp_path, share=0.5, tuning=2)
    assert pool.layers.shape == (16, 5, 3, SIDE, SIDE) and sorted(pool.labels.tolist()) == 8 * [0] + 8 * [1]
    assert len(pool.tuning[1]) == 4 and len(pool.test[1]) == 32
    photos = torch.from_numpy(pool.layers.astype(np.float32)).sum(dim=1)
    assert photos.abs().max() < 1.02 and photos.std() > 0.2
    before = pool.layers.copy()
    (tmp_path / "layers.json").write_text((tmp_path / "layers.json").read_text().replace('"done": 16', '"done": 8'))
    assert np.array_equal(gather(data, model, "abc", tmp_path, 0.5, 2).layers, before)  # goes on from the middle
    with pytest.raises(ValueError, match="other photos or weights"):
        gather(data, model, "def", tmp_path, 0.5, 2)


def test_a_class_without_photos_is_named(config, data, tmp_path):
    model = Decomposer(dataclasses.replace(config, domains=("cat", "zebra"), face=()))
    with pytest.raises(ValueError, match="no photos of zebra"):
        gather(data, model, None, tmp_path, 0.5, 2)


def test_arms():
    layers = 0.2 * torch.randn(4, 5, 3, 8, 8)
    whole = layers.sum(dim=1)
    plain = augmented(layers, NONE, torch.Generator().manual_seed(0))
    for x, own in zip(plain, whole):
        assert torch.equal(x, own) or torch.equal(x, own.flip(2))
    still = augmented(layers, Arm("", spread={"channels": 0.0}), torch.Generator().manual_seed(0))
    assert still.shape == plain.shape and (still - whole).abs().min() < 1e-6
    for arm in (Arm("", jitter=(0.4, 0.05)), Arm("", spread={"channels": 0.5, "residual": 0.1})):
        x = augmented(layers, arm, torch.Generator().manual_seed(0))
        assert x.abs().max() <= 1.0001
        assert min((x - whole).abs().mean(), (x - whole.flip(3)).abs().mean()) > 1e-3


def test_the_rules_decide():
    accuracies = {"none": [0.5, 0.52, 0.51], "jitter": [0.6, 0.6, 0.61], "ours": [0.6, 0.62, 0.6]}
    test = {name: {share: own for share in study.EPOCHS} for name, own in accuracies.items()}  # noqa: C420
    assert [claim.held for claim in claims(test)] == [True, True]
    test["ours"] = {share: [0.5, 0.51, 0.53] for share in study.EPOCHS}
    assert [claim.held for claim in claims(test)] == [False, False]


@pytest.mark.slow
def test_whole_study_on_a_toy(model, data, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "model")
    for name, value in {"POOL": 0.5, "SMALL": 0.125, "TUNING": 4, "BATCH": 2, "EPOCHS": {0.125: 1, 0.5: 1}}.items():
        monkeypatch.setattr(study, name, value)
    found = study.run(str(tmp_path / "model"), data, tmp_path / "out")
    assert len(found.claims) == 2 and (tmp_path / "out" / "accuracy.png").is_file()
    runs = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert len(runs) == 9 + 2 * 3 + 3 * 3  # nine settings with the first seed; two more seeds; all seeds on many photos
    again = study.run(str(tmp_path / "model"), data, tmp_path / "out")
    assert again.numbers == found.numbers
