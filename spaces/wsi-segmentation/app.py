"""A Gradio app: a pushed model on an uploaded slide or region, its verdict, its map and its lesions.

    WSI_MODEL=org/name python app.py        # a repository on the Hub, or a folder

Uploads and results lie in a temporary folder, which goes with the process.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import gradio as gr
from transformers import pipeline

import wsi_hf  # noqa: F401  registers the task

MODEL = os.environ.get("WSI_MODEL", "org/name")
NOTICE = "For research. Not a medical device. Do not upload what may identify a patient."
RESULTS = TemporaryDirectory(prefix="wsi_hf-space-")

segment = pipeline("wsi-segmentation", model=MODEL)


def verdict_and_map(file: str | None, mpp: float | None) -> tuple[str, str, list[str]]:
    """Segment an upload.

    Args:
        file: a slide (SVS, TIFF, NDPI, DICOM, ...) or a region (PNG, JPEG).
        mpp: um a pixel of files that do not say.

    Returns:
        What the model says, as Markdown; the picture of slide and map; the files to download.
    """
    if file is None:
        raise gr.Error("Choose a file first.")
    try:
        result: Any = segment(file, mpp=mpp or None, out=mkdtemp(dir=RESULTS.name))
    except (RuntimeError, OSError, ValueError) as error:
        raise gr.Error(str(error)) from error
    folder = Path(result["folder"])
    lines = [f"## {result['label']} ({result['score']:.2f})", f"lesions: {result['lesions']}"]
    if spots := result["not_analysed"]:
        lines.append(f"places that could not be read: {len(spots)}")
    lines += [f"note: {warning}" for warning in result.get("warnings", ())]
    files = [str(path) for path in sorted(folder.iterdir()) if path.suffix in (".geojson", ".json", ".png", ".tif")]
    return "\n\n".join(lines), str(folder / "overlay.png"), files


with gr.Blocks(title="wsi_hf") as demo:
    gr.Markdown(f"# Tumour map of a slide\n\nModel: `{MODEL}`. {NOTICE}")
    with gr.Row():
        with gr.Column():
            upload = gr.File(label="Slide or region")
            resolution = gr.Number(label="um a pixel, for files that do not say (PNG, JPEG)", value=None)
            start = gr.Button("Segment", variant="primary")
        with gr.Column(scale=2):
            verdict = gr.Markdown()
            picture = gr.Image(label="Slide and probability map", type="filepath")
            downloads = gr.Files(label="Map, lesions for QuPath, summary")
    start.click(verdict_and_map, [upload, resolution], [verdict, picture, downloads], api_name="segment")

if __name__ == "__main__":
    demo.launch(allowed_paths=[RESULTS.name])
