"""Fits all that finds a cat's eyes to one set of weights, once, on photos whose eyes are marked.

The order and the meaning of the channels differ between training runs, so all that depends on them is fitted here: two
networks (`fitting.py`) on what they learn from (`lessons.py`, `unmarked.py`), and how far to trust them
(`confidence.py`).

Half of the photos train one pair of networks, the other half another pair; each pair is judged on the other's photos.
"""

import functools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import photos
from ..batch.pool import each
from ..channels import ChannelFacts
from ..decomposer import cached
from . import confidence, unmarked
from .fitting import EPOCHS, fitted
from .lessons import Lessons, lessons, mean_lens, scenes
from .marked import Marked, marked, with_lids
from .parts import EyeParts

CHUNK = 16  # photos that one process takes at a time
JUDGED_OTHERS = 60  # photos without a cat that are searched too, about, to count the eyes that are found there


def calibrate(
    name: str,
    data: Path,
    without: Iterable[Path] = (),
    cats: Iterable[Path] = (),
    epochs: int = EPOCHS,
    jobs: int = 1,
) -> tuple[EyeParts, dict]:
    """All parts of a model, and what its two halves reached on each other's photos.

    Args:
        name: the model.
        data: a folder with marked photos, see `marked.py`.
        without: folders of photos without a cat, of which at most 600 in all are taken, evenly.
        cats: folders of photos of cats without marks, see `unmarked.py`.
        jobs: number of processes.
    Raises:
        PhotoError: a list or a photo cannot be read.
        ValueError: no such model.
        ValueError: it has no class "cat".
    """
    cached(name).domain_index("cat")
    whole = marked(data, "photos")
    names = {m.path.stem for m in whole}
    known = whole + [m for m in marked(data, "crops") if m.path.stem not in names]
    lids = with_lids(data)
    folders = [photos.find(Path(folder)) for folder in without]
    others = scenes() + [path for found in folders for path in found[:: max(1, len(found) * len(folders) // 600)]]
    lens = mean_lens(lids)
    numbered = list(enumerate([*known, *lids, *others]))
    learn = functools.partial(learnt, functools.partial(lessons, name, tuple(others), lens), jobs)
    of = learn(numbered)
    parts = fitted_parts(of, lens, epochs, jobs)
    more = list(enumerate(unmarked.chosen([Path(folder) for folder in cats])))
    mark = functools.partial(unmarked.mark, name, parts)
    marks = [m for m in tqdm(each(mark, more, jobs), "cats without marks", len(more)) if m]
    if marks:
        of = [Lessons.joined(list(both)) for both in zip(of, learn(list(enumerate(marks, len(numbered)))))]
        parts = fitted_parts(of, lens, epochs, jobs)
    judged = numbered[: len(whole)] + numbered[-len(others) :][:: max(1, len(others) // JUDGED_OTHERS) | 1]
    told = np.array(
        list(tqdm(each(functools.partial(confidence.answer, name, parts), judged, jobs), "certainty", len(judged)))
    )
    told = {"logit": told[:, 0], "error": told[:, 1], "cat": np.array([isinstance(m, Marked) for _, m in judged])}
    (a, b), least = confidence.fit(told)
    parts = replace(parts, certainty=(round(a, 4), round(b, 4)), least=round(least, 4))
    return parts, confidence.figures(told, parts)


def learnt(lesson, jobs: int, numbered: list[tuple[int, Marked | Path]]) -> list[Lessons]:
    """The training samples of all photos, for each half; `lesson`: of one chunk of them."""
    chunks = [numbered[i : i + CHUNK] for i in range(0, len(numbered), CHUNK)]
    of_chunks = list(tqdm(each(lesson, chunks, jobs), f"channels, {CHUNK} photos each", len(chunks)))
    return [Lessons.joined(list(of)) for of in zip(*of_chunks)]


def fitted_parts(of: list[Lessons], lens: np.ndarray, epochs: int, jobs: int) -> EyeParts:
    """Networks fitted to the samples of each half; how certain they are is not known yet."""
    nets = list(each(functools.partial(fitted, epochs), list(enumerate(of)), jobs))
    return EyeParts(*zip(*nets), tuple(round(float(n), 4) for n in lens.ravel()), confidence.PROVISIONAL, 0.0)


def write(folder: Path, parts: EyeParts) -> None:
    """Put the parts into `folder/channels.json`, whole or not at all."""
    replace(ChannelFacts.read(folder), eyes=parts.to_dict()).write(folder)
