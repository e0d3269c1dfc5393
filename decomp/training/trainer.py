"""Plain GAN training of a branched generator: photos in folders by class -> weights.

A run folder holds `options.json` (read again when the run is resumed), `state.pt`, `compact/`, `stats.jsonl`,
`samples/`, `tensorboard/`, and `model.safetensors` with `config.json`: the running average of the weights, for use.
"""

import contextlib
import ctypes
import json
import signal
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from .. import metrics
from ..codes import codewords, coding_loss
from ..config import ModelConfig
from ..data.dataset import Photos, Turns
from ..generator import BranchedGenerator, Output
from ..pretrained import Unavailable, feature_maps
from . import checkpoint, losses
from .asked import asked, code_of
from .critics.discriminator import Discriminator, of_class
from .distributed import Processes
from .log import OPTIONS, Record
from .moments import light_and_energy

R1_EVERY = 8  # steps; the penalty is multiplied by as much
SCALE_EVERY = 2  # steps; the weight of the term `scale` is multiplied by as much
SHIFT = 4  # pixels; a twin is shifted by less than this, down and right: p sees patches of 4 pixels at most
SCALES = (0.5, 0.75)  # how small a photo is made for the term `scale`
SMOOTHNESS = 10.0  # weight of the hinge on TV(R)/TV(x)
Batch = list[tuple[Tensor, Tensor, Tensor]]  # (x, y, target) of each part of a batch
Schedule = tuple  # of knots (images, weight), with straight lines between


@dataclass
class TrainConfig:
    """How a model is trained; the defaults are the paper's pure GAN with the settings of StarGAN-v2."""

    images: int = 800_000  # length of the run, counted in photos shown
    batch: int = 8  # over all processes
    accumulate: int = 1  # parts that a batch is passed through the networks in, to save memory
    lr: float = 1e-4  # Adam, betas (0, 0.99), weight decay 1e-4, for both networks
    r1: float = 1.0  # gamma of the R1 penalty, applied every 8th step and times 8
    wrong: float = 0.0  # the critic also sees real photos of other classes as wrong, with this weight
    # weights of the generator's terms, see losses.py: a number, or knots (images, weight) with straight lines between
    fidelity: Schedule = ((0, 0.0),)  # L1(f(x, y), x) on same-class samples; with `turning` on all
    perceptual: Schedule = ((0, 0.0),)  # the same on feature maps of EfficientNet-Lite0
    cancel: Schedule = ((0, 0.0),)  # what each channel draws against the details it should be a part of
    overlap: Schedule = ((0, 0.0),)  # squared correlation between channels: what one shows another need not repeat
    offset: Schedule = ((0, 5.0),)  # each channel's mean colour, which would only cancel in the sum
    tint: Schedule = ((0, 0.0),)  # R's colours, averaged over a quarter of the side, against the photo's
    mirror: Schedule = ((0, 0.0),)  # channels of the mirrored, shifted photo; half of each batch is then such twins
    scale: Schedule = ((0, 0.0),)  # channels of a smaller photo, turned half the time, on a quarter of the batch
    exclusive: Schedule = ((0, 0.0),)  # how many channels speak at one place
    balance: Schedule = ((0, 0.0),)  # channels with hardly any energy, or hardly any in fine light and hue
    mesh: Schedule = ((0, 0.0),)  # a mesh of the size of the patches
    stamp: Schedule = ((0, 0.0),)  # what a channel draws into every photo
    coding: Schedule = ((0, 0.0),)  # the energy of a class lies in the branches of its codeword: model setting `codes`
    gates: Schedule = ((0, 0.0),)  # number of open branches: model setting `gated`
    asked: Schedule = ((0, 0.0),)  # what a channel carries beside `asked_for`
    asked_for: tuple[str, ...] = ()  # one text a channel, see asked.py
    smooth: float = 0.0  # TV(R)/TV(x) is held below this by a hinge; 0 turns the hinge off
    turning: bool = False  # only the turns learn (model setting `turns`), from samples of another class alone
    settled: int = 0  # images after which the diffusion is no longer trained, for faster steps; 0: always trained
    branch_dropout: float = 0.0  # share of the branches left out of a sample's sum, at random
    ema: int = 4_000  # half-life of the running average of the weights, in images; ramps up from zero
    critic_base: int = 16  # width of the discriminator's first layer, doubling up to the cap
    critic_cap: int = 128
    tick: int = 2_000  # images between two saves
    seed: int = 0
    bf16: bool = True  # bfloat16 autocast; the diffusion stays in float32
    memory: float = 4.0  # GiB of photos to hold in memory; a larger set is read from its files all the time

    def __post_init__(self):
        positive = ("images", "batch", "accumulate", "lr", "ema", "critic_base", "critic_cap", "tick", "memory")
        for name in positive:
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)!r}; accepted: a finite number above 0")
        if not 0 <= self.branch_dropout < 1:
            raise ValueError(f"branch_dropout is {self.branch_dropout}; accepted: 0 up to, but not 1")
        for name in SCHEDULES:
            knots = getattr(self, name)
            if (
                not knots
                or any(len(knot) != 2 for knot in knots)
                or sorted(k[0] for k in knots) != [k[0] for k in knots]
            ):
                raise ValueError(f"{name} is {knots!r}; accepted: [[images, weight], ...] with growing images")

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """From a TOML or JSON table; unknown keys raise a ValueError that names them."""
        kinds = {f.name: type(f.default) for f in fields(cls)}
        unknown = set(values) - set(kinds)
        if unknown:
            raise ValueError(f"unknown training settings {sorted(unknown)}; accepted: {list(kinds)}")
        return cls(**{name: _as(kinds[name], name, value) for name, value in values.items()})

    def weight(self, name: str, images: int) -> float:
        """The weight of the generator's term `name`, one of `SCHEDULES`, after so many images."""
        return float(np.interp(images, *zip(*getattr(self, name))))

    def uses(self, name: str) -> bool:
        """Whether the term `name` has a weight above 0 at any time."""
        return any(weight for _, weight in getattr(self, name))


SCHEDULES = tuple(f.name for f in fields(TrainConfig) if f.type is Schedule)


def _as(kind: type, name: str, value):
    """A table's value as the type of its setting: knots as tuples, a whole number as a float where one is meant."""
    if kind is tuple and name in SCHEDULES and isinstance(value, int | float):
        return ((0, float(value)),)
    if kind is tuple and isinstance(value, (list, tuple)):
        if all(isinstance(knot, (list, tuple)) for knot in value):
            return tuple(map(tuple, value))
        if all(isinstance(text, str) for text in value):
            return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}; accepted: {'knots' if kind is tuple else kind.__name__}")
    return value


def keep_memory() -> None:
    """Let this process keep the memory of freed tensors, where the C library is glibc.

    glibc gives each large block back to the system, which then fills every new one with zeros, page by page: a tenth
    of a training step.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block of its own for a large tensor
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give back


class Trainer:
    """One run: `Trainer(model_config, train_config, data, folder).run(minutes)`; resumes if `folder` holds a state.

    Args:
        data: root of {train,val}/{domain}/*.
        folder: of this run; made if it is missing.
        start: a `compact/` folder to begin from instead of random weights.
    Raises:
        ValueError: no photos, a batch that can't be divided, a checkpoint of another model, a term whose network is not
            installed.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: TrainConfig,
        data: Path,
        folder: Path,
        device: str = "cpu",
        start: Path | None = None,
        processes: Processes | None = None,
    ):
        self.config, self.folder = config, folder
        self.processes = processes or Processes(device)
        self.device, self.size = self.processes.device, model.size
        self.twins = config.uses("mirror")
        if self.device == "cpu":
            keep_memory()
        unit = (
            self.processes.count * config.accumulate * (2 if len(model.domains) > 1 else 1) * (2 if self.twins else 1)
        )
        if config.batch % unit:
            raise ValueError(f"batch is {config.batch}; with these processes and parts it must be a multiple of {unit}")

        needed = (("coding", "codes", config.uses("coding")), ("gates", "gated", config.uses("gates")))
        for term, setting, used in (*needed, ("turning", "turns", config.turning)):
            if used and not getattr(model, setting):
                raise ValueError(f"the training setting {term} needs the model setting {setting}, which is not set")
        if config.uses("asked") and len(config.asked_for) != model.branches:
            raise ValueError(f"asked_for has {len(config.asked_for)} texts; accepted: {model.branches}, one a channel")
        self.code = codewords(model.codes).to(self.device) if model.codes else None
        self.asked_for = code_of(config.asked_for).to(self.device) if config.uses("asked") else None
        torch.manual_seed(config.seed)
        place = lambda network: network.to(self.device, memory_format=torch.channels_last)
        self.g = place(BranchedGenerator(model))
        self.d = place(Discriminator(model.size, len(model.domains), config.critic_base, config.critic_cap))
        self.average = deepcopy(self.g).requires_grad_(False).eval()
        self.opt_g, self.opt_d = (
            torch.optim.Adam(network.parameters(), lr=config.lr, betas=(0.0, 0.99), weight_decay=1e-4)
            for network in (self.g, self.d)
        )
        self.networks = {"average": self.average, "generator": self.g, "discriminator": self.d}
        self.parts = self.networks | {"opt_g": self.opt_g, "opt_d": self.opt_d}
        if config.turning:
            self.g.requires_grad_(False)
            for branch in self.g.branches:
                branch.turn.requires_grad_(True)
        self.images = self.steps = 0
        if (folder / "state.pt").exists():
            self.images, self.steps = checkpoint.load_state(folder, self.parts, self.device)
            for group in self.opt_g.param_groups + self.opt_d.param_groups:
                group["lr"] = config.lr
        elif start:
            self.images = checkpoint.load_compact(start, self.networks)
            if config.turning:  # what stays as it is, is what will be used
                self.g.load_state_dict(self.average.state_dict())
        # what the passes go through: the same networks, averaging gradients over processes
        self.run_g, self.run_d = self.processes.wrap(self.g), self.processes.wrap(self.d)

        self.feature_maps = None
        if config.uses("perceptual"):
            try:
                self.feature_maps = feature_maps(self.device)
            except Unavailable as error:
                raise ValueError(f"the term perceptual cannot be had: {error}") from error
        margin = SHIFT - 1 if self.twins else 0
        self.photos = Photos(
            data, "train", model.domains, model.size, config.seed, config.memory, margin=margin, turned=config.turning
        )
        self.held_out = Photos(data, "val", model.domains, model.size, limit=16)
        if self.processes.first:
            folder.mkdir(parents=True, exist_ok=True)
            options = {"model": model.to_dict(), "training": asdict(config)}
            (folder / OPTIONS).write_text(json.dumps(options, indent=2) + "\n")
        self.stopping = False

    # one step

    def low_precision(self):
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.config.bf16)

    def weight(self, name: str) -> float:
        """The weight of a term in this step; `scale` is asked now and then, with as much more weight."""
        lazily = SCALE_EVERY * (self.steps % SCALE_EVERY == 0) if name == "scale" else 1
        return lazily * self.config.weight(name, self.images)

    def generate(
        self, x: Float[Tensor, "b 3 h w"], y: Int[Tensor, "b"], target: Int[Tensor, "b"]
    ) -> tuple[Output, Tensor]:
        """One pass of the generator; its output and f, in which branch dropout leaves some branches out."""
        with self.low_precision():
            output = self.run_g(x, target, source=y)
        # the terms are fastest where each colour is a plane; branches lay them out pixel by pixel
        output = Output(*(t.to(torch.float32, memory_format=torch.contiguous_format) for t in output))
        if not self.config.branch_dropout:
            return output, output.image
        kept = torch.rand(output.channels.shape[:2], device=x.device) >= self.config.branch_dropout
        return output, output.residual + (output.channels * kept[:, :, None, None, None]).sum(dim=1)

    def step(self, x: Float[Tensor, "b 3 s s"], y: Int[Tensor, "b"], target: Int[Tensor, "b"]) -> dict:
        """One update of both networks with this process's part of a batch; returns the losses."""
        self.draw(self.processes.rank)
        self.settle()
        x = x.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        y, target = y.to(self.device, non_blocking=True), target.to(self.device, non_blocking=True)
        n = self.config.accumulate
        batch = list(zip(x.chunk(n), y.chunk(n), target.chunk(n)))
        if self.twins:
            batch = [(losses.twins(x, self.shift, self.size), y.repeat(2), t.repeat(2)) for x, y, t in batch]
        # undivided, the generator runs once and serves both updates
        with torch.set_grad_enabled(n == 1):
            made = [self.generate(*part) for part in batch]
        found = self.update_discriminator(batch, [f.detach() for _, f in made])
        found |= self.update_generator(batch, made if n == 1 else [None] * n)
        self.steps += 1
        self.images += self.config.batch
        self.update_average()
        return found

    def settle(self) -> None:
        """From `settled` images on, R and phi have no gradient."""
        trains = any(p.requires_grad for p in self.g.split.parameters())
        if trains and 0 < self.config.settled <= self.images:
            self.g.split.requires_grad_(False)
            self.run_g = self.processes.wrap(self.g)  # or processes would wait for its gradients

    def draw(self, rank: int) -> None:
        """This step's random numbers, alike in all processes: the shift of twins, the size and turn of small photos."""
        seeds = np.random.SeedSequence([self.config.seed, self.steps]).generate_state(5 + rank)
        self.shift = int(seeds[0]) % SHIFT, int(seeds[1]) % SHIFT
        self.factor = SCALES[int(seeds[2]) % len(SCALES)]
        self.turn = int(seeds[3]) % 2  # quarter turns, so that channels do not part by the direction of strokes
        torch.manual_seed(int(seeds[4 + rank]))  # for branch dropout, differs from process to process

    def update_discriminator(self, batch: Batch, fakes: list[Tensor]) -> dict:
        """One step of the logistic loss with lazy R1; returns the loss without the penalty."""
        total = 0.0
        self.opt_d.zero_grad()
        for i, ((x, y, target), fake) in enumerate(zip(batch, fakes)):
            with self.averaging(self.run_d, i):
                with self.low_precision():
                    of_real, of_fake = self.run_d(torch.cat([x, fake])).float().chunk(2)
                real, made = of_class(of_real, y), of_class(of_fake, target)
                loss = F.softplus(-real).mean() + F.softplus(made).mean()
                wrong = self.config.wrong * losses.wrong_class(of_real, y)
                ((loss + wrong) / len(batch)).backward()
            total += loss.detach() / len(batch)
        if self.steps % R1_EVERY == 0:
            for i, (x, y, _) in enumerate(batch):
                with self.averaging(self.run_d, i):
                    x = x.clone().requires_grad_()
                    logits = self.run_d(x)
                    penalty = (
                        losses.r1_penalty(of_class(logits, y), x) + 0 * logits.sum()
                    )  # for biases, or processes wait for them
                    (R1_EVERY * self.config.r1 * penalty / len(batch)).backward()
        return {"d": total, "d_scrubbed": self.update(self.opt_d)}

    def update_generator(self, batch: Batch, made: list) -> dict:
        """One step of the non-saturating loss and the terms that the options ask for."""
        total, weights = {}, {"smooth": SMOOTHNESS} | {name: self.weight(name) for name in SCHEDULES}
        weights = {name: weight for name, weight in weights.items() if weight}
        self.opt_g.zero_grad()
        self.d.requires_grad_(False)
        for i, ((x, y, target), ready) in enumerate(zip(batch, made)):
            with self.averaging(self.run_g, i):
                output, f = ready or self.generate(x, y, target)
                with self.low_precision():
                    logits = self.d(f).float()
                terms = {"g": F.softplus(-of_class(logits, target)).mean()} | self.terms(x, y, target, output, f)
                loss = terms["g"] + sum(weights[name] * terms[name] for name in weights)
                (loss / len(batch)).backward()
            for name, term in terms.items():
                total[name] = total.get(name, 0.0) + term.detach() / len(batch)
        self.d.requires_grad_(True)
        return total | {"g_scrubbed": self.update(self.opt_g)}

    def terms(self, x: Tensor, y: Tensor, target: Tensor, output: Output, f: Tensor) -> dict[str, Tensor]:
        """The generator's terms beside the adversarial one, by the names of their weights.

        Those that cost time, or need twins, are only there where their weight is above 0 now.
        """
        v, same = output.channels, target == y
        held = same | self.config.turning  # samples that are held to the photo
        terms = {
            "smooth": losses.smoothness(output.residual, x, self.config.smooth or float("inf")),
            "fidelity": losses.fidelity(f, x, held),
            "overlap": losses.overlap(v),
            "offset": losses.offset(v, self.g.config.patch),
        }
        if self.weight("tint"):
            terms["tint"] = losses.tint(output.residual, x)
        if any(map(self.weight, ("cancel", "exclusive", "balance"))):
            moments = light_and_energy(v)
        if self.weight("cancel"):
            whole = torch.where(same[:, None, None, None], losses.details(x), v.sum(dim=1))
            terms["cancel"] = losses.cancellation(v, whole, moments)
        if self.weight("exclusive") or self.weight("balance"):
            bands = losses.bands(moments)
            terms |= {"exclusive": losses.exclusive(bands), "balance": losses.balance(bands)}
        if self.weight("stamp"):
            terms["stamp"] = losses.stamp(v.chunk(2)[0] if self.twins else v)
        if self.twins:
            terms["mirror"] = losses.twin(v, self.shift)
        if self.weight("asked"):
            terms["asked"] = asked(v, self.asked_for)
        if self.weight("mesh"):
            terms["mesh"] = losses.mesh(v)
        if self.weight("perceptual"):
            with self.low_precision():
                terms["perceptual"] = losses.perceptual(self.feature_maps, f, x, held)
        if self.weight("coding"):
            terms["coding"] = coding_loss(v.square().mean(dim=(2, 3, 4)), self.code, target)
        if self.weight("gates"):
            terms["gates"] = self.g.gate.open_branches(output.phi)
        if self.weight("scale"):
            few = max(1, len(x) // 4)
            small = metrics.smaller(x[:few], self.factor).rot90(self.turn, (2, 3))
            of_small = self.generate(small, y[:few], target[:few])[0].channels.rot90(-self.turn, (3, 4))
            terms["scale"] = losses.scale(v[:few], of_small)
        return terms

    def averaging(self, network: torch.nn.Module, part: int):
        """Gradients are averaged over processes once, at the last part of a batch."""
        last = part == self.config.accumulate - 1 or not hasattr(network, "no_sync")
        return torch.enable_grad() if last else network.no_sync()

    def update(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """Step, with NaN and infinite gradients set to 0; returns 1 if there were any, else 0."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        whole = torch.stack(torch._foreach_norm(gradients)).isfinite().all()
        for gradient in gradients:
            torch.nan_to_num_(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        optimizer.step()
        return 1 - whole.float()

    @torch.no_grad()
    def update_average(self) -> None:
        half_life = min(self.config.ema, self.images * 0.1)
        new = 1 - 0.5 ** (self.config.batch / half_life)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.g.parameters()), new)

    # the run

    def run(self, minutes: float = float("inf")) -> None:
        """Train until `images` are shown, the time is over, or Ctrl-C; saves at every tick and at the end."""
        end = time.monotonic() + 60 * minutes
        self.record = Record(self.folder, self.images) if self.processes.first else None
        views = 2 if self.twins else 1  # of each photo
        counts = (count // views for count in (self.images, self.config.images, self.config.batch))
        turns = Turns(*counts, self.processes.rank, self.processes.count)
        # photos in memory on a CPU are augmented in passing; else it takes workers to keep up
        workers = 0 if self.device == "cpu" and self.photos.in_memory else min(8, torch.get_num_threads())
        loader = DataLoader(self.photos, batch_sampler=turns, num_workers=workers, pin_memory=self.device != "cpu")
        handlers = {s: signal.signal(s, self.stop) for s in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(total=self.config.images, initial=self.images, unit="img", smoothing=0.05, disable=not self.record)
        recent, started = [], time.monotonic()
        try:
            for x, y, target in loader:
                before = self.images // self.config.tick
                recent.append(self.step(x, y, target))
                bar.update(self.config.batch)
                last = self.processes.any(self.stopping or time.monotonic() > end) or self.images >= self.config.images
                if last or self.images // self.config.tick != before:
                    self.tick(recent, time.monotonic() - started)
                    recent, started = [], time.monotonic()
                if last:
                    break
        finally:
            bar.close()
            for s, handler in handlers.items():
                signal.signal(s, handler)
            if self.record:
                self.record.close()

    def stop(self, *_) -> None:
        """Finish this step, save and end; a second Ctrl-C ends at once."""
        self.stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def tick(self, recent: list[dict], seconds: float) -> None:
        """Measure and draw some validation photos, then save; the state last, as a killed run goes on from it."""
        values = {name: [step[name] for step in recent if name in step] for step in recent for name in step}
        mean = self.processes.mean({name: float(sum(terms)) / len(terms) for name, terms in values.items()})
        if self.record:
            speed = {"images_per_second": len(recent) * self.config.batch / seconds}
            self.record.stats(self.images, {"fidelity_weight": self.weight("fidelity")} | mean | speed | self.look())
            checkpoint.save_compact(self.folder, self.networks, self.images)
            self.average.save_pretrained(self.folder)
            checkpoint.save_state(self.folder, self.parts, self.images, self.steps)

    @torch.no_grad()
    def look(self) -> dict:
        """Figures of re-generated validation photos, and a picture of some.

        The picture: x, f(x), f(x) of every class, R, the channels with contrast raised; one row a photo.
        """
        x, y = (t.to(self.device) for t in self.held_out.fixed(8))
        output = self.average(x, y)
        figures = metrics.summary(x.cpu(), Output(*(t.cpu() for t in output)))
        steady = metrics.steadiness(self.average, x, y, output.channels, ("mirror", "shift", "scale 75 %"))
        figures |= {f"steadiness, {name}": values.tolist() for name, values in steady.items()}
        figures["stamp share"] = metrics.stamp_share(output.channels).tolist()
        x, y, few = x[::4], y[::4], Output(*(t[::4] for t in output))
        columns = [x, few.image]
        columns += [self.average(x, torch.full_like(y, d), source=y).image for d in range(len(self.held_out.files))]
        energy = few.channels.square().mean(dim=(0, 2, 3, 4), keepdim=True).sqrt()[0].clamp_min(1e-6)
        columns += [few.residual, *(few.channels / (4 * energy)).unbind(dim=1)]
        self.record.sample(self.images, torch.stack(columns, dim=1))
        return figures
