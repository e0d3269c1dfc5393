"""The left column: the photo, where its face is, the model."""

import html
from dataclasses import replace
from pathlib import Path

import gradio as gr

from .. import photos
from ..choice import choose
from ..decomposer import Decomposer
from . import uploads
from .pictures import outlined, place, refusal
from .values import asked_for, choice, number
from .visit import Visit, box_in_percent, centred_box, receive, turn

EXAMPLES = Path(__file__).parents[1] / "examples"
AUTO = "auto"
FOUND = {
    "cat": "found by the cat detector",
    "human": "found by the face detector",
    "centre": "not searched for or not found, so the centre",
    "given": "where you put it",
}
SQUARE = {
    "Centre across, % of the width": 0,
    "Centre down, % of the height": 0,
    "Side, % of the short side": 5,
}  # lowest


def column(page) -> None:
    """Build it and say what its parts do."""
    page.photo_column = Column(page)


class Column:
    """The parts of the column; one method an action."""

    def __init__(self, page):
        self.page = page
        self._build()
        keep = [self.model, self.domain, self.size]
        page.decomposing(self.photo.input, self.upload, [self.model, self.size, self.photo], known=False)
        for stem, button in self.buttons.items():
            page.decomposing(button.click, lambda stem=stem: page.examples[stem], [], known=False, run=False)
        page.decomposing(self.model.input, self.change_model, [self.model])
        page.decomposing([self.domain.input, self.size.input], self.change_options, keep)
        page.decomposing(self.find.click, self.again, keep)
        page.decomposing([self.use.click, *(s.release for s in self.square)], self.move_square, [*keep, *self.square])
        page.decomposing(self.scene.select, self.click, [*keep, self.square[2]])
        page.on(
            [s.input for s in self.square],
            self.draw,
            self.square,
            [self.scene],
            show_progress="hidden",
            trigger_mode="always_last",
            concurrency_limit=None,
        )
        outputs = [self.photo, self.scene, self.says, self.model, self.domain, self.size, *self.square]
        page.after_decomposing(outputs, self.refresh)

    def _build(self) -> None:
        page = self.page
        self.photo = gr.Image(
            label="Your photo",
            sources=["upload", "webcam", "clipboard"],
            height=190,
            format="png",
            elem_id="photo",
            buttons=[],
            placeholder="Drop a photo of a face here\n- or -\nClick to choose one",
        )
        with gr.Row(elem_classes="examples"):
            self.buttons = {
                stem: gr.Button(stem.capitalize(), size="sm", icon=str(EXAMPLES / f"{stem}.png"), min_width=100)
                for stem in page.examples
            }
        self.scene = gr.Image(
            label="The photo and the square of the face",
            alt_text="The photo, with everything outside the square of the face dimmed",
            show_label=False,
            format="png",
            interactive=False,
            elem_id="scene",
            buttons=[],
        )
        self.says = gr.HTML(elem_id="says")
        self.model = gr.Radio(
            [(label(name, model), name) for name, model in page.models.items()],
            value=next(iter(page.models)),
            label="Model",
            elem_id="model",
        )
        with gr.Accordion("Class, size, square", open=False):
            self.domain = gr.Dropdown([AUTO], value=AUTO, label="Class of the photo", filterable=False)
            self.size = gr.Radio([], label="Pixels of the decomposed square")
            self.square = [
                gr.Slider(lowest, 100, 50, step=0.5, label=label, buttons=[]) for label, lowest in SQUARE.items()
            ]
            with gr.Row():
                self.use = gr.Button("Use this square", size="sm", min_width=120)
                self.find = gr.Button("Find the face again", size="sm", min_width=120)

    def upload(self, name: str, size: int, photo: dict | None, progress=gr.Progress()) -> Visit | None:
        if photo is None:
            return None
        progress(0, desc="Finding the face and running the network")
        path = place("original", kept=True)
        uploads.keep(photo, path)
        decoded = photos.load(path, name=photo["orig_name"])
        found = choose(decoded, self.page.models, preferred=name)
        size = size if found.model in (None, name) else 0  # of another model the size it was trained at
        visit = self._fresh(found.model or name, path, photo["orig_name"], AUTO, size, photo=decoded)
        return replace(visit, choice=found)

    def _fresh(self, name: str, source: Path, title: str, domain: str, size: int, box=None, photo=None) -> Visit:
        model = self.page.models[choice(name, "model", self.page.models)]
        size = size if size in self._sizes(name) else model.config.size
        return self.page.framed(receive(model, name, source, title, domain, size, box, photo))

    def again(self, visit: Visit, name: str, domain: str, size: int, box=None) -> Visit:
        """The same photo decomposed with what the column says now; the face is found anew unless a box is given."""
        domains = self.page.models[choice(name, "model", self.page.models)].config.domains
        fresh = self._fresh(name, visit.source, visit.name, domain if domain in domains else AUTO, size, box)
        return replace(fresh, choice=visit.choice)

    def change_model(self, visit: Visit, name: str) -> Visit:
        return self.again(visit, name, AUTO, 0)

    def change_options(self, visit: Visit, name: str, domain: str, size: int) -> Visit:
        return self.again(visit, name, domain, size, visit.own.box if visit.own.box.found == "given" else None)

    def move_square(self, visit: Visit, name: str, domain: str, size: int, *percent) -> Visit:
        return self.again(visit, name, domain, size, centred_box(visit, *_percent(percent)))

    def click(self, visit: Visit, name: str, domain: str, size: int, part: float, at: gr.SelectData) -> Visit:
        height, width = visit.scene.shape[:2]
        if not isinstance(at.index, (list, tuple)) or len(at.index) < 2:
            raise ValueError("this click names no place in the photo")
        across = number(at.index[0], "place across", 0, width)
        down = number(at.index[1], "place down", 0, height)
        percent = _percent((100 * across / width, 100 * down / height, part))
        return self.again(visit, name, domain, size, centred_box(visit, *percent))

    def draw(self, visit: Visit, *percent):
        left, top, side = (value / visit.size[0] for value in centred_box(visit, *_percent(percent)))
        return outlined(visit.scene, left, top, side)

    def from_address(self, visit: Visit, search: str) -> Visit | None:
        """The example with the options in the page's address; None if it has them already. Wrong ones are ignored."""
        asked, model = asked_for(search), self.page.models[visit.model]
        size = next((size for size in self._sizes(visit.model) if str(size) == asked.get("size")), model.config.size)
        domain, target = (name if name in model.config.domains else None for name in map(asked.get, ("class", "as")))
        if domain or size != len(visit.own.picture):
            visit = self.again(visit, visit.model, domain or AUTO, size)
        elif not target:
            return None
        return self.page.framed(turn(visit, model, [target] * model.config.branches)) if target else visit

    def refused(self, reason: str) -> dict:
        """Empty the photo's field; the reason stays on the page until there is a photo."""
        return {self.photo: None, self.says: refusal(reason)}

    def refresh(self, visit: Visit) -> dict:
        d, model = visit.own, self.page.models[visit.model]
        config = model.config
        left, top, side = (value / visit.size[0] for value in (d.box.left, d.box.top, d.box.side))
        labels = [(f"{s}, as trained" if s == config.size else str(s), s) for s in self._sizes(visit.model)]
        width, height = visit.size
        return {
            self.photo: None,
            self.scene: outlined(visit.scene, left, top, side),
            self.says: f'<p class="says">{taken_for(visit, model)}<br>Face: {FOUND[d.box.found]}, '
            f"{d.box.side} of {width} x {height} pixels. Click the photo to move it.</p>",
            self.model: visit.model,
            self.domain: gr.update(choices=[AUTO, *config.domains], value=AUTO if d.confidence else d.domain),
            self.size: gr.update(choices=labels, value=len(d.picture)),
            **dict(zip(self.square, box_in_percent(visit))),
        }

    def _sizes(self, name: str) -> list[int]:
        return sorted({self.page.models[name].config.size, 128, 256})


def label(name: str, model: Decomposer) -> str:
    """A model in the list: its classes, and whether its channels were told what to carry."""
    return f"{name}: {', '.join(model.config.domains)}{'; channels made to order' if model.facts.asked_for else ''}"


def taken_for(visit: Visit, model: Decomposer) -> str:
    """One sentence: the class of the photo if it is certain, and why this model was picked."""
    found, d = visit.choice, visit.own
    name, stated = html.escape(visit.model), html.escape(d.stated or "")
    if found and found.model:
        looks = f"Looks like a <b>{html.escape(found.stated)}</b> ({found.confidence:.0%} sure)"
        if found.model != visit.model:
            return f"{looks}, for which the model {html.escape(found.model)} is made; you chose {name}."
        if d.confidence:
            return f"{looks}, so the model <b>{name}</b> was picked; you can change it below."
    if d.stated and not d.confidence:
        return f"Class <b>{stated}</b>, as you chose."
    if found and not found.model:
        return f"{html.escape(found.sentence)}. Shown is the model {name}."
    if d.stated:
        return f"Looks like a <b>{stated}</b> ({model.guess(d.confidence)[1]:.0%} sure)."
    return "No class is sure, so none is stated: choose the model and the class that fit best."


def _percent(values) -> list[float]:
    return [number(value, label.partition(",")[0].lower(), 0, 100) for value, label in zip(values, SQUARE)]
