"""Tab: the face in relief, from the channels that carry light."""

import html
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np

from ..decomposer import Decomposer
from ..decomposition import Picture, to_bytes
from ..kinds import channels_of
from ..studio import mesh
from ..studio.landmarks import find_landmarks
from ..studio.relief import Relief, relief, shaded, towards
from .pictures import figure, figures, place, stored
from .strengths import compare, pasted
from .values import number, size_of
from .visit import Visit, enlarged

DEEPEST = 3.0
ASK = """<p class="says">The channels that carry light give the shading, the shading gives slopes, the slopes a height.
The result is a plausible bas-relief, not a measurement: the face is assumed to be symmetric, its surface matt, and the
light to come from above. The file relief.glb opens in Blender and in other viewers of glTF.</p>"""
NO_LIGHT = """<p class="says">No channel of this model carries light, so a relief would be a guess. You can choose
channels yourself.</p>"""
AGAIN = "the relief is no longer here; please make it again"


@dataclass(frozen=True)
class Made:
    """The state of a relief, for relighting."""

    arrays: Path  # height and mask as .npz in the visitor's folder
    light: tuple[float, float, float]


def tab(page) -> None:
    gr.HTML(ASK)
    kept = gr.State()
    with gr.Row():
        channels = gr.CheckboxGroup([], label="Channels that carry light", elem_id="relief-channels", scale=4)
        depth = gr.Slider(0.25, DEEPEST, 1, step=0.05, label="Depth", buttons=[], scale=1, min_width=160)
    says = gr.HTML(elem_id="relief-says")
    make = gr.Button("Make the relief", variant="primary", elem_id="make-relief")
    with gr.Row(visible=False) as shown:
        with gr.Column(scale=5, min_width=260):
            turned = gr.Image(
                label="Turning left and right", interactive=False, buttons=["fullscreen"], elem_id="relief", height=360
            )
            files = gr.DownloadButton("Download", elem_id="relief-files")
            surface = gr.HTML()
        with gr.Column(scale=5, min_width=260):
            relit = gr.HTML(elem_classes="result", elem_id="relit")
            azimuth = gr.Slider(
                -180, 180, 60, step=5, label="Light from, degrees (0 above, 90 right, -90 left)", buttons=[]
            )
            elevation = gr.Slider(
                5, 90, 40, step=5, label="Height of the light, degrees (90 at the camera)", buttons=[]
            )
            strength = gr.Slider(0, 1, 0.8, step=0.05, label="Strength of the light", buttons=[])
            save = gr.Button("Save the relit photo", size="sm", elem_id="save-relit")
            download = gr.DownloadButton("Download", elem_id="download-relit", elem_classes="unseen")

    light = [azimuth, elevation, strength]

    def light_up(visit: Visit, kept: Made | None, *wanted) -> dict:
        if kept is None:
            return {relit: ""}
        edited = lit(visit, kept, *wanted)
        return {relit: compare(visit.before, stored(visit.show(edited, "photo"), "edited.png"))}

    def build(visit: Visit, chosen, deep, *wanted) -> dict:
        r, note = made(page.models[visit.model], visit, chosen, deep)
        new, path = keep(r), written(visit, r)
        return {
            kept: new,
            says: f'<p class="says">{html.escape(note)}.</p>' if note else "",
            shown: gr.update(visible=True),
            turned: str(path / "turning.webp"),
            files: gr.update(
                value=str(path / "relief.zip"), label=f"Download all (.zip, {size_of(path / 'relief.zip')})"
            ),
            surface: seen(visit, r),
            **light_up(visit, new, *wanted),
        }

    def write(visit: Visit, kept: Made | None, *wanted):
        if kept is None:
            raise ValueError(AGAIN)
        path, _ = pasted(visit, lit(visit, kept, *wanted), None)
        return gr.update(value=str(path), label=f"Download {path.name} ({size_of(path)})")

    outputs = [kept, says, shown, turned, files, surface, relit]
    page.on(make.click, build, [channels, depth, *light], outputs, show_progress_on=make, concurrency_id="eyes")
    quick = {"show_progress": "hidden", "queue": False, "trigger_mode": "always_last"}
    page.on([slider.input for slider in light], light_up, [kept, *light], [relit], **quick)
    click = page.on(save.click, write, [kept, *light], [download], show_progress_on=save)
    click.success(None, js="() => decomp.download('download-relit')")

    def refresh(visit: Visit) -> dict:
        carrying = light_of(page.models[visit.model])
        return {
            kept: None,
            channels: gr.update(choices=[(f"{c.index} {c.name}", c.index) for c in visit.own.info], value=carrying),
            says: "" if carrying else NO_LIGHT,
            shown: gr.update(visible=False),
        }

    page.after_decomposing([kept, channels, says, shown], refresh)


def light_of(model: Decomposer) -> list[int]:
    """Numbers of the channels that carry light; empty where none does."""
    return channels_of(model.facts.roles, model.config.size, "light")


def made(model: Decomposer, visit: Visit, channels, depth) -> tuple[Relief, str | None]:
    """The relief of the face, and a sentence where no eyes were found.

    Raises:
        ValueError: no channel is chosen.
        ValueError: there is no such channel.
        ValueError: depth out of range.
    """
    if not isinstance(channels, list) or not channels:
        raise ValueError("no channel is chosen; accepted: at least one that carries light")
    depth = number(depth, "depth", 0.01, 100)
    d = visit.whole()
    landmarks = find_landmarks(model, d)
    return relief(d, landmarks.eyes, channels, depth), landmarks.note


def keep(r: Relief) -> Made:
    """Write the arrays for relighting."""
    path = place("relief.npz")
    np.savez(path, height=r.height, mask=r.mask)
    return Made(path, r.light)


def lit(visit: Visit, kept: Made, azimuth, elevation, strength) -> Picture:
    """The square lit from another direction.

    Raises:
        ValueError: the relief was deleted.
        ValueError: an angle is out of range.
    """
    azimuth, elevation = number(azimuth, "direction", -360, 360), number(elevation, "height of the light", 0, 90)
    strength = number(strength, "how much", 0, 2)
    try:
        with np.load(kept.arrays) as file:
            r = Relief(file["height"], kept.light, file["mask"])
    except OSError:
        raise ValueError(AGAIN) from None
    return r.relight(visit.own.picture, azimuth, elevation, strength)


def written(visit: Visit, r: Relief) -> Path:
    """A folder with relief.glb, turning.webp and, in relief.zip, all files of the relief."""
    folder = place("relief.glb").parent
    with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(folder / "relief.zip", "w") as file:
        mesh.write_folder(r, visit.whole(), Path(temporary))
        for path in sorted(Path(temporary).iterdir()):
            file.write(path, path.name)
        for name in ("relief.glb", "turning.webp"):
            (folder / name).write_bytes((Path(temporary) / name).read_bytes())
    return folder


def seen(visit: Visit, r: Relief) -> str:
    """The bare surface under two lights, and its normals."""
    grey = lambda plane: np.repeat(to_bytes(enlarged(2 * plane - 1, len(visit.view)))[..., None], 3, axis=2)
    n = r.normals()
    normals = to_bytes(enlarged(n * np.float32([1, -1, 1]), len(visit.view)))
    return figures(
        figure(grey(shaded(n, towards(-75, 40))), "Surface", "lit from the left"),
        figure(grey(shaded(n, towards(75, 40))), "Surface", "lit from the right"),
        figure(normals, "Normal map", "direction of the surface"),
    )
