"""How well channels are swapped: `python -m decomp.evaluation.swaps MODEL --data ROOT --layers light`.

For each pair of validation photos of one class, A gets layers K of B, and the result is decomposed again. Measured on
the face:

- kept: correlation of each channel outside K between the result and A; for comparison, that between A and B;
- taken: correlation of the channels of K between the result and B, and between the result and A;
- seam: mean gradient of the result over the mask's soft edge, relative to A's own there. For comparison, the same
  for a hard mask, cut off at 0.5.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm import tqdm

from .. import photos
from ..decomposer import load
from ..decomposition import Picture, to_bytes
from ..export import tiles
from ..faces import Box
from ..kinds import layers_of
from ..photos import Photo
from ..studio.swap import Pair, align, swap

SHOWN = 10  # pairs on the sheet


def pairs_of(data: Path, domains: list[str], count: int) -> list[tuple[str, Path, Path]]:
    """(class, A, B): validation photos of each class in turn, drawn without replacement.

    Raises:
        ValueError: a class has too few photos.
    """
    rng, of_class = np.random.default_rng(0), {}
    for domain in domains:
        folder = data / "val" / domain
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in photos.SUFFIXES)
        if len(paths) < 2 * -(-count // len(domains)):
            raise ValueError(f"{folder} holds {len(paths)} photos; twice the number of pairs is needed")
        of_class[domain] = [paths[i] for i in rng.permutation(len(paths))]
    turn = lambda i: (domains[i % len(domains)], 2 * (i // len(domains)))
    return [(d, of_class[d][k], of_class[d][k + 1]) for d, k in map(turn, range(count))]


def correlation(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Of two layers (H, W, 3) over the mask."""
    inside = mask > 0.9
    return float(np.corrcoef(a[inside].ravel(), b[inside].ravel())[0, 1])


def gradient_at_edge(picture: Picture, mask: np.ndarray) -> float:
    """Mean gradient of the grey picture where the mask is soft; NaN where the face fills the square."""
    edge = (mask > 0.02) & (mask < 0.98)
    return float(np.hypot(*np.gradient(picture.mean(axis=2)))[edge].mean()) if edge.any() else np.nan


def measured(model, pair: Pair, layers: list[int | str]) -> tuple[dict, Picture]:
    """The figures of one pair, and the result."""
    a, b, mask = pair.a, pair.b, pair.mask
    result, hard = swap(a, b, layers, mask=mask), swap(a, b, layers, mask=(mask > 0.5).astype(np.float32))
    size = len(result)
    c = model.decompose(Photo(to_bytes(result)), a.domain, size=size, box=Box(0, 0, size, "given"))
    others = [k for k in range(1, len(a.channels) + 1) if k not in layers]
    between = lambda x, y, which: np.mean([correlation(x.layer(k), y.layer(k), mask) for k in which])
    own = gradient_at_edge(a.picture, mask)
    again = [layer for layer in layers if layer != "unexplained"]  # E does not come from the model
    figures = {"kept": between(c, a, others), "two faces": between(a, b, others)} if others else {}
    figures |= {"taken": between(c, b, again), "left of A": between(c, a, again)} if again else {}
    figures |= {
        "seam": gradient_at_edge(result, mask) / own,
        "seam, cut off": gradient_at_edge(hard, mask) / own,
        "by eyes": float(not pair.notes),
    }
    return {name: float(value) for name, value in figures.items()}, result


def main(
    model: Annotated[str, typer.Argument(help="bundled model or folder")],
    data: Annotated[Path, typer.Option(help="folder with val/CLASS/*.jpg", exists=True)],
    layers: Annotated[
        list[str], typer.Option(help="numbers, names, kinds, residual, with commas; repeat for another set")
    ],
    pairs: Annotated[int, typer.Option(min=2)] = 50,
    out: Annotated[Path, typer.Option(help="folder for swaps.json and swaps.png")] = Path("swaps"),
):
    """Print and write the figures of the module's text."""
    decomposer = load(model)
    try:
        sets = {text: layers_of(decomposer, [word.strip() for word in text.split(",")]) for text in layers}
        chosen = pairs_of(data, list(decomposer.config.domains), pairs)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    rows, shown = [], []
    for domain, path_a, path_b in tqdm(chosen, unit="pair", disable=None):
        pair = align(decomposer, decomposer.decompose(path_a, domain), path_b, domain)
        tile = [("A", pair.a.picture), ("B, on A's eyes", pair.b.picture)]
        for text, swapped in sets.items():
            figures, result = measured(decomposer, pair, swapped)
            rows.append({"layers": text, "class": domain, "a": path_a.name, "b": path_b.name} | figures)
            tile.append((f"A with B's {text}", result))
        shown.append(tile)
    out.mkdir(parents=True, exist_ok=True)
    tiles(shown[:SHOWN]).save(out / "swaps.png")
    means = {}
    for text in sets:
        own = [row for row in rows if row["layers"] == text]
        means[text] = {
            k: round(float(np.nanmean([row[k] for row in own])), 3) for k, v in own[0].items() if type(v) is float
        }
        typer.echo(f"{model}, {text}, {len(own)} pairs: {json.dumps(means[text])}")
    (out / "swaps.json").write_text(json.dumps({"layers": sets, "mean": means, "each": rows}, indent=2))


if __name__ == "__main__":
    typer.run(main)
