"""The web page under load: `python tests/benchmarks/page.py` prints one JSON object.

Starts `decomp ui` on a free port and, through `gradio_client` on loopback, measures

- cold start: from the command to the page, and to the first decomposed upload;
- a slider move at 256 x 256 pixels, as the page itself asks for it when a slider is let go (while it is dragged the
  browser adds the layers up alone and the server is not asked): time of the HTTP answer, with 1 and with 20 people, who
  move again at once, or drag and let go once a second;
- a decompose with 1 and with 20 people at once, who wait for each other;
- processor time of the server for each, which does not depend on what else the machine is doing;
- memory of the server after 20 and after 200 decompositions, by one visitor and by one visitor each;
- with --drag, only the last of these, and the memory before and after;
- with --crowd N, only this: N visitors who come at once, each with a photo, five slider moves and the edited photo:
  errors, median and 95th percentile, memory and files before and after.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

EXAMPLE = Path(__file__).parents[2] / "decomp" / "examples" / "cat.png"


class Visitor:
    """One browser's session, speaking to the server as the page does."""

    def __init__(self, url: str, name: str, events: dict):
        self.url, self.session, self.events = f"{url}/gradio_api", name, events
        self.http = httpx.Client(timeout=600)

    def upload(self) -> dict:
        with open(EXAMPLE, "rb") as file:
            path = self.http.post(f"{self.url}/upload", files={"files": ("cat.png", file)}).json()[0]
        return {"path": path, "orig_name": "cat.png", "meta": {"_type": "gradio.FileData"}}

    def decompose(self, size: int = 256) -> float:
        """Upload and decompose through the queue; seconds until the answer."""
        photo, started = self.upload(), time.perf_counter()
        body = {"data": ["animals", size, photo], "fn_index": self.events["upload"], "session_hash": self.session}
        assert self.http.post(f"{self.url}/queue/join", json=body).status_code == 200
        with self.http.stream("GET", f"{self.url}/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    assert message["success"] and "Not done" not in line and "compare" in line, line[:500]
                    return time.perf_counter() - started
        raise RuntimeError("the queue gave no answer")

    def move(self, k: int) -> float:
        """One slider move; seconds until the answer that names the new picture."""
        strengths = [1.0] * 11
        strengths[1 + k % 9] = 1 + (k % 20) / 10
        body = {"data": ["photo", *strengths], "fn_index": self.events["move"], "session_hash": self.session}
        started = time.perf_counter()
        answer = self.http.post(f"{self.url}/run/predict", json=body)
        seconds = time.perf_counter() - started
        assert answer.status_code == 200 and "edited.png" in answer.text, answer.text
        return seconds

    def save(self) -> float:
        """The edited photo; seconds until it is here."""
        started = time.perf_counter()
        answer = self.http.post(
            f"{self.url}/run/predict",
            json={
                "data": ["photo", 1.0, 2.0, *[1.0] * 9, "PNG"],
                "fn_index": self.events["save"],
                "session_hash": self.session,
            },
        )
        assert answer.status_code == 200, answer.text
        file = self.http.get(answer.json()["data"][0]["value"]["url"])
        assert file.status_code == 200 and file.content[:4] == b"\x89PNG"
        return time.perf_counter() - started


def crowd(url: str, known: dict, process: subprocess.Popen, people: int) -> dict:
    """Everybody comes at once, works a little and leaves."""

    def visit(i: int) -> dict[str, list[float]]:
        person, taken, errors = Visitor(url, f"person {i}", known), {"decompose": [], "move": [], "save": []}, []
        moves = [("move", lambda k=k: person.move(k)) for k in range(5)]
        steps = [("decompose", person.decompose), *moves, ("save", person.save)]
        for name, step in steps:
            try:
                taken[name].append(step())
            except Exception as error:  # counted, whatever it is
                errors.append(f"{name}: {error!r}"[:200])
        person.http.close()
        return taken | {"errors": errors}

    before, started = memory(process), time.perf_counter()
    with ThreadPoolExecutor(people) as pool:
        visits = list(pool.map(visit, range(people)))
    result = {"seconds": time.perf_counter() - started, "load_average": os.getloadavg()[0]}
    for name in ("decompose", "move", "save"):
        result[name] = times([seconds for one in visits for seconds in one[name]] or [float("nan")])
    errors = [error for one in visits for error in one["errors"]]
    rss = {"before": before, "all there": memory(process)}
    time.sleep(70)  # one round of the page's own sweeping
    return result | {"errors": len(errors), "first_errors": errors[:3], "memory_mb": rss | {"after": memory(process)}}


def patiently(person: Visitor) -> list[float]:
    """Somebody who looks at what they see: a slider is dragged and let go once a second."""
    taken = []
    time.sleep(random.random())
    for k in range(10):
        taken.append(person.move(k))
        time.sleep(max(0, 1 - taken[-1]))
    return taken


def start() -> tuple[subprocess.Popen, str, float]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    started = time.perf_counter()
    command = [sys.executable, "-c", "from decomp.cli import app; app()", "ui", "--no-open", "--port", str(port)]
    process = subprocess.Popen(command, stdout=tempfile.TemporaryFile(), stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return process, url, time.perf_counter() - started
        except OSError:
            time.sleep(0.05)


def events(url: str) -> dict:
    """Number of the page's own events, told by what goes in and comes out."""
    config = json.loads(urllib.request.urlopen(f"{url}/config").read())
    dependencies = config["dependencies"]
    move = next(d["id"] for d in dependencies if d["api_name"] == "page_sliders")
    upload = next(d["id"] for d in dependencies if len(d["inputs"]) == 3 and len(d["outputs"]) > 30 and d["queue"])
    save = next(d["id"] for d in dependencies if d["api_name"] == "write")
    load = next(d["id"] for d in dependencies if any(target[1] == "load" for target in d["targets"]))
    return {"move": move, "upload": upload, "save": save, "load": load}


def memory(process: subprocess.Popen) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def processor(process: subprocess.Popen) -> float:
    """Seconds of processor time the server has used; a busy machine stretches them less than it stretches the clock."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def times(seconds: list[float]) -> dict:
    return {
        "count": len(seconds),
        "median_ms": 1000 * statistics.median(seconds),
        "p95_ms": 1000 * sorted(seconds)[int(0.95 * len(seconds))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--moves", type=int, default=200, help="slider moves of the one visitor")
    parser.add_argument("--decompositions", type=int, default=200)
    parser.add_argument(
        "--memory-size", type=int, default=256, help="pixels of the decompositions that memory is measured over"
    )
    parser.add_argument("--drag", action="store_true", help="20 people who drag a slider, and nothing else")
    parser.add_argument("--crowd", type=int, help="so many visitors at once, and nothing else")
    options = parser.parse_args()
    result = {}
    process, url, result["page_s"] = start()
    try:
        known = events(url)
        if options.crowd:
            Visitor(url, "first", known).decompose()  # what is loaded once is loaded
            result[f"crowd_{options.crowd}"] = crowd(url, known, process, options.crowd)
            print(json.dumps(result, indent=2))
            return
        if options.drag:
            people = [Visitor(url, f"person {i}", known) for i in range(options.people)]
            for person in people:
                person.decompose()
            rss, used = memory(process), processor(process)
            with ThreadPoolExecutor(options.people) as pool:
                result["load_average"] = os.getloadavg()[0]
                result[f"drag_{options.people}"] = times([s for of_one in pool.map(patiently, people) for s in of_one])
            used = 1000 * (processor(process) - used) / (10 * options.people)
            result[f"drag_{options.people}"]["processor_ms"] = used
            result["memory_mb"] = {"before": rss, "after": memory(process)}
            print(json.dumps(result, indent=2))
            return
        one = Visitor(url, "one", known)
        first = one.decompose()
        result |= {"first_decompose_s": first, "cold_start_to_first_decompose_s": result["page_s"] + first}
        before = processor(process)
        result["decompose_1"] = times([one.decompose() for _ in range(10)])
        result["decompose_1"]["processor_ms"] = 100 * (processor(process) - before)
        before = processor(process)
        result["move_1"] = times([one.move(k) for k in range(options.moves)])
        result["move_1"]["processor_ms"] = 1000 * (processor(process) - before) / options.moves

        people = [Visitor(url, f"person {i}", known) for i in range(options.people)]
        with ThreadPoolExecutor(options.people) as pool:
            result[f"decompose_{options.people}"] = times(list(pool.map(lambda p: p.decompose(), people)))
            moved = list(pool.map(lambda p: [p.move(k) for k in range(20)], people))
        result[f"move_{options.people}"] = times([seconds for of_one in moved for seconds in of_one])
        print(json.dumps(result), file=sys.stderr)  # what follows takes minutes
        with ThreadPoolExecutor(options.people) as pool:
            result[f"move_{options.people}_one_a_second"] = times(
                [s for of_one in pool.map(patiently, people) for s in of_one]
            )

        rss = {}
        for i in range(1, options.decompositions + 1):
            one.decompose(options.memory_size)
            if i in (20, options.decompositions):
                rss[f"same visitor, after {i}"] = memory(process)
                print(json.dumps(rss), file=sys.stderr)
        for i in range(1, options.decompositions + 1):
            Visitor(url, f"passer-by {i}", known).decompose(options.memory_size)
            if i in (20, options.decompositions):
                rss[f"a visitor each, after {i}"] = memory(process)
        result["memory_mb"] = rss
    finally:
        process.terminate()
        process.wait()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
