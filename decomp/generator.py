"""Second step of the walk: M slim branches turn the phi_k into channels v_k, and f = R + sum v_k.

The branch is a narrow StarGAN-v2 generator (Choi et al., 2020) whose style is a function of the class alone.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .config import ModelConfig
from .diffusion import Conv3x3, build_split
from .gates import BranchGate

TAGS = ("image-decomposition", "branch-specialization")
HUB = {  # how models are shared: `save_pretrained`, `from_pretrained`, `push_to_hub`
    "library_name": "decomp",
    "tags": list(TAGS),  # the hub client adds its own
    "coders": {ModelConfig: (lambda config: config.to_dict(), ModelConfig.from_dict)},
}


class Output(NamedTuple):
    """One pass of the branched generator. Pictures lie around [-1, 1]; v_k and phi_k are signed details."""

    residual: Float[Tensor, "b 3 h w"]  # R
    channels: Float[Tensor, "b n 3 h w"]  # v_1 .. v_M, or the requested ones
    phi: Float[Tensor, "b m 3 h w"]  # the input of each branch

    @property
    def image(self) -> Float[Tensor, "b 3 h w"]:
        """f = R + sum_k v_k (equation 15)."""
        return self.residual + self.channels.sum(dim=1)


def instance_norm(
    x: Float[Tensor, "b c h w"], scale: Float[Tensor, "*b c"], shift: Float[Tensor, "*b c"]
) -> Float[Tensor, "b c h w"]:
    """Each channel of each photo with mean 0 and variance 1, times scale, plus shift: one for all photos, or one each.

    When trained on a CPU, one photo at a time by batch norm: `F.instance_norm` copies to a layout that convolutions
    are slow in, and back again in its gradient, which would take longer than the convolutions.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled():
        photos = zip(x.split(1), *(t.float().expand(len(x), -1).unbind() for t in (scale, shift)))
        return torch.cat([F.batch_norm(u, None, None, a, b, training=True) for u, a, b in photos])
    if scale.ndim == 1:
        return F.instance_norm(x, weight=scale, bias=shift)
    return scale[:, :, None, None] * F.instance_norm(x) + shift[:, :, None, None]


class AdaIN(nn.Module):
    """AdaIN(x, s) = (1 + gamma(s)) IN(x) + beta(s), gamma and beta from one linear layer."""

    def __init__(self, style: int, width: int):
        super().__init__()
        self.affine = nn.Linear(style, 2 * width)

    def forward(self, x: Float[Tensor, "b c h w"], s: Float[Tensor, "b style"]) -> Float[Tensor, "b c h w"]:
        gamma, beta = self.affine(s).chunk(2, dim=1)
        return instance_norm(x, 1 + gamma, beta)


class InstanceNorm(nn.InstanceNorm2d):
    """With a scale and a shift for each channel."""

    def __init__(self, width: int):
        super().__init__(width, affine=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return instance_norm(x, self.weight, self.bias)


class Down(nn.Module):
    """Pre-activation residual block with instance norm; `half` halves the resolution at its end."""

    def __init__(self, i: int, o: int, half: bool):
        super().__init__()
        self.halves = half
        self.norm1, self.norm2 = InstanceNorm(i), InstanceNorm(i)
        self.conv1, self.conv2 = Conv3x3(i, i), Conv3x3(i, o)
        self.skip = nn.Conv2d(i, o, 1, bias=False) if i != o else nn.Identity()

    def pool(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2) if self.halves else x

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        y = self.pool(self.conv1(F.leaky_relu(self.norm1(x), 0.2)))
        y = self.conv2(F.leaky_relu(self.norm2(y), 0.2))
        # pooling and a 1x1 convolution commute; pooling first is four times cheaper
        return (self.skip(self.pool(x)) + y) / math.sqrt(2)


class Up(nn.Module):
    """Pre-activation residual block with AdaIN; `double` doubles the resolution at its start."""

    def __init__(self, i: int, o: int, style: int, double: bool):
        super().__init__()
        self.doubles = double
        self.norm1, self.norm2 = AdaIN(style, i), AdaIN(style, o)
        self.conv1, self.conv2 = Conv3x3(i, o), Conv3x3(o, o)
        self.skip = nn.Conv2d(i, o, 1, bias=False) if i != o else nn.Identity()

    def upsample(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # it would copy to float32
            return F.interpolate(x, scale_factor=2, mode="nearest") if self.doubles else x

    def forward(self, x: Float[Tensor, "b c h w"], s: Float[Tensor, "b style"]) -> Float[Tensor, "b o h2 w2"]:
        y = self.conv1(self.upsample(F.leaky_relu(self.norm1(x, s), 0.2)))
        y = self.conv2(F.leaky_relu(self.norm2(y, s), 0.2))
        return (self.upsample(self.skip(x)) + y) / math.sqrt(2)


class Branch(nn.Module):
    """v_k: one slim StarGAN-v2 generator with its own class embedding.

    3x3 from-RGB, `downs` halving blocks whose width doubles up to `cap`, two more at the bottom, two AdaIN blocks,
    `downs` doubling AdaIN blocks, instance norm, LeakyReLU, 1x1 to RGB, no tanh.

    Deviations from StarGAN-v2: borders are mirrored instead of zero, and AdaIN starts near the identity. Otherwise
    instance norm amplifies the border, and the channels become coloured frames that cancel in the sum.
    With `patch` 2 the branch works on pixels unshuffled by 2: at full resolution its few channels are slow on a CPU.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        widths = [min(config.base * 2**i, config.cap) for i in range(config.downs + 1)]
        steps = list(itertools.pairwise(widths))
        bottom = widths[-1]
        self.style = nn.Embedding(len(config.domains), config.style)
        self.patch = config.patch
        self.from_rgb = Conv3x3(3 * config.patch**2, widths[0])
        self.encode = nn.ModuleList(Down(i, o, True) for i, o in steps)
        self.encode.extend(Down(bottom, bottom, False) for _ in range(2))
        self.decode = nn.ModuleList(Up(bottom, bottom, config.style, False) for _ in range(2))
        self.decode.extend(Up(o, i, config.style, True) for i, o in reversed(steps))
        self.norm = InstanceNorm(widths[0])
        self.to_rgb = nn.Conv2d(widths[0], 3 * config.patch**2, 1)
        self.turn = Turn(config, self) if config.turns else None
        self.apply(he_init)
        with torch.no_grad():
            self.to_rgb.weight.mul_(0.2)  # training starts at f = R
            # and without a mesh: the pixels of a patch start alike (Aitken et al., 2017, arXiv 1707.02937)
            of_patch = self.to_rgb.weight.unflatten(0, (3, -1))
            of_patch.copy_(of_patch[:, :1].expand_as(of_patch))
            for module in self.modules():  # and with classes alike: gamma and beta near 0
                if isinstance(module, AdaIN):
                    module.affine.weight.mul_(0.05)
            if self.turn:
                self.turn.start(self)

    def forward(self, phi: Float[Tensor, "b 3 h w"], target: Int[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
        return self.drawn(self, self.encoded(phi), self.style(target))

    def turned(
        self, phi: Float[Tensor, "b 3 h w"], source: Int[Tensor, "b"], target: Int[Tensor, "b"]
    ) -> Float[Tensor, "b 3 h w"]:
        """v_k of photos of the class `source`, turned into `target`; for branches with a `turn`."""
        turn = self.turn
        assert turn is not None, "this model has no turns"
        s = self.style(target) + turn.style(source * turn.classes + target)
        return self.drawn(turn, turn(self.encoded(phi), s), s)

    def encoded(self, phi: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h2 w2"]:
        x = self.from_rgb(F.pixel_unshuffle(phi, self.patch))
        for block in self.encode:
            x = block(x)
        return x

    def drawn(
        self, by: nn.Module, x: Float[Tensor, "b c h2 w2"], s: Float[Tensor, "b style"]
    ) -> Float[Tensor, "b 3 h w"]:
        """What the blocks from the bottom up make of a style; `by`: this branch, or its turn."""
        for block in by.decode:
            x = block(x, s)
        return F.pixel_shuffle(by.to_rgb(F.leaky_relu(by.norm(x), 0.2)), self.patch)


class Turn(nn.Module):
    """The way of photos that are turned into another class, from the bottom of a branch up.

    Residual blocks, a style for each pair of classes, and the branch's upper half once more. It begins as what the
    branch does, and can be trained when all else is done and stays as it is.

    Deviation from the paper, whose branches do the same to a photo that keeps its class and to one that is turned, but
    for the style. So much must be drawn anew in the latter that the former lose likeness.
    """

    def __init__(self, config: ModelConfig, branch: Branch):
        super().__init__()
        self.classes = len(config.domains)
        self.style = nn.Embedding(self.classes**2, config.style)  # by source x classes + target
        width = min(config.base * 2**config.downs, config.cap)
        self.blocks = nn.ModuleList(Up(width, width, config.style, False) for _ in range(config.turns))
        self.decode, self.norm, self.to_rgb = copy.deepcopy((branch.decode, branch.norm, branch.to_rgb))

    def start(self, branch: Branch) -> None:
        """Make it what the branch does."""
        nn.init.zeros_(self.style.weight)
        for block in self.blocks:
            nn.init.zeros_(block.conv2.weight)
        for name in ("decode", "norm", "to_rgb"):
            getattr(self, name).load_state_dict(getattr(branch, name).state_dict())

    def forward(self, x: Float[Tensor, "b c h w"], s: Float[Tensor, "b style"]) -> Float[Tensor, "b c h w"]:
        for block in self.blocks:
            x = math.sqrt(2) * block(x, s)  # x and what the block adds
        return x


def he_init(module: nn.Module) -> None:
    """He initialisation, biases zero, as in StarGAN-v2; with PyTorch's default the discriminator stays at chance."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class BranchedGenerator(nn.Module, PyTorchModelHubMixin, **HUB):
    """f(x) = R + sum_k v_k(phi_k): diffusion, M branches of identical architecture, sum.

    Example:
        >>> model = BranchedGenerator(ModelConfig(size=32, base=4, cap=8, downs=2))
        >>> model(torch.zeros(1, 3, 50, 70), torch.tensor([0])).channels.shape
        torch.Size([1, 9, 3, 50, 70])
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.split = build_split(config)
        self.branches = nn.ModuleList(Branch(config) for _ in range(config.branches))
        self.gate = BranchGate(config.branches) if config.gated else None

    def forward(
        self,
        x: Float[Tensor, "b 3 h w"],
        target: Int[Tensor, "b"] | Int[Tensor, "b m"],
        which: Sequence[int] | None = None,
        source: Int[Tensor, "b"] | None = None,
    ) -> Output:
        """Decompose and re-generate a batch.

        Args:
            x: photos in [-1, 1], any height and width of at least `2 * stride`.
            target: class index per photo, or per photo and branch.
            which: run only these branches, 0 .. M - 1; default: all.
            source: class index of each photo, which models with `turns` need to know; default: its target.
        Raises:
            ValueError: the photo is too small for the network.
        """
        b, _, h, w = x.shape
        stride, m = self.config.stride, self.config.branches
        if min(h, w) < 2 * stride:
            raise ValueError(f"photo of {w} x {h} pixels is too small; at least {2 * stride} x {2 * stride} is needed")
        if target.ndim == 1:
            target = target[:, None].expand(b, m)
        x = F.pad(x, (0, -w % stride, 0, -h % stride), mode="reflect")
        # phi_k are small differences, smaller than the rounding of bfloat16
        with torch.autocast(x.device.type, enabled=False):
            residual, phi = self.split(x)
        channels = self.channels(phi, target, range(m) if which is None else which, source)
        return Output(residual[..., :h, :w], channels[..., :h, :w], phi[..., :h, :w])

    def channels(
        self,
        phi: Float[Tensor, "b m 3 h w"],
        target: Int[Tensor, "b m"],
        which: Sequence[int],
        source: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b n 3 h w"]:
        """v_k of the branches `which`, 0 .. M - 1; height and width must be multiples of `config.stride`."""
        if not len(which):
            return phi[:, :0]
        inputs = phi.unbind(dim=1)  # one gradient for all, where phi[:, k] would have one of this size each
        source = source if self.config.turns else None
        parts = [(self.branches[k], inputs[k], target[:, k]) for k in which]
        gates = self.gate(phi)[:, list(which)] if self.gate else None
        if gates is not None and not self.training:  # closed branches are not computed
            return torch.stack([_where_open(z, *part, source) for z, part in zip(gates.bool().unbind(1), parts)], dim=1)
        channels = torch.stack([_channel(*part, source) for part in parts], dim=1)
        return channels if gates is None else channels * gates[:, :, None, None, None]


def _channel(branch: nn.Module, phi: Tensor, target: Tensor, source: Tensor | None) -> Tensor:
    """v_k of photos that keep their class, and of those that are turned; without a source all keep it."""
    if source is None or not (turned := source != target).any():
        return branch(phi, target)
    if turned.all():
        return branch.turned(phi, source, target)
    own = branch(phi[~turned], target[~turned])
    order = torch.argsort(turned.int(), stable=True)  # those that keep their class first
    return torch.cat([own, branch.turned(phi[turned], source[turned], target[turned])])[order.argsort()]


def _where_open(z: Bool[Tensor, "b"], branch: nn.Module, phi: Tensor, target: Tensor, source: Tensor | None) -> Tensor:
    """v_k, computed for the photos whose gate is open only; 0 for the others."""
    v = torch.zeros_like(phi)
    if z.any():
        v[z] = _channel(branch, phi[z], target[z], None if source is None else source[z]).to(v.dtype)
    return v
