"""Plain GAN training of a branched generator: photos in folders by class -> weights.

Data is laid out as AFHQ: `root/{train,val}/{domain}/*`. A run folder holds `state.pt` (to resume), `stats.jsonl`,
`samples/*.png`, and `model.safetensors` with `config.json` (the running average of the weights, for use).
"""

import json
import time
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from tqdm import tqdm

from . import measures, photos
from .config import ModelConfig
from .decomposition import to_bytes
from .discriminator import Discriminator
from .faces import crop, find_face
from .generator import BranchedGenerator, Output

R1_EVERY = 8  # steps; the penalty is multiplied by as much


@dataclass
class TrainConfig:
    """How a model is trained; the paper's own is a pure GAN, `fidelity = [[0, 0]]`."""

    images: int = 32_000  # length of the run, counted in photos shown
    batch: int = 8
    lr: float = 2e-4  # Adam, betas (0, 0.99), for both networks
    r1: float = 1.0  # gamma of the R1 penalty, applied every 8th step and times 8
    # two weights that change during training, as knots (images, weight) with straight lines between
    fidelity: tuple = ((0, 0.3),)  # L1(f(x, y), x) on same-class samples
    cancel: tuple = ((0, 0.0),)  # hinge on sum_k |v_k|^2 - |sum_k v_k|^2: branches may not cancel each other
    smooth: float = 0.4  # TV(R)/TV(x) is held below this by a hinge of weight 10; 0 turns the hinge off
    offset: float = 5.0  # weight of the penalty on each channel's mean colour, which would only cancel in the sum
    ema: int = 4_000  # half-life of the running average of the weights, in images; ramps up from zero
    critic_base: int = 16
    critic_cap: int = 128
    tick: int = 2_000  # images between two saves
    seed: int = 0

    def weight(self, name: str, images: int) -> float:
        """The scheduled weight "fidelity" or "cancel" after so many images."""
        return float(np.interp(images, *zip(*getattr(self, name))))


class Photos:
    """All photos of one split in memory as uint8, a quarter larger than the crop; domains sampled equally often."""

    def __init__(self, root: Path, split: str, domains: tuple[str, ...], size: int, limit: int | None = None):
        self.size = size
        kept = size * 5 // 4
        self.by_domain = []
        for domain in domains:
            files = photos.find(root / split / domain)[:limit]
            if not files:
                raise ValueError(f"{root / split / domain} holds no photos")
            stack = np.empty((len(files), kept, kept, 3), np.uint8)
            for i, file in enumerate(tqdm(files, f"{split}/{domain}", leave=False)):
                photo = photos.load(file)
                stack[i] = to_bytes(crop(photo, find_face(photo, "centre"), kept))
            self.by_domain.append(torch.from_numpy(stack).permute(0, 3, 1, 2))
        # StarGAN-v2's augmentation: half the time a random resized crop, always a random flip
        self.augment = v2.Compose([
            v2.RandomApply([v2.RandomResizedCrop(kept, scale=(0.8, 1), ratio=(0.9, 1.1))], p=0.5),
            v2.RandomHorizontalFlip(),
            v2.Resize(size),
        ])

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """n augmented photos (n, 3, size, size) in [-1, 1] and their classes (n,)."""
        labels = torch.randint(len(self.by_domain), (n,))
        chosen = [self.augment(self.by_domain[y][torch.randint(len(self.by_domain[y]), ())]) for y in labels]
        return torch.stack(chosen).float() / 127.5 - 1, labels

    def fixed(self, per_domain: int) -> tuple[Tensor, Tensor]:
        """The first photos of each domain, not augmented."""
        x = torch.cat([v2.functional.resize(stack[:per_domain], [self.size]) for stack in self.by_domain])
        return x.float() / 127.5 - 1, torch.arange(len(self.by_domain)).repeat_interleave(per_domain)


def r1_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Half the squared gradient of the discriminator at real photos (Mescheder et al., 2018)."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


def tv_ratio(residual: Tensor, x: Tensor) -> Tensor:
    """TV(R) / TV(x), mean over the batch."""
    return (measures.total_variation(residual) / measures.total_variation(x)).mean()


def cancellation(channels: Tensor) -> Tensor:
    """relu(sum_k |v_k|^2 - |sum_k v_k|^2), mean over photos and pixels: what the branches spend on undoing each other."""
    apart = channels.square().sum(dim=1).mean(dim=(1, 2, 3))
    together = channels.sum(dim=1).square().mean(dim=(1, 2, 3))
    return F.relu(apart - together).mean()


class Trainer:
    """One run: `Trainer(model_config, train_config, data, out).run(minutes)`; resumes from `out/state.pt` if there."""

    def __init__(self, model: ModelConfig, config: TrainConfig, data: Path, out: Path, device: str = "cpu"):
        self.config, self.out, self.device = config, out, device
        torch.manual_seed(config.seed)
        place = lambda module: module.to(device, memory_format=torch.channels_last)
        self.g = place(BranchedGenerator(model))
        self.d = place(Discriminator(model.size, len(model.domains), config.critic_base, config.critic_cap))
        self.average = deepcopy(self.g).requires_grad_(False)
        adam = lambda net: torch.optim.Adam(net.parameters(), lr=config.lr, betas=(0.0, 0.99), weight_decay=1e-4)
        self.opt_g, self.opt_d = adam(self.g), adam(self.d)
        self.images = self.steps = 0
        (out / "samples").mkdir(parents=True, exist_ok=True)
        (out / "options.json").write_text(json.dumps({"model": model.to_dict(), "training": asdict(config)}, indent=2))
        self.photos = Photos(data, "train", model.domains, model.size)
        self.held_out = Photos(data, "val", model.domains, model.size, limit=16)
        if (out / "state.pt").exists():
            self.load_state()

    def parts(self) -> dict:
        return {"g": self.g, "d": self.d, "average": self.average, "opt_g": self.opt_g, "opt_d": self.opt_d}

    def load_state(self) -> None:
        state = torch.load(self.out / "state.pt", map_location=self.device, weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        for group in self.opt_g.param_groups + self.opt_d.param_groups:
            group["lr"] = self.config.lr
        self.images, self.steps = state["images"], state["steps"]
        torch.set_rng_state(state["rng"].cpu())

    def save(self) -> None:
        state = {name: part.state_dict() for name, part in self.parts().items()}
        state |= {"images": self.images, "steps": self.steps, "rng": torch.get_rng_state()}
        torch.save(state, self.out / "state.tmp")
        (self.out / "state.tmp").replace(self.out / "state.pt")
        self.average.save_pretrained(self.out)

    def step(self) -> dict:
        """One update of both networks; the generator runs once and serves both."""
        x, y = self.photos.batch(self.config.batch)
        same = torch.arange(len(y)) % 2 == 0  # half of the batch keeps its class
        target = torch.where(same, y, torch.randint(len(self.photos.by_domain), y.shape))
        same = target == y
        x, y, target = (t.to(self.device) for t in (x, y, target))
        x = x.contiguous(memory_format=torch.channels_last)
        with self.low_precision():
            output = self.g(x, target)
        fake = output.image
        d_loss = self.update_discriminator(x, y, fake.detach(), target)

        self.d.requires_grad_(False)
        with self.low_precision():
            adversarial = F.softplus(-self.d(fake, target).float()).mean()
        self.d.requires_grad_(True)
        distance = (fake.float() - x).abs().mean(dim=(1, 2, 3))
        fidelity = distance[same.to(self.device)].sum() / max(1, int(same.sum()))
        cancelled = cancellation(output.channels.float())
        loss = adversarial + self.weight("fidelity") * fidelity + self.weight("cancel") * cancelled
        if self.config.smooth:
            loss = loss + 10 * F.relu(tv_ratio(output.residual.float(), x) - self.config.smooth)
        offset = output.channels.float().mean(dim=(3, 4)).square().sum(dim=(1, 2)).mean()
        loss = loss + self.config.offset * offset
        self.opt_g.zero_grad()
        loss.backward()
        self.opt_g.step()

        self.steps += 1
        self.images += len(x)
        half_life = min(self.config.ema, self.images * 0.1)
        with torch.no_grad():
            new = 1 - 0.5 ** (len(x) / half_life)
            torch._foreach_lerp_(list(self.average.parameters()), list(self.g.parameters()), new)
        losses = {"d": d_loss, "g": adversarial, "fidelity": fidelity, "cancelled": cancelled}
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def low_precision(self):
        return torch.autocast(self.device, torch.bfloat16)

    def weight(self, name: str) -> float:
        return self.config.weight(name, self.images)

    def update_discriminator(self, x: Tensor, y: Tensor, fake: Tensor, target: Tensor) -> Tensor:
        """One step of the non-saturating logistic loss with lazy R1; returns the loss without the penalty."""
        with self.low_precision():
            real_loss = F.softplus(-self.d(x, y).float()).mean()
            fake_loss = F.softplus(self.d(fake, target).float()).mean()
        loss = real_loss + fake_loss
        self.opt_d.zero_grad()
        loss.backward()
        if self.steps % R1_EVERY == 0:
            x = x.clone().requires_grad_()
            (R1_EVERY * self.config.r1 * r1_penalty(self.d(x, y), x)).backward()
        self.opt_d.step()
        return loss

    def run(self, minutes: float = float("inf")) -> None:
        """Train until `images` are shown or the time is over; saves at every tick and at the end."""
        end = time.monotonic() + 60 * minutes
        bar = tqdm(total=self.config.images, initial=self.images, unit="img", smoothing=0.05)
        recent, started = [], time.monotonic()
        while self.images < self.config.images and time.monotonic() < end:
            before = self.images // self.config.tick
            recent.append(self.step())
            bar.update(self.config.batch)
            if self.images // self.config.tick != before:
                self.tick(recent, time.monotonic() - started)
                recent, started = [], time.monotonic()
        self.tick(recent, time.monotonic() - started)

    @torch.no_grad()
    def tick(self, recent: list[dict], seconds: float) -> None:
        """Save, then measure and draw some validation photos."""
        if not recent:
            return
        self.save()
        x, y = (t.to(self.device) for t in self.held_out.fixed(8))
        output = self.average(x, y)
        stats = {"images": self.images, "fidelity_weight": self.weight("fidelity")}
        stats |= {name: sum(losses[name] for losses in recent) / len(recent) for name in recent[0]}
        stats |= {"images_per_second": len(recent) * self.config.batch / seconds}
        stats |= measures.summary(x.cpu(), Output(*(t.cpu() for t in output)))
        with (self.out / "stats.jsonl").open("a") as file:
            file.write(json.dumps(stats) + "\n")
        self.sample(x[::4], y[::4], Output(*(t[::4] for t in output)))

    def sample(self, x: Tensor, y: Tensor, output: Output) -> None:
        """A picture with one row per photo: x, f(x), f(x) of every class, R, the channels with contrast raised."""
        columns = [x, output.image]
        columns += [self.average(x, torch.full_like(y, d)).image for d in range(len(self.photos.by_domain))]
        energy = output.channels.square().mean(dim=(0, 2, 3, 4), keepdim=True).sqrt()[0]
        columns += [output.residual, *(output.channels / (4 * energy)).unbind(dim=1)]
        grid = torch.stack(columns, dim=1)  # (rows, columns, 3, h, w)
        picture = grid.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # (rows * h, columns * w, 3)
        Image.fromarray(to_bytes(picture.cpu().numpy())).save(self.out / "samples" / f"{self.images:07d}.png")
