"""Real classes at toy sizes, real photos that ship with scikit-image, and tensor shapes checked at every call."""

import gc
import os
from copy import deepcopy
from pathlib import Path

from jaxtyping import install_import_hook

TENSOR_CODE = (
    "classifier",
    "codes",
    "data.dataset",
    "diffusion",
    "evaluation.roles",
    "gates",
    "generator",
    "metrics",
    "runtime",
)
TENSOR_CODE += tuple(
    f"training.{name}" for name in ("asked", "classifier", "critics.discriminator", "losses", "trainer")
)
LAB = (
    "cifar.classifier",
    "cifar.resnet",
    "coded.method",
    "decoupling.method",
    "distill.alexnet",
    "distill.method",
    "distill.figures",
    "factorization.method",
    "factorization.sprites",
    "hessian",
    "measures",
)
LAB += tuple(f"specialization.{name}" for name in ("classification", "classification_figures", "toy", "toy_figures"))
TENSOR_CODE += tuple(f"lab.{name}" for name in LAB)
install_import_hook([f"decomp.{name}" for name in TENSOR_CODE], "beartype.beartype")

os.environ.setdefault("DECOMP_RUNTIME", "torch")  # nothing is compiled that a test does not ask for

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from safetensors.torch import save_file

from decomp.config import ModelConfig
from decomp.decomposer import Decomposer, cached
from decomp.lab.cifar import images as cifar


def pytest_collection_finish():
    """The garbage collector need not walk through all that was imported again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    return ModelConfig(domains=("cat", "dog"), size=32, branches=3, base=4, cap=8, downs=2, style=8, sigma=1.0)


@pytest.fixture(scope="session")
def untrained(config) -> Decomposer:
    """An untrained model; its outputs are made visible, since training starts at f = R. Only read by the tests."""
    torch.manual_seed(0)
    model = Decomposer(config)
    for branch in model.generator.branches:
        torch.nn.init.normal_(branch.style.weight, std=3)
    return model


@pytest.fixture
def toy(untrained) -> Decomposer:
    """A copy of it, which a test may change."""
    torch.manual_seed(0)
    return deepcopy(untrained)


@pytest.fixture(scope="session")
def saved(untrained, tmp_path_factory) -> Path:
    """Its folder, which commands load once. Only read by the tests."""
    folder = tmp_path_factory.mktemp("models") / "toy"
    untrained.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def animals() -> Decomposer:
    """The bundled model, loaded once. Only read by the tests."""
    return cached("animals")


@pytest.fixture(scope="session")
def faces() -> Decomposer:
    """The bundled model, loaded once. Only read by the tests."""
    return cached("faces")


@pytest.fixture(scope="session")
def cat():
    return skimage.data.cat()  # (300, 451, 3) uint8


@pytest.fixture(scope="session")
def folder(tmp_path_factory, cat):
    """Photos in a tree, with one stem in two formats and one file that is no photo."""
    root = tmp_path_factory.mktemp("photos")
    (root / "sub").mkdir()
    Image.fromarray(cat).save(root / "cat.png")
    Image.fromarray(cat).save(root / "cat.jpg")
    Image.fromarray(skimage.data.astronaut()).save(root / "sub" / "cat.jpg")
    (root / "broken.jpg").write_text("this is not a photo")
    return root


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A data set of two classes, crops of two photos: {train,val}/{cat,person}/*.jpg."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for domain, photo in [("cat", skimage.data.cat()), ("person", skimage.data.astronaut())]:
        for split in ("train", "val"):
            (root / split / domain).mkdir(parents=True)
            for i in range(16):
                top, left = rng.integers(0, 200, 2)
                Image.fromarray(photo[top : top + 96, left : left + 96]).save(root / split / domain / f"{i}.jpg")
    return root


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder like that of `decomp lab cifar10`: bright and dark noise, the class being the brightness."""
    root = tmp_path_factory.mktemp("cifar")
    rng = np.random.default_rng(0)
    tensors = {}
    for split, count in (("train", 200), ("test", 2000)):
        labels = np.arange(count) % 10
        noise = rng.integers(0, 30, (count, 32, 32, 3)) + labels[:, None, None, None] * 22
        tensors |= {
            split: torch.tensor(noise, dtype=torch.uint8),
            f"{split}_labels": torch.tensor(labels, dtype=torch.uint8),
        }
    save_file(tensors, root / cifar.FILE)
    return root
