"""From a training run to a model folder: classifier, roles, half precision, figures, and model card.

The card's numbers are filled in from `figures.json` at every release. The part between the two marks (recipe, what the
channels show, limits) and the front matter are written by hand and kept.
"""

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..channels import ChannelFacts
from ..classifier import FILE as CLASSES
from ..data.dataset import square
from ..decomposer import Decomposer, load
from ..decomposition import to_bytes
from ..eyes import calibrate
from ..generator import HUB, TAGS, BranchedGenerator
from ..templates import TEMPLATES
from ..training.classifier import PER_CLASS, fit, recognition
from ..weights import fingerprint
from . import report, roles
from .evaluate import EvaluationError, Stability, batches, evaluate, labelled, marked_eyes

BEGIN, END = "<!-- prose: kept when the model is released again -->", "<!-- end of prose -->"
PROSE = """## Recipe

How the model was trained: data and their licence, command, photos shown, hardware and time.

## What the channels show

One line for each channel, from looking at contact sheets.

## Limits

What the model does badly."""
MEASURED = 4  # every fourth photo of other things is not trained on, but measured
NAMED_BY = 64  # photos of each class that the channels' roles are measured on


def release(
    run: Path,
    data: Path,
    out: Path,
    epochs: int = 20,
    eyes: Path | None = None,
    against: Decomposer | None = None,
    device: str = "cpu",
    other: Sequence[Path] = (),
    licence: str | None = None,
    tags: Sequence[str] = (),
) -> dict:
    """Write a model folder with its figures and its card, all or nothing; returns the figures.

    Args:
        run: folder of a training run, with the generator's `model.safetensors` and `config.json`.
        data: folder laid out as `{train,val}/{domain}/*`.
        out: model folder; its name is the model's. A card without the two marks is left alone.
        epochs: of the classifier behind `domain="auto"`; 0 keeps the one that is in `out`.
        eyes, against: see `evaluate`. With a list of whole photos in `eyes`, finding a cat's eyes is calibrated too,
            on them and on the training photos.
        other: photos of none of the classes, which the classifier learns to tell apart; every fourth is only measured.
        licence, tags: front matter of a new card, besides the tags that every model has.
    Raises:
        PhotoError: a folder or a photo of the data cannot be read.
        EvaluationError: the run has no weights.
        EvaluationError: there is no classifier to keep in `out`.
        EvaluationError: see `evaluate`.
    """
    torch.manual_seed(0)
    model = from_run(run)
    domains = model.config.domains
    shown = labelled(data, "val", domains, NAMED_BY)
    if eyes:  # errors show now, not after the training
        marked_eyes(eyes, model)
    if against:
        Stability(model, against)
    if epochs:
        train_classifier(model, data, epochs, learnt_from(other))
    else:
        try:
            model.classifier = load(out).classifier
        except ValueError as error:
            raise EvaluationError(f"{out}: has no classifier to keep; accepted: at least 1 epoch") from error
    card = out / "README.md"
    written = card.read_text() if card.is_file() else None

    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".decomp-", dir=out.parent, ignore_cleanup_errors=True) as temporary:
        made = Path(temporary)
        named(model.to(device), shown).half().save_pretrained(made)
        final = load(made).to(device)  # what is measured is what will be used, in half precision
        figures = {"weights": out.name, "sha256": fingerprint(made)} | evaluate(
            final, data, None, against, eyes, other=measured_on(other)
        )
        if eyes and (eyes / "photos.json").is_file() and "cat" in domains:
            others = [data / "train" / domain for domain in domains if domain != "cat"]
            parts, figures["found eyes"] = calibrate.calibrate(str(made), eyes, others, [data / "train" / "cat"])
            calibrate.write(made, parts)
        (made / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
        (made / "README.md").write_text(model_card(figures, written, licence, tags))
        (made / "model.safetensors").chmod(0o644)  # it is saved for its owner alone
        out.mkdir(exist_ok=True)
        (out / CLASSES).unlink(missing_ok=True)
        for file in made.iterdir():
            file.replace(out / file.name)
    return figures


def from_run(run: Path) -> Decomposer:
    """The generator of a training run, with an untrained classifier."""
    missing = [name for name in ("config.json", "model.safetensors") if not (run / name).is_file()]
    if missing:
        raise EvaluationError(f"{run}: holds no {' and no '.join(missing)}; accepted: the folder of a training run")
    with contextlib.redirect_stdout(io.StringIO()):  # the hub client announces every local folder
        generator = BranchedGenerator.from_pretrained(run, strict=True)
    model = Decomposer(generator.config)
    model.generator.load_state_dict(generator.state_dict())
    model.facts = ChannelFacts(asked_for=asked_of(run))
    return model


def asked_of(run: Path) -> tuple[str, ...]:
    """What the channels were told to carry, if the run had that term."""
    options = run / "options.json"
    training = json.loads(options.read_text())["training"] if options.is_file() else {}
    return tuple(training["asked_for"]) if any(weight for _, weight in training.get("asked", [])) else ()


def learnt_from(other: Sequence[Path]) -> list[Path]:
    return [path for k, path in enumerate(other) if k % MEASURED]


def measured_on(other: Sequence[Path]) -> list[Path]:
    return list(other[::MEASURED])


def train_classifier(model: Decomposer, data: Path, epochs: int, other: Sequence[Path]) -> None:
    """`fit` on all training photos, a quarter larger than what it sees, as it crops at random; then `recognition`.

    With 0 epochs the network stays as it is.
    """
    side = model.classifier.SIDE * 5 // 4
    by_domain = [[] for _ in model.config.domains]
    chosen = labelled(data, "train", model.config.domains, None if epochs else PER_CLASS)
    for path, label in tqdm(chosen, "training photos", unit="photo"):
        by_domain[label].append(to_bytes(square(path, side)))
    as_tensor = lambda pictures: torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    by_domain = [as_tensor(pictures) for pictures in by_domain]
    if epochs:
        fit(model.classifier, by_domain, epochs)
    pictures = [to_bytes(square(path, side)) for path in tqdm(other, "other photos", unit="photo")]
    none = torch.empty(0, 3, side, side, dtype=torch.uint8)
    model.classifier.recognition = recognition(model.classifier, by_domain, as_tensor(pictures) if pictures else none)


@torch.inference_mode()
def named(model: Decomposer, shown: list) -> Decomposer:
    """The model with its channels' roles measured on these photos and their classes."""
    domains = model.config.domains
    channels = torch.cat([model.generator(x, y).channels.cpu() for x, y in batches(shown, model, "roles")])
    measured = roles.measure(channels, [domains[label] for _, label in shown], dict(zip(domains, model.config.face)))
    result = Decomposer(model.config)
    result.facts = replace(model.facts, roles=tuple(roles.name(measured, model.config.size)))
    result.load_state_dict(model.state_dict())
    result.classifier.recognition = model.classifier.recognition
    return result


def front_matter(licence: str | None, tags: Sequence[str]) -> str:
    """The metadata that a hub reads; the licence only if one is given."""
    stated = [f"license: {licence}"] if licence else []
    listed = ", ".join(dict.fromkeys([*TAGS, *tags]))
    return "\n".join(["---", *stated, f"library_name: {HUB['library_name']}", f"tags: [{listed}]", "---"])


def model_card(figures: dict, written: str | None = None, licence: str | None = None, tags: Sequence[str] = ()) -> str:
    """The card with these figures; front matter and prose of the card `written` before are kept.

    A card without marks was written by hand and is returned unchanged.
    """
    head = re.match(r"---\n.*?\n---(?=\n)", written or "", re.DOTALL)
    prose = re.search(f"{re.escape(BEGIN)}\n(.*)\n{re.escape(END)}", written or "", re.DOTALL)
    if written and not prose:
        return written
    sections = {title: report.rows(figures, section) for title, section in report.SECTIONS.items()}
    text = TEMPLATES.get_template("card.md").render(
        figures=figures,
        sections={title: table for title, table in sections.items() if table},
        channels=report.channel_rows(figures),
        head=head[0] if head else front_matter(licence, tags),
        begin=BEGIN,
        prose=prose[1] if prose else PROSE,
        end=END,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
