"""Pictures a second of the page's tab Live: `python tests/benchmarks/live.py` prints one JSON object.

Starts `decomp ui`, then one visitor sends the bundled cat as a camera of 320 x 240 pixels would, each picture when the
last has come back, with the face decomposed at 128 x 128; in turns with it the network's own time for that edit is
taken in this process. Times are medians; `times_the_network` is the one divided by the other.
"""

import io
import json
import os
import statistics
import time

import httpx
import numpy as np
import torch
from page import EXAMPLE, events, processor, start
from PIL import Image

import decomp
from decomp.faces import crop, find_face
from decomp.photos import Photo
from decomp.video import Change, Edit

PICTURES = 60
EDITS = {
    "one channel": {3: 2.0},
    "three channels": {1: 2.0, 3: 2.0, 5: 0.0},
    "all nine": dict.fromkeys(range(1, 10), 1.5),
}


def main() -> None:
    process, url, _ = start()
    try:
        http = httpx.Client(timeout=600)
        load = events(url)["load"]
        body = {"data": ["?model=animals"], "fn_index": load, "session_hash": "camera"}
        assert http.post(f"{url}/gradio_api/run/predict", json=body).status_code == 200
        with Image.open(EXAMPLE) as image:
            frame = image.convert("RGB").resize((320, 240))
        file = io.BytesIO()
        frame.save(file, "JPEG", quality=90)
        photo, model = Photo(np.asarray(frame)), decomp.load("animals")
        square = crop(photo, find_face(photo, "cat"), model.config.size)
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0))))
        result = {"load_average": os.getloadavg()[0]}
        for name, strengths in EDITS.items():
            settings = json.dumps(["photo", 1.0, *(strengths.get(k, 1.0) for k in range(1, 10)), 1.0])
            headers = {"X-Session": "camera", "X-Settings": settings}
            change, taken, network, used = Change(model, Edit(strengths), "cat"), [], [], 0.0
            for i in range(PICTURES + 5):
                before, started = processor(process), time.perf_counter()
                answer = http.post(f"{url}/gradio_api/live", content=file.getvalue(), headers=headers)
                seconds = time.perf_counter() - started
                assert answer.status_code == 200, answer.text
                if i >= 5:  # what is loaded once is loaded
                    taken.append(seconds)
                    used += processor(process) - before
                started = time.perf_counter()
                change(square)
                network.append(time.perf_counter() - started)
            result[name] = {
                "pictures_a_second": len(taken) / sum(taken),
                "median_ms": 1000 * statistics.median(taken),
                "processor_ms": 1000 * used / len(taken),
                "network_ms": 1000 * statistics.median(network),
                "times_the_network": statistics.median(taken) / statistics.median(network),
            }
        print(json.dumps(result, indent=2))
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
