// The two places in the tab Eyes: dragged, or moved by the arrow keys; then their outlines are found again.
decomp.eyes = {
  held: null, timer: null,
  STEPS: { ArrowLeft: [-0.01, 0], ArrowRight: [0.01, 0], ArrowUp: [0, -0.01], ArrowDown: [0, 0.01] },

  // what the server is told: x and y of each place as parts of the picture's side
  places: () => [...document.querySelectorAll(".places button")].flatMap(({ dataset }) => [dataset.x, dataset.y]).join(","),

  put(place, x, y) {
    [place.dataset.x, place.dataset.y] = [x, y].map((part) => Math.min(Math.max(part, 0), 1).toFixed(4));
    place.style.left = `${100 * place.dataset.x}%`;
    place.style.top = `${100 * place.dataset.y}%`;
  },

  at(picture, event) {
    const { left, top, width, height } = picture.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  },

  // a finger takes hold of a place itself, so that the page can still be scrolled; a mouse of the nearer one
  hold(event) {
    const eyes = decomp.eyes, picture = event.target.closest?.(".places");
    if (!picture || event.button !== 0 || (event.pointerType === "touch" && !event.target.matches("button"))) return;
    event.preventDefault();
    const [x, y] = eyes.at(picture, event);
    const far = ({ dataset }) => Math.hypot(dataset.x - x, dataset.y - y);
    eyes.held = [...picture.querySelectorAll("button")].reduce((a, b) => (far(b) < far(a) ? b : a));
    eyes.held.focus();
    eyes.drag(event);
  },

  drag(event) {
    const place = decomp.eyes.held;
    if (place) decomp.eyes.put(place, ...decomp.eyes.at(place.parentElement, event));
  },

  release() {
    if (!decomp.eyes.held) return;
    decomp.eyes.held = null;
    decomp.eyes.find(0);
  },

  press(event) {
    const place = event.target, step = decomp.eyes.STEPS[event.key];
    if (!step || !place.matches?.(".places button")) return;
    event.preventDefault();
    decomp.eyes.put(place, Number(place.dataset.x) + step[0], Number(place.dataset.y) + step[1]);
    decomp.eyes.find(600);
  },

  find(wait) {
    clearTimeout(decomp.eyes.timer);
    decomp.eyes.timer = setTimeout(() => document.querySelector("#eyes-moved").click(), wait);
  },
};
addEventListener("pointerdown", decomp.eyes.hold, true);
addEventListener("pointermove", decomp.eyes.drag, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, decomp.eyes.release, true);
addEventListener("keydown", decomp.eyes.press, true);
