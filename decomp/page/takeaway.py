"""Tab: the edited photo and the layers as files."""

import shutil
import tempfile
from pathlib import Path

import gradio as gr
import numpy as np
import tifffile

from .. import export
from ..decomposition import Decomposition
from ..openraster import write_openraster
from .pictures import place
from .values import choice, size_of
from .visit import Visit

ZIP, LAYERS, TIFF16, TIFF, NPZ = "zip", "ora", "tif16", "tif", "npz"
KINDS = [
    ("Layered file for Krita, GIMP and others (.ora)", LAYERS),
    ("Everything as PNG pictures and numbers (.zip)", ZIP),
    ("All layers as 16-bit TIFF, which every program opens (.tif)", TIFF16),
    ("All layers as float TIFF, exactly (.tif)", TIFF),
    ("All layers as NumPy arrays, exactly (.npz)", NPZ),
]
NOTES = {
    LAYERS: """The whole photo, with the face as a stack of layers: R, then for each channel one layer that is added (+)
and one that is taken away (-). With all layers visible the stack is the photo, bit for bit. Change a layer's opacity to
change the channel's strength.""",
    ZIP: """A contact sheet, every layer raw, raised and added, the .npz, the .tif and decomposition.json, as
<code>decomp decompose</code> writes them.""",
    TIFF16: """Sixteen-bit pages that name their layer: the photo, R, the channels, E. Of a channel and of E mid-grey is
zero; values beyond black and white are clipped.""",
    TIFF: """Thirty-two-bit pages that name their layer: the photo, R, the channels, E. Their sum is the photo. ImageJ,
Python's tifffile and scikit-image read it; most photo programs do not.""",
    NPZ: """Read it with <code>numpy.load</code>, or recompose it with
<code>decomp recompose layers.npz</code>.""",
}


def tab(page) -> None:
    gr.HTML('<p class="says">The photo with the current strengths, in its own format, with its EXIF.</p>')
    save = gr.Button("Save the edited photo", variant="primary", elem_id="save-here")
    edited = gr.DownloadButton("Download", elem_id="download-here", elem_classes="unseen")
    page.mixer.save_button(save, None, edited)

    kind = gr.Radio(KINDS, value=LAYERS, label="The layers as a file")
    note = gr.HTML(_note(LAYERS))
    make = gr.Button("Make the file", elem_id="make")
    download = gr.DownloadButton("Download", visible=False, elem_id="take")

    def explain(visit: Visit, kind: str) -> dict:
        return {note: _note(choice(kind, "kind of file", NOTES)), download: gr.update(visible=False)}

    def pack(visit: Visit, kind: str):
        path = write(visit, kind)
        return gr.update(value=str(path), label=f"Download {path.name} ({size_of(path)})", visible=True)

    page.on(kind.change, explain, [kind], [note, download], show_progress="hidden", concurrency_limit=None)
    page.on(make.click, pack, [kind], [download], show_progress_on=make)
    page.after_decomposing([download], lambda visit: {download: gr.update(visible=False)})


def _note(kind: str) -> str:
    return f'<p class="says">{NOTES[kind]}</p>'


def write(visit: Visit, kind: str) -> Path:
    """One of the files in `KINDS`, in the visitor's folder.

    Raises:
        ValueError: unknown kind.
    """
    choice(kind, "kind of file", NOTES)
    stem = Path(visit.name).stem or "photo"
    names = {TIFF16: f"{stem}.layers16.tif", TIFF: f"{stem}.layers.tif", NPZ: f"{stem}.layers.npz"}
    path = place(names.get(kind, f"{stem}.{kind}"))
    if kind == LAYERS:
        write_openraster(visit.whole(), path)
    elif kind == TIFF16:
        write_tiff16(visit.own, path)
    elif kind == TIFF:
        export.write_tiff(visit.own, path)
    elif kind == NPZ:
        export.write_npz(visit.own, path)
    else:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            export.write_folder(visit.whole(), Path(folder) / stem)
            shutil.make_archive(str(path.with_suffix("")), "zip", folder)
    return path


def write_tiff16(d: Decomposition, path: Path) -> None:
    """Every layer as a page of 16 bits, (layer + 1) / 2 of the range; each names its layer."""
    with tifffile.TiffWriter(path) as file:
        for name, picture in {"photo": d.picture, **export.layers(d)}.items():
            page = np.clip(np.rint((picture + 1) * 32767.5), 0, 65535).astype(np.uint16)
            file.write(page, photometric="rgb", compression="deflate", description=name, metadata=None)
