"""OpenVINO against torch, on real photos and the bundled weights; the cache of compiled networks."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import skimage
import torch
from typer.testing import CliRunner

import decomp
from decomp import runtime
from decomp.cli import app
from decomp.generator import BranchedGenerator
from decomp.runtime import OpenVINORuntime, Runtime, choose
from decomp.weights import bundled

openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of our own, kept over this file, as compiling takes seconds."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime.platformdirs, "user_cache_dir", lambda *args, **options: str(folder))
        yield folder / "openvino"


@pytest.fixture
def counted(toy, monkeypatch):
    """The toy model and the branches that it runs, in their order."""
    ran = []
    for k, branch in enumerate(toy.generator.branches):
        branch.register_forward_hook(lambda *_, k=k: ran.append(k))
    return toy, ran


@pytest.mark.slow  # OpenVINO compiles networks, here and below
@pytest.mark.parametrize("name", bundled())
def test_openvino_equals_torch_on_real_photos(name, cache):
    fast, plain = decomp.load(name, "openvino"), decomp.load(name, "torch")
    for photo in (skimage.data.cat(), skimage.data.astronaut()):
        for size in (plain.config.size, 150):
            for target in (None, {2: plain.config.domains[-1]}):
                a, b = (model.decompose(photo, target=target, size=size, keep_phi=True) for model in (fast, plain))
                assert np.abs(a.channels - b.channels).max() < 1e-4
                assert np.abs(a.phi - b.phi).max() < 1e-4 and np.abs(a.residual - b.residual).max() < 1e-4
    assert isinstance(fast.runtime.compiled.branches[0], runtime.CompiledBranch)  # and not torch after all


ROUGH = """
import decomp, skimage
models = [decomp.load("animals", "openvino", rough=rough) for rough in (True, False)]
a, b = (model.decompose(skimage.data.cat(), "cat").channels for model in models)
print(abs(a - b).max())
"""


@pytest.mark.slow
def test_rough_is_near_and_kept_apart(tmp_path):
    """Bfloat16 where the processor has it, else the same as ever; in a process and a cache of its own."""
    own = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ROUGH], env=own, capture_output=True, text=True, check=True)
    largest = float(done.stdout.split()[-1])
    has_it = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert 0 < largest < 0.05 if has_it else largest == 0


@pytest.mark.slow
def test_batches_and_a_class_per_branch(toy, cache):
    x = torch.rand(3, 3, 40, 52) * 2 - 1
    target = torch.randint(2, (3, 3))
    fast, plain = OpenVINORuntime(toy.generator, False), Runtime(toy.generator)
    for a, b in zip(fast(x, target), plain(x, target)):
        assert torch.allclose(a, b, atol=1e-4)
    assert torch.allclose(fast(x, target, [2, 0]).channels, plain(x, target).channels[:, [2, 0]], atol=1e-4)
    with ThreadPoolExecutor(4) as pool:
        for output in pool.map(lambda _: fast(x, target), range(8)):
            assert torch.allclose(output.channels, plain(x, target).channels, atol=1e-4)


@pytest.mark.slow
def test_turned_photos_run_in_torch(config, cache):
    torch.manual_seed(0)
    network = BranchedGenerator(replace(config, turns=1)).eval()
    for branch in network.branches:
        torch.nn.init.normal_(branch.turn.style.weight, std=3)
    x, source = torch.rand(3, 3, 32, 32) * 2 - 1, torch.tensor([0, 1, 0])
    target = torch.tensor([[0, 0, 0], [1, 0, 1], [1, 1, 1]])
    fast, plain = OpenVINORuntime(network, False), Runtime(network)
    a, b = (r(x, target, source=source).channels for r in (fast, plain))
    assert torch.allclose(a, b, atol=1e-4)
    assert not torch.allclose(b, plain(x, target).channels, atol=1e-3)


@pytest.mark.slow
def test_a_network_is_compiled_once(toy, cache, monkeypatch):
    x, target = torch.rand(1, 3, 32, 32), torch.zeros(1, 3, dtype=torch.long)
    expected = OpenVINORuntime(toy.generator, False)(x, target).channels

    def again(branch):
        raise AssertionError("converted again")

    monkeypatch.setattr(runtime, "converted", again)
    assert torch.equal(OpenVINORuntime(toy.generator, False)(x, target).channels, expected)
    with torch.no_grad():
        toy.generator.branches[0].to_rgb.bias += 1  # other weights are another network
    with pytest.raises(AssertionError, match="converted again"):
        OpenVINORuntime(toy.generator, False)(x, target)


@pytest.mark.slow
def test_a_damaged_cache_is_made_anew(toy, cache):
    x, target = torch.rand(1, 3, 32, 32), torch.zeros(1, 3, dtype=torch.long)
    expected = OpenVINORuntime(toy.generator, False)(x, target).channels
    newest = max(cache.iterdir(), key=os.path.getmtime)
    blob = newest / "branch-2.blob"
    whole = blob.read_bytes()
    blob.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match="branch 2 is damaged"):
        runtime.read(newest, 3)
    assert torch.equal(OpenVINORuntime(toy.generator, False)(x, target).channels, expected)
    assert len(runtime.read(newest, 3)) == 3
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


def test_processes_that_store_at_once_leave_one_whole_model(tmp_path):
    folder = tmp_path / "model"
    blobs = [[bytes([i]) * 100_000] * 3 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda own: runtime.store(folder, own), blobs))
    assert runtime.read(folder, 3) in blobs
    assert list(tmp_path.iterdir()) == [folder]


def test_the_cache_does_not_grow_for_ever(tmp_path):
    for k in range(runtime.KEPT + 3):
        runtime.store(tmp_path / f"model-{k}", [b"blob"])
        os.utime(tmp_path / f"model-{k}", (k, k))
        runtime.store(tmp_path / "used", [b"blob"])
    assert len(list(tmp_path.iterdir())) == runtime.KEPT
    assert (tmp_path / "used").is_dir() and not (tmp_path / "model-0").exists()


@pytest.mark.slow
def test_without_a_place_for_the_cache_it_runs_all_the_same(toy, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(runtime.platformdirs, "user_cache_dir", lambda *args, **options: str(tmp_path / "file"))
    x, target = torch.rand(1, 3, 32, 32), torch.zeros(1, 3, dtype=torch.long)
    fast = OpenVINORuntime(toy.generator, False)
    assert torch.allclose(fast(x, target).channels, Runtime(toy.generator)(x, target).channels, atol=1e-4)
    assert len(caplog.records) == 1 and "could not be kept" in caplog.text


def test_auto_falls_back_with_one_line(toy, monkeypatch, caplog):
    def broken(network, rough):
        raise RuntimeError("no such instruction\nand much more")

    monkeypatch.setattr(runtime, "compiled", broken)
    x, target = torch.rand(1, 3, 32, 32), torch.zeros(1, 3, dtype=torch.long)
    with caplog.at_level(logging.WARNING):
        fast = choose(toy.generator, "auto")
        assert torch.equal(fast(x, target).channels, Runtime(toy.generator)(x, target).channels)
        fast(x, target)
    assert [r.message for r in caplog.records] == [
        "decomp: OpenVINO failed, so torch runs the network: no such instruction"
    ]
    with pytest.raises(RuntimeError, match="no such instruction"):
        choose(toy.generator, "openvino")(x, target)


def test_where_openvino_is_not_installed(toy, monkeypatch):
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)
    assert type(choose(toy.generator, "auto")) is Runtime
    with pytest.raises(ValueError, match=r"decomp\[fast\]"):
        choose(toy.generator, "openvino")
    with pytest.raises(ValueError, match="auto, torch, openvino"):
        choose(toy.generator, "fastest")


def test_the_environment_names_the_runtime_where_nobody_does(toy, monkeypatch):
    monkeypatch.setenv(runtime.VARIABLE, "openvino")
    assert isinstance(choose(toy.generator), OpenVINORuntime)
    assert type(choose(toy.generator, "torch")) is Runtime


def test_options_for_all_commands(monkeypatch):
    monkeypatch.setenv("DECOMP_RUNTIME", "torch")  # so that it is put back at the end
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENCV_FOR_THREADS_NUM", "1")
    assert CliRunner().invoke(app, ["--threads", "3", "--runtime", "auto", "models"]).exit_code == 0
    assert (os.environ["DECOMP_RUNTIME"], os.environ["OMP_NUM_THREADS"]) == ("auto", "3")
    wrong = CliRunner().invoke(app, ["--runtime", "cuda", "models"])
    assert wrong.exit_code == 2 and "auto, torch, openvino" in wrong.output


@pytest.mark.parametrize("keep_phi", [True, False])
@pytest.mark.parametrize("size", [32, 34])  # a multiple of the stride, and not
def test_transfer_runs_only_the_branches_that_change(counted, cat, keep_phi, size):
    toy, ran = counted
    d = toy.decompose(cat, "cat", size=size, keep_phi=keep_phi)
    ran.clear()
    turned = toy.transfer(d, {2: "dog"})
    assert ran == [1] and turned.targets == ("cat", "dog", "cat")
    expected = toy.decompose(cat, "cat", {2: "dog"}, size=size)
    assert np.abs(turned.channels - expected.channels).max() < 1e-5
    assert np.abs(turned.regenerated - expected.regenerated).max() < 1e-5
    ran.clear()
    assert np.abs(toy.transfer(turned, None).channels - d.channels).max() < 1e-5
    assert ran == [1]
    ran.clear()
    assert toy.transfer(d, "cat").targets == d.targets and ran == []
