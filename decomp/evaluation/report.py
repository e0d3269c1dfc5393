"""One page about the quality of a model: every figure, what it means, which direction is good, and pictures."""

import base64
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .. import photos
from ..decomposer import Decomposer
from ..decomposition import to_bytes
from ..faces import find_face
from ..files import atomic
from ..metrics import ACTIVE
from ..templates import TEMPLATES
from .evaluate import Labelled


@dataclass(frozen=True)
class Figure:
    """One number of `figures.json` and how to read it."""

    key: str  # "a.b" is b inside a
    name: str
    form: str  # format of the value
    meaning: str  # one sentence
    good: str = ""  # which way is good
    low: float | None = None  # bars for the nine channels of a released model
    high: float | None = None
    beside: tuple[str, str] | None = None  # what to read it against: a key and words


SECTIONS = {
    "The photo, re-generated in its own class": [
        Figure(
            "lpips_vgg",
            "LPIPS-VGG",
            "{:.3f}",
            "How different f(x) looks from the photo, as people judge it; 0 is the same picture.",
            "lower",
            high=0.25,
            beside=("lpips_vgg_of_residual", "R alone"),
        ),
        Figure(
            "psnr",
            "PSNR",
            "{:.1f} dB",
            "How close the pixels of f(x) are to the photo's; 3 dB more is half the squared error.",
            "higher",
            beside=("psnr_of_residual", "R alone"),
        ),
        Figure(
            "ssim",
            "SSIM",
            "{:.3f}",
            "How much of the photo's local structure f(x) keeps; 1 is all of it.",
            "higher",
            beside=("ssim_of_residual", "R alone"),
        ),
        Figure(
            "fd_efficientnet_lite0",
            "FD-EfficientNet-Lite0",
            "{:.2f}",
            "Frechet distance of the f(x) from the photos, on features of EfficientNet-Lite0; not comparable with FID.",
            "lower",
            beside=("fd_efficientnet_lite0_of_residual", "R alone"),
        ),
        Figure(
            "fid",
            "FID",
            "{:.2f}",
            "The same distance on Inception's features, as papers give it; with few photos it is too high.",
            "lower",
            beside=("fid_of_residual", "R alone"),
        ),
        Figure(
            "accuracy_regenerated",
            "still classified as its own class",
            "{:.1%}",
            "Share of the f(x) that a classifier trained on real photos puts in the photo's class.",
            "higher",
            beside=("accuracy_real", "real photos"),
        ),
    ],
    "The photo, turned into another class": [
        Figure(
            "accuracy_transferred",
            "class-transfer accuracy",
            "{:.1%}",
            "Share of transferred photos that a classifier trained on real photos puts in the target class.",
            "higher",
            low=0.60,
            beside=("accuracy_real", "real photos of a class"),
        ),
        Figure(
            "transfer_fd_efficientnet_lite0",
            "FD-EfficientNet-Lite0",
            "{:.2f}",
            "Distance of transferred photos from real ones of that class, mean over classes.",
            "lower",
            beside=("transfer_fd_efficientnet_lite0_of_source", "before the transfer"),
        ),
        Figure(
            "transfer_fd_efficientnet_lite0_of_training",
            "the same of real training photos",
            "{:.2f}",
            "The distance of real photos: the lowest value to expect.",
        ),
        Figure(
            "transfer_fid",
            "FID",
            "{:.2f}",
            "The same distance on Inception's features.",
            "lower",
            beside=("transfer_fid_of_source", "before the transfer"),
        ),
    ],
    "What the branches have become": [
        Figure(
            "tv_ratio",
            "TV(R) / TV(x)",
            "{:.2f}",
            "How much of the photo's variation is left in R; near 1 the channels are empty, near 0 R is.",
            "in between",
            low=0.1,
            high=0.5,
        ),
        Figure(
            "active",
            "active channels",
            "{:d}",
            "Channels with at least a tenth of the largest channel's root mean square; the others are silent.",
            "higher",
            low=6,
        ),
        Figure(
            "weakest_to_strongest",
            "weakest channel to strongest",
            "{:.2f}",
            "Root mean square of the weakest channel over that of the strongest.",
            "higher",
            low=0.25,
        ),
        Figure(
            "visible",
            "sliders that change something",
            "{:d}",
            "Channels whose strength 0 or 2 changes a photo by an LPIPS of 0.02 or more.",
            "higher",
            low=7,
        ),
        Figure(
            "noticed",
            "sliders that are noticed",
            "{:d}",
            "Channels whose strength 0 or 2 changes 5 % of the pixels by 2.3 (CIEDE2000) or more: just noticeable.",
            "higher",
            low=7,
        ),
        Figure(
            "least.mirror",
            "steady when mirrored, least channel",
            "{:.2f}",
            "Correlation of a channel with itself on the mirrored photo.",
            "higher",
            low=0.9,
        ),
        Figure(
            "least.scale 75 %",
            "steady at 0.75 of the size, least channel",
            "{:.2f}",
            "Correlation of a channel with itself on a smaller photo.",
            "higher",
            low=0.8,
        ),
        Figure(
            "most.stamp",
            "stamp share, most channel",
            "{:.2f}",
            "Share of a channel's energy that is the same in every photo.",
            "lower",
            high=0.1,
        ),
        Figure(
            "most.mesh",
            "mesh, most channel",
            "{:.2f}",
            "Energy at periods of 2 and 4 pixels against neighbouring frequencies; 1 is no mesh.",
            "lower",
            high=1.2,
        ),
        Figure(
            "channel_correlation",
            "correlation between channels",
            "{:.3f}",
            "Mean absolute correlation of two active channels in a photo; 0 means that they show different things.",
            "lower",
            high=0.15,
        ),
        Figure(
            "linear_share_mean",
            "linear share",
            "{:.2f}",
            "R\u00b2 of a per-pixel linear fit of v_k on all phi; at 1 the network is a fixed filter bank.",
            "lower",
            high=0.8,
        ),
        Figure(
            "input_correlation_mean",
            "correlation of v_k with phi_k",
            "{:.2f}",
            "Mean absolute correlation of a channel with the input of its branch; at 1 the branch does nothing.",
            "lower",
        ),
        Figure(
            "eyes.best.concentration",
            "best channel at the eyes",
            "{:.2f}",
            "Energy per pixel at a cat's eyes relative to the whole square; 1: no stronger at the eyes.",
            "higher",
            beside=("eyes.concentration_of_detail", "the photo's detail x - R"),
        ),
        Figure(
            "stability.mean",
            "stability between two seeds",
            "{:.2f}",
            "Mean absolute correlation of matched channels of two models; at 1 the same channels come out again.",
            "higher",
            beside=("stability.mean_of_random_pairs", "channels paired at random"),
        ),
    ],
    "Exactness, size, and the classifier": [
        Figure(
            "identity_error_diffusion",
            "largest error of x = R + sum phi_k",
            "{:.1e}",
            "Holds for any weights, up to the rounding of 32-bit numbers.",
            "lower",
        ),
        Figure(
            "identity_error_layers",
            "largest error of x = R + sum v_k + E",
            "{:.1e}",
            "The photo is restored exactly if no strength is changed.",
            "lower",
        ),
        Figure("parameters", "parameters of the generator", "{:,d}", "All branches and the diffusion together."),
        Figure("parameters_of_p", "parameters of p", "{:,d}", "The network of the diffusion; the paper's has 40,500."),
        Figure("gmac", "GMAC", "{:.2f}", "Multiply-accumulates, in billions, for one photo at the size of training."),
        Figure(
            "auto_accuracy",
            "class found automatically",
            "{:.1%}",
            "Accuracy of the classifier on real photos, with the search for the face in front.",
            "higher",
        ),
        Figure(
            "auto_stated",
            "class stated",
            "{:.1%}",
            "Share of real photos whose class is stated: calibrated probability of 80 % or more.",
            "higher",
        ),
        Figure(
            "auto_stated_right",
            "stated class correct",
            "{:.1%}",
            "Share of the stated classes that are correct.",
            "higher",
        ),
        Figure(
            "auto_stated_of_other",
            "class stated of other things",
            "{:.1%}",
            "Share of photos of anything else for which a class is stated.",
            "lower",
        ),
        Figure(
            "reliability.expected_calibration_error",
            "expected calibration error",
            "{:.3f}",
            "Mean difference between predicted probability and accuracy, over ten bins.",
            "lower",
        ),
    ],
}


# lists of one number a channel, see channel_figures.py
MORE_OF_CHANNELS = (
    "steadiness.mirror",
    "steadiness.shift",
    "steadiness.scale 75 %",
    "steadiness.scale 50 %",
    "steadiness.JPEG 85",
    "steadiness.next class",
    "stamp",
    "mesh",
    "effect.0",
    "effect.2",
    "colour_change.0",
    "colour_change.2",
)


def value(figures: dict, key: str):
    """The figure at "a.b", or None where it was not measured."""
    for part in key.split("."):
        figures = figures.get(part) if figures else None
    return figures


def rows(figures: dict, section: Sequence[Figure]) -> list[dict]:
    """What the templates show of a section's figures; those that were not measured are left out."""
    shown = []
    for f in section:
        number = value(figures, f.key)
        if number is None:
            continue
        other = value(figures, f.beside[0]) if f.beside else None
        met = None if f.low is f.high is None else (f.low or number) <= number <= (f.high or number)
        limits = [("\u2265", f.low), ("\u2264", f.high)]
        bars = [f"{sign} {f.form.format(bar)}" for sign, bar in limits if bar is not None]
        shown.append(
            {
                "name": f.name,
                "value": f.form.format(number),
                "beside": f"{f.beside[1]}: {f.form.format(other)}" if other is not None else "",
                "bar": ", ".join(bars),
                "met": met,
                "good": f.good,
                "meaning": f.meaning,
            }
        )
    return shown


def channel_rows(figures: dict) -> list[dict]:
    """One row for each channel."""
    energy = figures["rms_channels"]
    silent = [e < ACTIVE * max(energy) for e in energy]
    at_eyes = value(figures, "eyes.concentration") or [None] * len(energy)
    columns = (figures["channels"], energy, silent, figures["input_correlation"], figures["linear_share"], at_eyes)
    keys = ("name", "energy", "silent", "input", "linear", "eyes")
    table = [{"number": k, **dict(zip(keys, row))} for k, row in enumerate(zip(*columns), start=1)]
    more = {name.replace("steadiness.", ""): value(figures, name) for name in MORE_OF_CHANNELS}
    asked_for = figures.get("asked_for") or [""] * len(energy)
    for k, row in enumerate(table):
        row["name"] += asked_for[k] and f" (asked for: {asked_for[k]})"
        row["more"] = [(name, values[k]) for name, values in more.items() if values]
    return table


def data_uri(picture) -> str:
    """A picture (H, W, 3) in [-1, 1] as WebP in a data URI, so that the page loads nothing."""
    file = io.BytesIO()
    Image.fromarray(to_bytes(picture)).save(file, "WEBP", quality=92)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def pictures(model: Decomposer, chosen: Labelled) -> list[dict]:
    """The first photo of each class: the photo, f(x), each other class, R, and the channels with contrast raised."""
    domains = model.config.domains
    shown = []
    for label, domain in enumerate(domains):
        photo = photos.load(next(path for path, k in chosen if k == label))
        box = find_face(photo, "centre")  # as everything here is measured
        d = model.decompose(photo, domain, box=box)
        tiles = [("photo", d.picture), ("f(x), re-generated", d.regenerated)]
        others = [other for other in domains if other != domain]
        tiles += [(f"turned into {o}", model.decompose(photo, domain, o, box=box).regenerated) for o in others]
        tiles += [("R", d.residual)] + [(f"{c.index} {c.name}", d.raised(c.index)) for c in d.info]
        shown.append({"domain": domain, "tiles": [(caption, data_uri(tile)) for caption, tile in tiles]})
    return shown


def page(figures: dict, shown: Iterable[dict]) -> str:
    """The report as a self-contained HTML page: no script, no font, no request."""
    sections = {title: rows(figures, section) for title, section in SECTIONS.items()}
    distance = "transfer_fd_efficientnet_lite0{}_per_class"
    endings = {"photos turned into it": "", "the same before the transfer": "_of_source"}
    endings |= {"real training photos": "_of_training"}
    of_class = {name: figures.get(distance.format(ending)) for name, ending in endings.items()}
    return TEMPLATES.get_template("report.html").render(
        figures=figures,
        sections={title: table for title, table in sections.items() if table},
        distances={name: values for name, values in of_class.items() if values},
        channels=channel_rows(figures),
        covariance=[[1000 * c for c in row] for row in figures["covariance"]],
        pictures=shown,
    )


def write(folder: Path, figures: dict, shown: Iterable[dict]) -> None:
    """`figures.json` and `report.html`."""
    written = {"figures.json": json.dumps(figures, indent=2) + "\n", "report.html": page(figures, shown)}
    for name, text in written.items():
        with atomic(folder / name) as temporary:
            temporary.write_text(text)
