"""Dynamic network decoupling: a gate per convolution picks, for each image, which filters run.

Li et al., "Interpretable Neural Network Decoupling" (ECCV 2020; arXiv 1906.01166). For layer l with input X, N filters
and Y = BN(conv X), after a ReLU where there is one:

    g = W_2 ReLU(W_1 GAP(X))                                  (1)  controller, from the input: so Y need not be computed
    z = 1[g > 0];   output Y * z, filter by filter            (2)
    training: g' = g + N(0, I),  v_1 = clamp(1.2 sigmoid(g') - 0.1, 0, 1),  v_2 = 1[g' > 0]
              z = v_1 or v_2, each half of the time; its gradient is always v_1's  (3)  improved SemHash
    L_mi = sum_l CE(W_cla z, class)                           (4)  a bound on the information of z about the class
    L_kl = sum_l KL(softmax z | softmax GAP(Y))               (5)  Y before the gate
    L_s  = sum_l |z|_1                                        (6)
    L = CE + lambda_m L_mi + lambda_k L_kl + lambda_s L_s     (7)

(3) is `semhash` in `decomp/gates.py`, whose half is drawn for each image and filter. (5) is a mean over filters, as in
the released code.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...gates import semhash


class Gate(NamedTuple):
    """What one gated convolution decided for a batch."""

    z: Float[Tensor, "b n"]
    response: Float[Tensor, "b n"]  # GAP(Y), before the gate
    logits: Float[Tensor, "b classes"]  # W_cla z


class GatedConv(nn.Module):
    """Convolution, batch normalisation, ReLU if asked for, gate. With `open` every filter runs: the plain network."""

    def __init__(self, into: int, filters: int, stride: int, relu: bool, classes: int):
        super().__init__()
        self.relu, self.open = relu, False
        self.conv = nn.Conv2d(into, filters, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.squeeze, self.select = nn.Linear(into, max(1, into // 4)), nn.Linear(max(1, into // 4), filters)
        self.classify = nn.Linear(filters, classes, bias=False)  # W_cla: training and analysis only
        for layer in (self.squeeze, self.select):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.ones_(layer.bias)  # most filters start on

    def controller(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """g, equation 1."""
        return self.select(F.relu(self.squeeze(x.mean(dim=(2, 3)))))

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Gate]:
        y = self.norm(self.conv(x))
        y = F.relu(y) if self.relu else y
        z = y.new_ones(y.shape[:2]) if self.open else semhash(self.controller(x), self.training)
        return y * z[:, :, None, None], Gate(z, y.mean(dim=(2, 3)), self.classify(z))

    def gathered(self, x: Float[Tensor, "1 c h w"], present: Int[Tensor, "c"], pooled: Float[Tensor, "1 inputs"]):
        """One image, active filters only: Y of these, which they are, and g > 0 decided from `pooled` = GAP(X).

        `x` holds the channels `present` alone, the others being zero.
        """
        chosen = self.select(F.relu(self.squeeze(pooled)))[0].gt(0).nonzero()[:, 0]
        norm = self.norm
        scale = norm.weight[chosen] * (norm.running_var[chosen] + norm.eps).rsqrt()
        weight = (
            self.conv.weight[chosen] if len(present) == self.conv.in_channels else self.conv.weight[chosen][:, present]
        )
        shift = norm.bias[chosen] - norm.running_mean[chosen] * scale
        y = F.conv2d(x, weight * scale[:, None, None, None], shift, self.conv.stride, 1)
        return (F.relu(y) if self.relu else y), chosen


class Block(nn.Module):
    """Basic residual block with two gates; the shortcut is not gated, and pads by zeros (option A)."""

    def __init__(self, into: int, out: int, stride: int, classes: int):
        super().__init__()
        self.out, self.stride = out, stride
        self.first, self.second = GatedConv(into, out, stride, True, classes), GatedConv(out, out, 1, False, classes)
        self.register_buffer("where", torch.arange(out))  # channels that the second convolution's filters add to

    def shortcut(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.out - x.shape[1]))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Gate]]:
        y, one = self.first(x)
        y, two = self.second(y)
        return F.relu(self.shortcut(x).index_add(1, self.where, y)), [one, two]

    def gathered(self, x: Float[Tensor, "1 c h w"]) -> Tensor:
        """The same output for one image, computing only what its gates chose."""
        y, chosen = self.first.gathered(x, torch.arange(x.shape[1]), x.mean(dim=(2, 3)))
        pooled = x.new_zeros(1, self.second.conv.in_channels).index_copy(1, chosen, y.mean(dim=(2, 3)))
        y, second = self.second.gathered(y, chosen, pooled)
        return F.relu(self.shortcut(x).index_add(1, self.where[second], y))


class GatedResNet(nn.Module):
    """ResNet of 6 * blocks + 2 layers for small images, every convolution gated but the stem.

    Args:
        blocks: in each of the three stages; 3 is ResNet-20, 9 is ResNet-56.
        width: of the first stage; 16 in the paper.
    """

    def __init__(self, blocks: int, width: int = 16, classes: int = 10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        outs = [width * 2**stage for stage in range(3) for _ in range(blocks)]
        steps = zip([width, *outs[:-1]], outs)
        self.blocks = nn.ModuleList(Block(into, out, out // into, classes) for into, out in steps)
        self.head = nn.Linear(width * 4, classes)

    @property
    def gated(self) -> list[GatedConv]:
        """All gated convolutions, in the order of depth."""
        return [conv for block in self.blocks for conv in (block.first, block.second)]

    def open(self, everything: bool = True) -> "GatedResNet":
        """Let every filter run, as in the plain network; or let the gates decide again."""
        for conv in self.gated:
            conv.open = everything
        return self

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b classes"], list[Gate]]:
        x, gates = self.stem(x), []
        for block in self.blocks:
            x, more = block(x)
            gates += more
        return self.head(x.mean(dim=(2, 3))), gates

    def gathered(self, x: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 classes"]:
        """Logits of one image, its silent filters not computed."""
        x = self.stem(x)
        for block in self.blocks:
            x = block.gathered(x)
        return self.head(x.mean(dim=(2, 3)))


def losses(gates: list[Gate], labels: Int[Tensor, "b"]) -> dict[str, Tensor]:
    """Equations 4 to 6."""
    return {
        "mi": sum(F.cross_entropy(gate.logits, labels) for gate in gates),
        "kl": sum(_kl(gate.z, gate.response) for gate in gates),
        "sparsity": sum(gate.z.sum(dim=1).mean() for gate in gates),
    }


def _kl(z: Tensor, y: Tensor) -> Tensor:
    """KL(softmax z | softmax y), divided by the number of filters."""
    return F.kl_div(y.log_softmax(dim=1), z.log_softmax(dim=1), reduction="batchmean", log_target=True) / z.shape[1]


@torch.no_grad()
def without_silent(model: GatedResNet, on: list[Tensor]) -> GatedResNet:
    """A smaller network without the filters that are never on; `on` has one boolean vector per gated convolution.

    Wherever they are off its logits are the same. A layer keeps at least one filter.
    """
    small = GatedResNet(1)  # its blocks are replaced
    small.stem, small.head, small.blocks = model.stem, model.head, nn.ModuleList()
    for i, block in enumerate(model.blocks):
        first, second = (kept.nonzero()[:, 0] if kept.any() else torch.tensor([0]) for kept in on[2 * i : 2 * i + 2])
        copy = Block(block.first.conv.in_channels, block.out, block.stride, block.first.classify.out_features)
        copy.first = _subset(block.first, torch.arange(block.first.conv.in_channels), first)
        copy.second = _subset(block.second, first, second)
        copy.where = block.where[second]
        small.blocks.append(copy)
    return small.eval()


def _subset(conv: GatedConv, inputs: Tensor, filters: Tensor) -> GatedConv:
    """A gated convolution with some of the inputs and filters of another; the controller keeps its hidden layer."""
    small = GatedConv(len(inputs), len(filters), conv.conv.stride[0], conv.relu, conv.classify.out_features)
    small.squeeze = nn.Linear(len(inputs), conv.squeeze.out_features)
    small.select = nn.Linear(conv.squeeze.out_features, len(filters))
    state = conv.state_dict()
    for name in ("conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        state[name] = state[name][filters]
    state["conv.weight"] = state["conv.weight"][:, inputs]
    state["squeeze.weight"] = state["squeeze.weight"][:, inputs]
    state |= {name: state[name][filters] for name in ("select.weight", "select.bias")}
    state["classify.weight"] = state["classify.weight"][:, filters]
    small.load_state_dict(state)
    return small
