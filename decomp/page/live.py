"""Tab: the pictures of the camera with the channels at the sliders' strengths.

live.js sends one picture after the other, the next when the last has come back. Nothing is written to disk. Only the
place of the face and the last change are kept.
"""

import functools
import json
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping

import anyio
import cv2
import gradio as gr
import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .. import photos
from ..decomposer import Decomposer
from ..faces import Box, crop, paste
from ..photos import Photo, PhotoError
from ..video import CLASSIFIED, EVERY, STILL, Change, Edit, elected, square
from .guard import LIVE
from .strengths import HIGHEST, LOWEST
from .visit import Visit
from .visits import Gone

MOST = 4  # visitors at once
IDLE = 10  # seconds without a picture after which a place is free again
LARGEST_SIDE = 640  # pixels of a picture
LOOKS = 3  # the last looks for the face, whose median its box follows
EASE = 0.3  # of the way to where the face is, what the box goes from picture to picture
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]
CROWDED = f"{MOST} people use the live picture at the moment; please try again in a minute."
EXPLAINED = """<div class="says"><p>Your camera, with every channel at the strength of its slider: those of the tab
Strengths, which are here once more. The model is the one chosen beside. Pictures go to this page's server and back, and
are kept nowhere.</p></div>"""
PICTURE = """<div class="live"><video muted playsinline></video>
<canvas id="live-picture" role="img" aria-label="What the camera sees, edited"></canvas></div>"""


def tab(page) -> None:
    """Build it and say what its parts do."""
    gr.HTML(EXPLAINED)
    with gr.Row(elem_classes="desk-and-picture"):
        with gr.Column(scale=5, min_width=220, elem_classes="result-column"):
            gr.HTML(PICTURE)
            gr.HTML('<p id="live-says" class="says" role="status"></p>')
            with gr.Row(elem_classes="buttons"):
                start = gr.Button("Start the camera", variant="primary", size="sm", min_width=130, elem_id="live-start")
                stop = gr.Button("Stop", size="sm", min_width=60, elem_id="live-stop")
        with gr.Column(scale=5, min_width=220), gr.Column(elem_classes="desk"):
            others = page.mixer.sliders
            sliders = [
                gr.Slider(LOWEST, HIGHEST, 1, step=0.05, label=other.label, elem_id=f"live-{i}", buttons=[])
                for i, other in enumerate(others)
            ]
    start.click(None, js="() => { decomp.live.start(); }")
    stop.click(None, js="() => { decomp.live.stop(); }")
    for slider, other in zip(sliders, others):
        slider.input(None, slider, other, js="(value) => value")
        other.change(None, other, slider, js="(value) => value")

    def refresh(visit: Visit) -> dict:
        names = [f"{k} {name}" for k, name in enumerate(visit.own.names, start=1)]
        here = {slider: gr.update(label=name, visible=True) for slider, name in zip(sliders[1:-1], names)}
        return here | {slider: gr.update(visible=False) for slider in sliders[1 + len(names) : -1]}

    page.after_decomposing(sliders[1:-1], refresh)


class Live:
    """One visitor's face from picture to picture."""

    def __init__(self, model: Decomposer):
        self.model = model
        self.used = time.monotonic()
        self.shape = (0, 0)
        self._begin()
        self.change: Change | None = None
        self.asked: tuple | None = None  # what the change was made for

    def __call__(self, photo: Photo, strengths: Mapping[int | str, float]) -> np.ndarray:
        """(H, W, 3) uint8, edited."""
        shape = photo.pixels.shape[1::-1]
        if shape != self.shape:
            self.shape = shape
            self._begin()
        if self.count % EVERY == 0:
            self._look(photo)
        self.count += 1
        box = self._box()
        asked = tuple(sorted(strengths.items(), key=str)), self._domain()
        if asked != self.asked:
            self.change, self.asked = Change(self.model, Edit(strengths), asked[1]), asked
        if all(strength == 1 for strength in strengths.values()):
            return photo.pixels
        picture = crop(photo, box, self.model.config.size)
        return paste(photo, box, picture, picture + self.change(picture)).pixels

    def _begin(self) -> None:
        self.count = 0  # pictures
        self.looks: deque[Box | None] = deque(maxlen=LOOKS)
        self.votes: deque[dict[str, float]] = deque(maxlen=CLASSIFIED)
        self.way = self.goal = None  # centre and side of the box as it is, and as it shall be

    def _look(self, photo: Photo) -> None:
        boxes = list(self.model.find_faces(photo).values())
        found = [box for box in boxes if box.found != "centre"]
        self.looks.append(found[0] if found else None)
        self.votes.append(self.model.classify(photo, found[:1] or boxes))

    def _domain(self) -> str:
        """The class by a vote over the last searches: an input of the generator, never shown."""
        return elected(self.model.config.domains, self.votes)

    def _box(self) -> Box:
        width, height = self.shape
        seen = [(b.left + b.side / 2, b.top + b.side / 2, b.side) for b in self.looks if b]
        # the median leaves out what is a face for a moment only
        target = np.median(seen or [(width / 2, height / 2, min(width, height))], axis=0)
        if self.way is None:
            self.way = self.goal = target
        if np.abs(target - self.goal).max() > STILL * self.goal[2]:
            self.goal = target
        self.way = self.way + EASE * (self.goal - self.way)
        return square(self.way, width, height)


class Frames:
    """The address to which live.js sends its pictures."""

    def __init__(self, page):
        self.page = page
        self.people: OrderedDict[str, Live] = OrderedDict()
        self.lock = threading.Lock()
        self.one = anyio.CapacityLimiter(1)

    def route(self) -> Route:
        return Route(LIVE, self.answer, methods=["POST"])

    async def answer(self, request: Request) -> Response:
        """A JPEG for a JPEG; what is wrong in one sentence."""
        session, settings = (request.headers.get(name, "") for name in ("x-session", "x-settings"))
        data = await request.body()
        try:
            work = functools.partial(self.edited, session, settings, data)
            return Response(await anyio.to_thread.run_sync(work, limiter=self.one), media_type="image/jpeg")
        except Gone as error:
            return PlainTextResponse(str(error), 403)
        except (ValueError, MemoryError) as error:  # PhotoError is one
            return PlainTextResponse(str(error) or "This does not fit into the server's memory.", 400)

    def edited(self, session: str, settings: str, data: bytes) -> bytes:
        """The picture as it comes back.

        Raises:
            ValueError: it is no JPEG of at most 640 x 640 pixels, the settings are none, or there is no room.
        """
        visit = self.page.visits.present(session)
        strengths = self._strengths(visit, settings)
        if not data.startswith(b"\xff\xd8\xff"):
            raise PhotoError("the picture is no JPEG")
        photo = photos.load(data, LARGEST_SIDE**2, name="the camera's picture")
        pixels = self._place(session, self.page.models[visit.model])(photo, strengths)
        return cv2.imencode(".jpg", pixels[..., ::-1], QUALITY)[1].tobytes()

    def _strengths(self, visit: Visit, settings: str) -> dict:
        try:
            base, *values = json.loads(settings[:2000]) or ["photo", *[1.0] * len(self.page.mixer.sliders)]
        except (ValueError, TypeError):
            raise ValueError("the settings are no list of the base and the strengths") from None
        if len(values) != len(self.page.mixer.sliders):
            raise ValueError(f"{len(values)} strengths are given; accepted: {len(self.page.mixer.sliders)}")
        strengths = self.page.mixer.strengths(visit, base, values)
        return strengths if base == "photo" else strengths | {"unexplained": 0.0}

    def _place(self, session: str, model: Decomposer) -> Live:
        with self.lock:
            now = time.monotonic()
            for other in [s for s, live in self.people.items() if now - live.used > IDLE]:
                del self.people[other]
            live = self.people.get(session)
            if live is None or live.model is not model:
                if live is None and len(self.people) >= MOST:
                    raise ValueError(CROWDED)
                live = self.people[session] = Live(model)
            live.used = now
            return live
