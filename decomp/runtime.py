"""The runtime of the network: torch, or OpenVINO, in which the branches run two to three times as fast on a CPU.

The diffusion stays in torch: a few matrix products and small convolutions, as fast there as compiled.
"""

import copy
import hashlib
import importlib.util
import inspect
import io
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import platformdirs
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from . import diffusion, generator
from .generator import Branch, BranchedGenerator, Output

RUNTIMES = ("auto", "torch", "openvino")
VARIABLE = "DECOMP_RUNTIME"  # environment variable: the default runtime
DIGEST = 32  # bytes of a SHA-256, in front of each compiled branch
KEPT = 16  # models in the cache; beyond it the least recently used are removed

log = logging.getLogger("decomp")


class Runtime:
    """The network in torch, on the device where its weights are."""

    def __init__(self, generator: BranchedGenerator):
        self.own = generator

    def network(self) -> BranchedGenerator:
        """The network that passes run through."""
        return self.own

    @torch.inference_mode()
    def __call__(
        self,
        x: Float[Tensor, "b 3 h w"],
        target: Int[Tensor, "b m"],
        which: Sequence[int] | None = None,
        source: Int[Tensor, "b"] | None = None,
    ) -> Output:
        """As `BranchedGenerator.forward`; tensors are moved to the network's device."""
        device = next(self.own.parameters()).device
        return self.network()(x.to(device), target.to(device), which, None if source is None else source.to(device))

    @torch.inference_mode()
    def channels(
        self,
        phi: Float[Tensor, "b m 3 h w"],
        target: Int[Tensor, "b m"],
        which: Sequence[int],
        source: Int[Tensor, "b"],
    ) -> Float[Tensor, "b n 3 h w"]:
        """As `BranchedGenerator.channels`: some branches alone, from the inputs of an earlier pass."""
        device = next(self.own.parameters()).device
        return self.network().channels(phi.to(device), target.to(device), which, source.to(device))


class OpenVINORuntime(Runtime):
    """The same network with compiled branches, equal to torch within 1e-4, or `rough`: within 0.05.

    The branches are compiled, or read from the cache, at the first pass, for as many threads as torch has then.
    Later changes of the weights are not noticed. A network that was moved to a GPU runs there, in torch.

    Args:
        fall_back: where OpenVINO fails, log one line and run in torch; else the error is raised.
        rough: run the branches in bfloat16 where the processor has it.
    """

    def __init__(self, generator: BranchedGenerator, fall_back: bool, rough: bool = False):
        super().__init__(generator)
        self.fall_back, self.rough = fall_back, rough
        self.compiled: BranchedGenerator | None = None
        self.lock = threading.Lock()

    def network(self) -> BranchedGenerator:
        if next(self.own.parameters()).device.type != "cpu":
            return self.own
        with self.lock:
            if self.compiled is None:
                try:
                    self.compiled = compiled(self.own, self.rough)
                except Exception as error:
                    if not self.fall_back:
                        raise
                    reason = (str(error) or type(error).__name__).strip().splitlines()[0]
                    log.warning("decomp: OpenVINO failed, so torch runs the network: %s", reason)
                    self.compiled = self.own
        return self.compiled


def choose(generator: BranchedGenerator, name: str | None = None, rough: bool = False) -> Runtime:
    """The runtime of that name; None: the one that DECOMP_RUNTIME names, else "auto": OpenVINO where it is installed.

    `rough`: see `OpenVINORuntime`; torch takes no notice of it.

    Raises:
        ValueError: no such runtime.
        ValueError: OpenVINO is requested but not installed.
    """
    name = name or os.environ.get(VARIABLE) or "auto"
    if name not in RUNTIMES:
        raise ValueError(f"runtime is {name!r}; accepted: {', '.join(RUNTIMES)}")
    installed = importlib.util.find_spec("openvino") is not None
    if name == "openvino" and not installed:
        raise ValueError("runtime 'openvino' is not installed; install it with: pip install 'decomp[fast]'")
    if name == "torch" or not installed:
        return Runtime(generator)
    return OpenVINORuntime(generator, fall_back=name == "auto", rough=rough)


class CompiledBranch(nn.Module):
    """v_k in OpenVINO, called as `Branch` is; photos of any size, batches of any length, several threads at once.

    Photos that are turned into another class run in torch.
    """

    def __init__(self, model, branch: Branch):
        super().__init__()
        self.model = model
        self.turned = branch.turned

    def forward(self, phi: Float[Tensor, "b 3 h w"], target: Int[Tensor, "b"]) -> Float[Tensor, "b 3 h w"]:
        inputs = [phi.contiguous().numpy(), target.contiguous().numpy()]
        return torch.from_numpy(self.model.create_infer_request().infer(inputs, share_inputs=True)[0])


@torch.inference_mode(False)
def compiled(network: BranchedGenerator, rough: bool = False) -> BranchedGenerator:
    """A copy whose branches are compiled, from the cache if the same weights were compiled on this machine before."""
    import openvino

    core = openvino.Core()
    rough = rough and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if rough else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    cache = Path(platformdirs.user_cache_dir("decomp", appauthor=False)) / "openvino"
    folder = cache / fingerprint(network, core, rough)
    try:
        models = [core.import_model(blob, "CPU", options) for blob in read(folder, len(network.branches))]
    except (OSError, RuntimeError):  # not there, or damaged
        models = [
            core.compile_model(converted(branch), "CPU", options)
            for branch in tqdm(network.branches, "OpenVINO, once for these weights", leave=False, disable=None)
        ]
        store(folder, [model.export_model() for model in models])
    fast = copy.deepcopy(network)
    fast.branches = nn.ModuleList(map(CompiledBranch, models, fast.branches))
    return fast


def fingerprint(network: BranchedGenerator, core, rough: bool) -> str:
    """What a compiled model depends on, as one hexadecimal number: weights, code, OpenVINO, processor, precision."""
    import openvino

    code = [inspect.getsource(module) for module in (diffusion, generator)]
    facts = [openvino.__version__, core.get_property("CPU", "FULL_DEVICE_NAME"), str(network.config.to_dict()), *code]
    facts += ["bfloat16"] if rough else []
    sha = hashlib.sha256("\n".join(facts).encode())
    for name, weight in sorted(network.state_dict().items()):
        sha.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        sha.update(weight.float().contiguous().numpy().tobytes())
    return sha.hexdigest()[:32]


def converted(branch: Branch):
    """A branch as an `openvino.Model` whose batch, height and width are open."""
    import openvino

    patch = branch.patch
    example = torch.zeros(1, 3, 64 * patch, 64 * patch), torch.zeros(1, dtype=torch.long)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch recommends torch.export, which takes ten times as long
        traced = torch.jit.trace(branch, example, check_trace=False)
        shapes = [openvino.PartialShape([-1, 3, -1, -1]), openvino.PartialShape([-1])]
        return openvino.convert_model(traced, example_input=example, input=shapes)


def read(folder: Path, branches: int) -> list[bytes]:
    """The compiled branches of a cached model; OSError if one is missing or damaged, which OpenVINO may not notice."""
    blobs = []
    for k in range(1, branches + 1):
        content = (folder / f"branch-{k}.blob").read_bytes()
        blobs.append(content[DIGEST:])
        if hashlib.sha256(blobs[-1]).digest() != content[:DIGEST]:
            raise OSError(f"{folder}: branch {k} is damaged")
    os.utime(folder)
    return blobs


def store(folder: Path, blobs: Sequence[bytes | io.BytesIO]) -> None:
    """Put a model into the cache, whole or not at all, also beside other processes; a failure only costs time."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".", ignore_cleanup_errors=True) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            for k, blob in enumerate(blobs, start=1):
                content = blob if isinstance(blob, bytes) else blob.getvalue()
                (made / f"branch-{k}.blob").write_bytes(hashlib.sha256(content).digest() + content)
            if folder.exists():  # damaged, or just made by another process
                folder.rename(Path(temporary) / "previous")
            made.rename(folder)
        cached = sorted((f for f in folder.parent.iterdir() if f.name[0] != "."), key=lambda f: -f.stat().st_mtime)
        for old in cached[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        log.warning("decomp: the compiled network could not be kept for the next time: %s", error)
