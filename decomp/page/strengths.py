"""Tab: the strength of each channel, and the class each is drawn as."""

from pathlib import Path

import gradio as gr
from PIL import Image

from .. import photos, presets
from ..decomposition import Picture, to_bytes
from ..photos import Photo
from .pictures import img, place, stored
from .visit import Visit, turn

LOWEST, HIGHEST = -2.0, 4.0
FORMATS = {"as uploaded": None, "PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif"}
OWN = "as it is"
PREVIEW = 1280  # pixels, the longest side of the whole photo on the page

# Buttons that only move sliders run in the browser. Solo keeps R and one channel, as far as it is not at 0 itself.
MUTE = "(strength) => strength === 0 ? 1 : 0"
SOLO = "(...all) => all.map((strength, i) => i === 0 ? strength : i === {k} ? (strength || 1) : 0)"
RESET = "() => [null, ...Array({n}).fill(1)]"


def tab(page) -> None:
    with gr.Row():
        with gr.Column(scale=5, min_width=300, elem_classes="result-column"):
            result = gr.ImageSlider(
                label="Before | after",
                format="png",
                interactive=False,
                elem_classes="result",
                buttons=["fullscreen"],
                max_height=520,
            )
            base = gr.Radio(
                [("the photo", "photo"), ("the re-generated picture", "regenerated")],
                value="photo",
                label="Work on",
                info="The photo keeps what the network can't explain, so nothing is lost. Re-generated is what it draws by itself.",
            )
            preset = gr.Radio([], label="Presets", info="Chosen by what was measured of this model's channels.")
        with gr.Column(scale=5, min_width=300):
            with gr.Column(elem_classes="desk"):
                rows = [_strip(f"channel {k}", k) for k in range(1, page.most + 1)]
                residual, unexplained = _strip("R, the smooth base"), _strip("E, unexplained")
            reset = gr.Button("Reset all to 1", size="sm", elem_id="reset")
            with gr.Accordion("Turn into another class", open=False, elem_id="classes"):
                gr.HTML(
                    '<p class="says">Each channel can be drawn as another class: the fur of a dog, the eyes of a cat. This runs the network.</p>'
                )
                everything = gr.Dropdown([OWN], value=OWN, label="All channels", filterable=False)
                with gr.Row():
                    classes = [
                        gr.Dropdown([OWN], value=OWN, label=f"channel {k}", filterable=False, min_width=150)
                        for k in range(1, page.most + 1)
                    ]
            with gr.Accordion("Put it back into the whole photo", open=False, elem_id="back"):
                format = gr.Dropdown(list(FORMATS), value="as uploaded", label="File format", filterable=False)
                paste = gr.Button("Paste back", variant="primary")
                whole = gr.Image(
                    label="The whole photo", format="png", interactive=False, visible=False, buttons=["fullscreen"]
                )
                download = gr.DownloadButton("Download", visible=False, elem_id="download")
    sliders = [residual.slider, *(row.slider for row in rows), unexplained.slider]

    def strengths(visit: Visit, base: str, values: tuple) -> dict:
        """From the sliders' values; those of rows that are hidden for this model are left out."""
        r, channels, e = values[0], values[1 : 1 + len(visit.own.names)], values[-1]
        given = {"residual": r, "unexplained": e} | dict(enumerate(channels, start=1))
        if base == "regenerated":
            del given["unexplained"]
        return {layer: min(max(float(value), LOWEST), HIGHEST) for layer, value in given.items() if value is not None}

    def pair(visit: Visit, base: str, *values) -> tuple[str, str]:
        edited = visit.recompose(strengths(visit, base, values), base)
        return visit.before, str(stored(visit.show(edited, base), "edited.png"))

    def move(visit: Visit, base: str, *values):
        return pair(visit, base, *values), gr.update(visible=False), gr.update(visible=False)

    def paste_back(visit: Visit, base: str, format: str, *values):
        path, photo = pasted(visit, visit.recompose(strengths(visit, base, values), base), FORMATS.get(format))
        shown = Image.fromarray(photo.eight_bits)
        shown.thumbnail((PREVIEW, PREVIEW))
        label = f"Download {path.name} ({path.stat().st_size / 1e6:.1f} MB)"
        return gr.update(value=shown, visible=True), gr.update(value=str(path), label=label, visible=True)

    def choose(visit: Visit, name: str | None):
        values = presets.strengths(page.models[visit.model]).get(name, {})
        channels = [values.get(k, 1.0) for k in range(1, page.most + 1)]
        return [values.get("residual", 1.0), *channels, values.get("unexplained", 1.0)]

    def reclass(visit: Visit, base: str, everything: str, *rest):
        """Any change of a class; `everything` beats the single ones."""
        wanted, values = rest[: page.most], rest[page.most :]
        own = visit.own.domain
        targets = [everything if everything != OWN else own if c == OWN else c for c in wanted[: len(visit.own.names)]]
        visit = turn(visit, page.models[visit.model], targets)
        return visit, pair(visit, base, *values)

    gr.on(
        [slider.change for slider in sliders] + [base.change],
        page.plainly(move),
        [page.visit, base, *sliders],
        [result, whole, download],
        show_progress="hidden",
        trigger_mode="always_last",
        queue=False,
        api_name="page_sliders",
        api_visibility="undocumented",
    )
    preset.input(
        page.plainly(choose),
        [page.visit, preset],
        sliders,
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )
    reset.click(None, None, [preset, *sliders], js=RESET.replace("{n}", str(len(sliders))))
    for row in (residual, *rows, unexplained):
        row.mute.click(None, row.slider, row.slider, js=MUTE)
    for k, row in enumerate(rows, start=1):
        row.solo.click(None, sliders, sliders, js=SOLO.replace("{k}", str(k)))
    gr.on(
        [everything.input] + [c.input for c in classes],
        page.plainly(reclass),
        [page.visit, base, everything, *classes, *sliders],
        [page.visit, result],
        concurrency_id="model",
        concurrency_limit=1,
        show_progress_on=result,
        api_visibility="private",
    )
    paste.click(
        page.plainly(paste_back),
        [page.visit, base, format, *sliders],
        [whole, download],
        show_progress_on=paste,
        api_visibility="private",
    )

    def refresh(visit: Visit) -> list:
        d, model = visit.own, page.models[visit.model]
        choices = [OWN] + [c for c in model.config.domains if c != d.domain]
        updates = [(visit.before, visit.before), "photo", gr.update(choices=list(presets.strengths(model)), value=None)]
        for k in range(1, page.most + 1):
            here = k <= len(d.names)
            info = d.info[k - 1] if here else None
            label = f"{k} {info.name}" if here else ""
            updates += [
                gr.update(visible=here),
                img(to_bytes(d.raised(k))[::2, ::2], "") if here else "",
                gr.update(value=1, label=label),
                gr.update(choices=choices, value=OWN, label=label, visible=here),
            ]
        updates += [img(to_bytes(d.residual)[::2, ::2], ""), 1, img(to_bytes(d.raised("unexplained"))[::2, ::2], ""), 1]
        return updates + [gr.update(choices=choices, value=OWN), gr.update(visible=False), gr.update(visible=False)]

    outputs = [result, base, preset]
    for row, c in zip(rows, classes):
        outputs += [row.row, row.thumb, row.slider, c]
    outputs += [residual.thumb, residual.slider, unexplained.thumb, unexplained.slider, everything, whole, download]
    page.after_decomposing(outputs, refresh)


def pasted(visit: Visit, edited: Picture, suffix: str | None) -> tuple[Path, Photo]:
    """The whole photo with the edit in it, as a file with the photo's own EXIF, and as pixels.

    A suffix of None keeps the format of the photo; GIF and BMP become PNG, which can hold what they can't.
    Raises:
        PhotoError: transparency for a format without.
    """
    photo = visit.paste(edited)
    suffix = suffix or {"JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif"}.get(photo.format, ".png")
    path = place(f"{Path(visit.name).stem or 'photo'}.edited{suffix}")
    photos.save(photo, path)
    return path, photo


class _strip:
    """One row of the mixing desk."""

    def __init__(self, label: str, k: int | None = None):
        with gr.Row(elem_classes="strip") as self.row:
            self.thumb = gr.HTML(elem_classes="thumb")
            self.slider = gr.Slider(
                LOWEST, HIGHEST, 1, step=0.05, label=label, elem_id=f"strength-{k or label[0]}", buttons=[]
            )
            with gr.Column(elem_classes="pair"):
                if k:
                    self.solo = gr.Button(f"Solo {k}", size="sm", min_width=0)
                self.mute = gr.Button(f"Mute {k or label[0]}", size="sm", min_width=0)
