"""Tab: the strength of each channel, and the class each is drawn as."""

import html
from pathlib import Path

import gradio as gr

from .. import photos, presets
from ..decomposition import Picture, to_bytes
from ..photos import Photo
from .pictures import address, img, place, refusal, stored
from .values import asked_for, choice, number, size_of
from .visit import Visit, turn

LOWEST, HIGHEST = -2.0, 4.0
FORMATS = {"as uploaded": None, "PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif"}
OWN = "as it is"
BASES = [("the photo", "photo"), ("the re-generated picture", "regenerated")]
PLAIN = """<div class="says"><p>The network has put different things into different <b>channels</b>: contours, fur,
light, colour. Each slider makes one of them stronger or weaker. 1 is the photo as it is, 0 takes the channel away,
2 doubles it.</p></div>"""
HOW = """<div class="says"><p><b>x = R + v<sub>1</sub> + … + v<sub>9</sub> + E.</b> The photo x is the sum of a smooth
base R, the channels v, and what the network leaves unexplained, E. A slider multiplies its part of the sum; nothing
else is done to the picture.</p>
<p><b>Solo</b> shows one channel on the base alone and <b>Mute</b> takes one away; pressed again, both give back what
was there before.</p>
<p>The address of this page carries your settings: keep it, or send it to somebody. It carries no photo.</p></div>"""
# One <img> for each side stays in place while only its address changes, so that nothing flickers as a slider moves.
COMPARE = """<div class="compare"{parts}><img class="under" src="{before}" alt="The face before the edit">
<img class="over" src="{after}" alt="The face after the edit, with the strengths of the sliders">
<input type="range" min="0" max="100" value="50" aria-label="Before and after: where one ends and the other begins"
oninput="document.documentElement.style.setProperty('--at', this.value + '%')"><b>Before</b><b>After</b></div>"""


def tab(page) -> None:
    """Build it and say what its parts do."""
    page.mixer = Mixer(page)


class Mixer:
    """The picture, its sliders and what moves them; one method an action.

    Buttons that only move sliders run in the browser (page.js).
    """

    def __init__(self, page):
        self.page = page
        gr.HTML(PLAIN)
        with gr.Row(elem_classes="desk-and-picture"):
            with gr.Column(scale=5, min_width=220, elem_classes="result-column"):
                self._build_picture()
            with gr.Column(scale=5, min_width=220):
                self._build_desk()
        with gr.Accordion("How it works", open=False):
            gr.HTML(HOW)
        self.sliders = [self.residual.slider, *(row.slider for row in self.rows), self.unexplained.slider]
        self.settings = [self.base, *self.sliders]
        moved = {
            "inputs": [self.base, *self.sliders],
            "outputs": [self.result, self.why],
            "show_progress": "hidden",
            "queue": False,
        }
        # every move goes to page.js, which asks for the exact picture by this button when nothing is dragged
        exact = gr.Button("Exact", elem_id="exact", elem_classes="unseen")
        gr.on(
            [*(slider.change for slider in self.sliders), self.base.change],
            None,
            self.settings,
            None,
            js="(...all) => { decomp.moved(all); }",
            trigger_mode="multiple",
        )
        page.on(
            exact.click,
            self.move,
            refused=self.refused,
            js="(...all) => decomp.asked ?? all",
            trigger_mode="always_last",
            api_name="page_sliders",
            api_visibility="undocumented",
            **moved,
        )
        work = page.plainly(page.of_visit(self.move), self.refused)
        self.keep_strengths = {"fn": work, "preprocess": False, "api_visibility": "private", **moved}
        arrived = "(...all) => { decomp.arrived(all); }"
        self.result.change(None, self.settings, None, js=arrived, trigger_mode="multiple")
        self._wire_buttons()
        once = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress_on": self.result}
        outputs = [self.result, self.why, self.everything, *self.classes]
        for triggers, work, chosen in (
            (self.everything.input, self.reclass_all, [self.everything]),
            ([c.input for c in self.classes], self.reclass, self.classes),
        ):
            page.on(triggers, work, [self.base, *chosen, *self.sliders], outputs, **once)
        self.save_button(self.save, self.format, self.download)
        page.after_decomposing(self._shown(), self.refresh)

    def _build_picture(self) -> None:
        self.result = gr.HTML(elem_classes="result")
        self.why = gr.HTML(elem_id="why")
        with gr.Row(elem_classes="buttons"):
            self.undo = gr.Button("Undo", size="sm", min_width=60, elem_id="undo")
            self.redo = gr.Button("Redo", size="sm", min_width=60, elem_id="redo")
            self.reset = gr.Button("Reset all to 1", size="sm", min_width=100, elem_id="reset")
        with gr.Row(elem_classes="buttons"):
            self.save = gr.Button("Save the edited photo", variant="primary", size="sm", min_width=150, elem_id="save")
            self.format = gr.Dropdown(
                list(FORMATS),
                value="as uploaded",
                show_label=False,
                label="File format",
                filterable=False,
                min_width=110,
            )
        self.download = gr.DownloadButton("Download", elem_id="download", elem_classes="unseen")

    def _build_desk(self) -> None:
        self.preset = gr.Radio([], label="Presets", elem_id="presets")
        with gr.Column(elem_classes="desk"):
            self.rows = [_Strip(f"channel {k}", k) for k in range(1, self.page.most + 1)]
            self.residual, self.unexplained = _Strip("R, the smooth base"), _Strip("E, unexplained")
        self.base = gr.Radio(
            BASES,
            value="photo",
            label="Work on",
            info="The photo keeps what the network can't explain, so nothing is lost. "
            "Re-generated is what it draws by itself.",
        )
        with gr.Accordion("Another class (an experiment)", open=False, elem_id="classes"):
            gr.HTML(
                '<p class="says">Each channel can be drawn as another class: a cat with the nose of a dog. Nose, eyes '
                "and fur are painted anew, the shape stays; often it looks painted. The model \u201casked\u201d "
                "changes little. This runs the network.</p>"
            )
            self.everything = gr.Dropdown([OWN], value=OWN, label="All channels", filterable=False)
            with gr.Row():
                self.classes = [
                    gr.Dropdown([OWN], value=OWN, label=f"channel {k}", filterable=False, min_width=150)
                    for k in range(1, self.page.most + 1)
                ]

    def _wire_buttons(self) -> None:
        page, moved = self.page, [self.preset, *self.sliders]
        page.on(
            self.preset.input, self.choose, [self.preset], self.sliders, show_progress="hidden", concurrency_limit=None
        )
        for button, act in ((self.undo, "undo"), (self.redo, "redo"), (self.reset, "reset")):
            button.click(None, self.sliders, moved, js=f"(...all) => decomp.{act}(all)")
        for i, row in enumerate([self.residual, *self.rows, self.unexplained]):
            row.mute.click(None, self.sliders, moved, js=f"(...all) => decomp.mute({i}, all)")
            if row.solo:
                row.solo.click(None, self.sliders, moved, js=f"(...all) => decomp.solo({i}, all)")
        gr.on([slider.input for slider in self.sliders], None, None, self.preset, js="() => null")

    def save_button(self, button: gr.Button, format: gr.Dropdown | None, download: gr.DownloadButton) -> None:
        """Let a button make the edited photo with the current strengths and hand it over at once."""
        inputs = [*self.settings, *([format] if format else [])]
        click = self.page.on(button.click, self.write, inputs, [download], show_progress_on=button)
        click.success(None, js=f"() => decomp.download('{download.elem_id}')")

    def strengths(self, visit: Visit, base: str, values) -> dict:
        """From the sliders' values; those of rows that are hidden for this model are left out."""
        choice(base, "what to work on", (key for _, key in BASES))
        given = {"residual": values[0], "unexplained": values[-1]}
        given |= {k: values[k] for k in range(1, len(visit.own.names) + 1)}
        if base == "regenerated":
            del given["unexplained"]
        return {
            layer: number(
                value, f"the strength of {layer if isinstance(layer, str) else f'channel {layer}'}", LOWEST, HIGHEST
            )
            for layer, value in given.items()
        }

    def move(self, visit: Visit, base: str, *values) -> dict:
        """What the picture shows at these strengths."""
        edited = visit.recompose(self.strengths(visit, base, values), base)
        after = stored(visit.show(edited, base), "edited.png")
        return {self.result: compare(visit.before, after, parts_of(visit)), self.why: ""}

    def refused(self, reason: str) -> dict:
        """The picture stays, and below it stands why."""
        return {self.why: refusal(reason)}

    def write(self, visit: Visit, base: str, *rest):
        """The edited photo as a file."""
        n = len(self.sliders)
        suffix = FORMATS[choice(rest[n], "the file format", FORMATS)] if len(rest) > n else None
        path, _ = pasted(visit, visit.recompose(self.strengths(visit, base, rest[:n]), base), suffix)
        return gr.update(value=str(path), label=f"Download {path.name} ({size_of(path)})")

    def choose(self, visit: Visit, name: str | None):
        """What the sliders show for a preset."""
        offered = presets.strengths(self.page.models[visit.model])
        values = offered[choice(name, "the preset", offered)]
        channels = [values.get(k, 1.0) for k in range(1, self.page.most + 1)]
        return [values.get("residual", 1.0), *channels, values.get("unexplained", 1.0)]

    def reclass_all(self, visit: Visit, base: str, everything: str, *values) -> dict:
        """All channels are drawn as one class."""
        return self.reclass(visit, base, *[everything] * len(self.classes), *values)

    def reclass(self, visit: Visit, base: str, *rest) -> dict:
        """Each channel is drawn as a class of its own; the list for all is empty while they differ."""
        wanted, values = rest[: self.page.most], rest[self.page.most :]
        model, own = self.page.models[visit.model], visit.own.domain
        wanted = [choice(c, "the class", [OWN, *model.config.domains]) for c in wanted[: len(visit.own.names)]]
        visit = self.page.framed(turn(visit, model, [own if c == OWN else c for c in wanted]))
        self.page.replace(visit)
        common = wanted[0] if len(set(wanted)) == 1 else None
        lists = {self.everything: gr.update(value=common)}
        lists |= {shown: gr.update(value=c) for shown, c in zip(self.classes, wanted)}
        return self.move(visit, base, *values) | lists

    def _shown(self) -> list:
        """What changes with a new photo."""
        parts = [self.result, self.preset, self.everything]
        for row, c in zip(self.rows, self.classes):
            parts += [row.row, row.thumb, row.slider, c]
        return [*parts, self.residual.thumb, self.unexplained.thumb]

    def refresh(self, visit: Visit) -> dict:
        """The strengths stay for the next photo; `keep_strengths` then shows them on it."""
        d, model = visit.own, self.page.models[visit.model]
        # leave its own class out only if it was stated: else the list would show how a person was classified
        choices = [OWN] + [c for c in model.config.domains if c != d.stated]
        common = turned_to(visit) or OWN
        updates = {
            self.result: compare(visit.before, visit.before, parts_of(visit)),
            self.preset: gr.update(choices=list(presets.strengths(model))),
            self.everything: gr.update(choices=choices, value=common),
            self.residual.thumb: img(to_bytes(d.residual)[::2, ::2], ""),
            self.unexplained.thumb: img(to_bytes(d.raised("unexplained"))[::2, ::2], ""),
        }
        for k, (row, c) in enumerate(zip(self.rows, self.classes), start=1):
            here = k <= len(d.names)
            label = f"{k} {d.info[k - 1].name}" if here else ""
            updates |= {
                row.row: gr.update(visible=here),
                row.thumb: img(to_bytes(d.raised(k))[::2, ::2], "") if here else "",
                row.slider: gr.update(label=label),
                c: gr.update(choices=choices, value=common, label=label, visible=here),
            }
        return updates

    def from_address(self, search: str) -> dict:
        """Sliders and base as the page's address asks for; whatever it does not say, or says wrongly, stays."""
        asked = asked_for(search)
        updates = {}
        for part in asked.get("strengths", "").split(","):
            layer, _, value = part.partition(":")
            names = ["residual", *map(str, range(1, len(self.rows) + 1)), "unexplained"]
            try:
                updates[self.sliders[names.index(layer)]] = number(value, layer, LOWEST, HIGHEST)
            except ValueError:
                continue
        if asked.get("base") == "regenerated":
            updates[self.base] = "regenerated"
        return updates


def compare(before: Path | str, after: Path | str, parts: str = "") -> str:
    """Two pictures on each other, and where one ends and the other begins."""
    return COMPARE.format(before=address(before), after=address(after), parts=parts)


def parts_of(visit: Visit) -> str:
    """What page.js needs: the layers, to add them up while a slider is dragged, and what goes into the address."""
    data = {
        "parts": address(visit.sheet),
        "scales": ",".join(f"{scale:.6g}" for scale in visit.scales),
        "model": visit.model,
        "size": len(visit.own.picture),
        "class": "" if visit.own.confidence else visit.own.domain,
        "as": turned_to(visit),
    }
    return "".join(f' data-{key}="{html.escape(str(value), quote=True)}"' for key, value in data.items())


def turned_to(visit: Visit) -> str:
    """The class that all channels are drawn as; empty if it is their own, or several."""
    targets = set(visit.turned.targets)
    return targets.pop() if len(targets) == 1 and visit.turned.turned else ""


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


class _Strip:
    """One row of the mixing desk."""

    def __init__(self, label: str, k: int | None = None):
        name = k or label[0]
        with gr.Row(elem_classes="strip") as self.row:
            self.thumb = gr.HTML(elem_classes="thumb")
            self.slider = gr.Slider(LOWEST, HIGHEST, 1, step=0.05, label=label, elem_id=f"strength-{name}", buttons=[])
            with gr.Column(elem_classes="pair"):
                self.solo = gr.Button(f"Solo {k}", size="sm", min_width=0, elem_id=f"solo-{k}") if k else None
                self.mute = gr.Button(f"Mute {name}", size="sm", min_width=0, elem_id=f"mute-{name}")
