// What happens in the browser alone: undo and redo, Solo and Mute, the page's address, the download.
// Strengths are one list: R, channel 1 .. M, E.
const decomp = {
  past: [], future: [], now: null, timer: null, // settled strengths; a drag is one step
  before: {}, // strength of a muted layer before it was muted
  solo_of: null, solo_values: null, solo_before: null,

  same: (a, b) => a !== null && b !== null && a.length === b.length && a.every((value, i) => value === b[i]),

  asked: null, dragging: false, sooner: null, // the last move; a slider is held; the picture that is about to be made
  writing: null, // the address, soon
  parts: null, // the layers at half size, for dragging

  // every change of a slider or of the base passes here
  moved([base, ...values]) {
    decomp.now ??= values.map(() => 1);
    clearTimeout(decomp.timer);
    decomp.timer = setTimeout(() => decomp.settled(base, values), 400);
    decomp.mark(values);
    decomp.asked = [base, ...values];
    clearTimeout(decomp.sooner);
    if (decomp.dragging) decomp.sooner = setTimeout(decomp.preview, 0);
    else decomp.exact();
  },

  // the exact picture, from the server; a button that moves many sliders asks once
  exact() {
    clearTimeout(decomp.sooner);
    decomp.sooner = setTimeout(() => document.querySelector("#exact").click(), 30);
  },

  // while a slider is held the browser adds the layers up by itself: nobody waits for the server, however many drag
  async preview() {
    const compare = document.querySelector(".result .compare[data-parts]");
    const parts = await decomp.load_parts(compare);
    if (!decomp.dragging || !compare.isConnected) return;
    const { side, scales, tiles, canvas, context, picture } = parts;
    const [base, ...values] = decomp.asked;
    const channels = scales.length - 3;
    const strengths = [values[0], ...values.slice(1, channels + 1), values.at(-1)];
    const sum = parts.sum, photo = base === "photo";
    photo ? sum.set(tiles[0]) : sum.fill(127.5);
    strengths.forEach((strength, j) => {
      const weight = scales[j + 1] * (photo ? strength - 1 : j > channels ? 0 : strength);
      if (weight === 0) return;
      const layer = tiles[j + 1];
      for (let i = 0; i < sum.length; i++) sum[i] += weight * (layer[i] - 127.5);
    });
    picture.data.set(sum); // rounded and clipped
    for (let i = 3; i < sum.length; i += 4) picture.data[i] = 255;
    context.putImageData(picture, 0, 0);
    compare.querySelector(".over").src = canvas.toDataURL("image/jpeg", 0.92);
  },

  async load_parts(compare) {
    const address = compare.dataset.parts;
    if (decomp.parts?.address === address) return decomp.parts.ready;
    const load = async () => {
      const image = new Image();
      image.src = address;
      await image.decode();
      const side = image.width, sheet = new OffscreenCanvas(side, image.height).getContext("2d", { willReadFrequently: true });
      sheet.drawImage(image, 0, 0);
      const tiles = [];
      for (let top = 0; top < image.height; top += side) tiles.push(sheet.getImageData(0, top, side, side).data);
      const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
      const context = canvas.getContext("2d");
      return { side, tiles, canvas, context, scales: compare.dataset.scales.split(",").map(Number),
        picture: context.createImageData(side, side), sum: new Float32Array(4 * side * side) };
    };
    decomp.parts = { address, ready: load() };
    return decomp.parts.ready;
  },

  settled(base, values) {
    if (!decomp.same(decomp.now, values)) {
      decomp.past.push(decomp.now);
      decomp.now = values;
      decomp.future = [];
    }
    decomp.mark(values);
    decomp.write_address(base, values);
  },

  undo(values) { return decomp.step(decomp.past, decomp.future, values); },
  redo(values) { return decomp.step(decomp.future, decomp.past, values); },

  step(from, to, values) {
    if (decomp.timer !== null && decomp.now !== null && !decomp.same(decomp.now, values)) decomp.settled("photo", values);
    if (from.length === 0) return [null, ...values];
    to.push(decomp.now);
    decomp.now = from.pop();
    decomp.mark(decomp.now);
    return [null, ...decomp.now];
  },

  reset: (values) => [null, ...values.map(() => 1)],

  mute(i, values) {
    const next = [...values];
    if (values[i] === 0) next[i] = decomp.before[i] || 1;
    else { decomp.before[i] = values[i]; next[i] = 0; }
    return [null, ...next];
  },

  // R and one channel, as far as it is not at 0 itself; pressed again, what was there before
  solo(k, values) {
    const on = decomp.same(decomp.solo_values, values);
    if (on && decomp.solo_of === k) return [null, ...decomp.solo_before];
    if (!on) decomp.solo_before = values;
    decomp.solo_of = k;
    decomp.solo_values = values.map((_, i) => i === 0 ? decomp.solo_before[0] : i === k ? decomp.solo_before[k] || 1 : 0);
    return [null, ...decomp.solo_values];
  },

  mark(values) {
    const press = (id, on) => document.querySelector(`#${id}`)?.setAttribute("aria-pressed", on);
    const last = values.length - 1;
    values.forEach((value, i) => {
      press(`mute-${i === 0 ? "R" : i === last ? "E" : i}`, value === 0);
      if (i > 0 && i < last) press(`solo-${i}`, decomp.solo_of === i && decomp.same(decomp.solo_values, values));
    });
    for (const [id, list] of [["undo", decomp.past], ["redo", decomp.future]])
      document.querySelector(`#${id}`)?.setAttribute("aria-disabled", list.length === 0);
  },

  // another picture has come, perhaps with another model, size or class; the first one is no reason to write an address
  arrived([base, ...values]) {
    clearTimeout(decomp.writing);
    if (decomp.writing !== null) decomp.writing = setTimeout(() => decomp.write_address(base, values), 400);
    decomp.writing ??= 0;
  },

  write_address(base, values) {
    const address = new URL(location.href);
    const last = values.length - 1;
    const changed = values.map((value, i) => [i === 0 ? "residual" : i === last ? "unexplained" : i, value]).filter(([, v]) => v !== 1);
    const { model, size, class: own, as } = document.querySelector(".result .compare").dataset;
    const settings = { model, size, class: own, as, base: base === "photo" ? "" : base, strengths: changed.map((pair) => pair.join(":")).join(",") };
    for (const [key, value] of Object.entries(settings)) value ? address.searchParams.set(key, value) : address.searchParams.delete(key);
    history.replaceState(history.state, "", decodeURIComponent(address.href));
  },

  hold(event) {
    if (!event.target.matches?.(".desk input[type=range]")) return;
    decomp.dragging = true;
    const compare = document.querySelector(".result .compare[data-parts]");
    if (compare) decomp.load_parts(compare);
  },

  release() {
    if (!decomp.dragging) return;
    decomp.dragging = false;
    if (decomp.asked !== null) decomp.exact();
  },

  download(id) {
    const button = document.querySelector(`#${id}`);
    (button.matches("a, button") ? button : button.querySelector("a, button")).click();
  },
};
addEventListener("pointerdown", decomp.hold, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, decomp.release, true);
