"""Tab: the layers as files."""

import shutil
import tempfile
from pathlib import Path

import gradio as gr

from .. import export
from ..openraster import write_openraster
from .pictures import place
from .visit import Visit

ZIP, LAYERS, TIFF, NPZ = "zip", "ora", "tif", "npz"
KINDS = [
    ("Layered file for Krita, GIMP and others (.ora)", LAYERS),
    ("Everything as PNG pictures and numbers (.zip)", ZIP),
    ("All layers as float TIFF, exactly (.tif)", TIFF),
    ("All layers as NumPy arrays, exactly (.npz)", NPZ),
]
NOTES = {
    LAYERS: """The whole photo, with the face as a stack of layers: R, then for each channel one layer that is added (+) and one that
is taken away (-). With all layers visible the stack is the photo, bit for bit. Change a layer's opacity to change the channel's strength.""",
    ZIP: "A contact sheet, every layer raw, raised and added, the .npz, the .tif and decomposition.json, as <code>decomp decompose</code> writes them.",
    TIFF: "Thirty-two-bit pages that name their layer: the photo, R, the channels, E. Their sum is the photo.",
    NPZ: "Read it with <code>numpy.load</code>, or put it together again with <code>decomp recompose layers.npz</code>.",
}


def tab(page) -> None:
    kind = gr.Radio(KINDS, value=LAYERS, label="Take away")
    note = gr.HTML(_note(LAYERS))
    make = gr.Button("Make the file", variant="primary", elem_id="make")
    download = gr.DownloadButton("Download", visible=False, elem_id="take")

    kind.change(
        lambda kind: (_note(kind), gr.update(visible=False)),
        kind,
        [note, download],
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )

    def pack(visit: Visit, kind: str):
        path = write(visit, kind)
        return gr.update(
            value=str(path), label=f"Download {path.name} ({path.stat().st_size / 1e6:.1f} MB)", visible=True
        )

    make.click(page.plainly(pack), [page.visit, kind], download, show_progress_on=make, api_visibility="private")
    page.after_decomposing([download], lambda visit: [gr.update(visible=False)])


def _note(kind: str) -> str:
    return f'<p class="says">{NOTES[kind]}</p>'


def write(visit: Visit, kind: str) -> Path:
    """One of the files in `KINDS`, in the page's folder.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in NOTES:
        raise ValueError(f"kind of file is {kind!r}; accepted: {', '.join(NOTES)}")
    stem = Path(visit.name).stem or "photo"
    path = place(f"{stem}.{kind}" if kind in (ZIP, LAYERS) else f"{stem}.layers.{kind}")
    if kind == LAYERS:
        write_openraster(visit.whole(), path)
    elif kind == TIFF:
        export.write_tiff(visit.own, path)
    elif kind == NPZ:
        export.write_npz(visit.own, path)
    else:
        with tempfile.TemporaryDirectory() as folder:
            export.write_folder(visit.whole(), Path(folder) / stem)
            shutil.make_archive(str(path.with_suffix("")), "zip", folder)
    return path
