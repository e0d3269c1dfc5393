// What happens in the browser alone: undo and redo, Solo and Mute, the page's address, the download.
// Strengths are one list: R, channel 1 .. M, E.
const decomp = {
  past: [], future: [], now: null, timer: null, // settled strengths; a drag is one step
  before: {}, // strength of a muted layer before it was muted
  solo_of: null, solo_values: null, solo_before: null,

  same: (a, b) => a !== null && b !== null && a.length === b.length && a.every((value, i) => value === b[i]),

  // every change of a slider or of the base passes here on its way to the server
  moved([base, ...values]) {
    decomp.now ??= values.map(() => 1);
    clearTimeout(decomp.timer);
    decomp.timer = setTimeout(() => decomp.settled(base, values), 400);
    decomp.mark(values);
    return [base, ...values];
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

  write_address(base, values) {
    const address = new URL(location.href);
    const last = values.length - 1;
    const changed = values.map((value, i) => [i === 0 ? "residual" : i === last ? "unexplained" : i, value]).filter(([, v]) => v !== 1);
    const model = document.querySelector("#model input:checked")?.value;
    const settings = { model, base: base === "photo" ? "" : base, strengths: changed.map((pair) => pair.join(":")).join(",") };
    for (const [key, value] of Object.entries(settings)) value ? address.searchParams.set(key, value) : address.searchParams.delete(key);
    history.replaceState(history.state, "", decodeURIComponent(address.href));
  },

  download(id) {
    const button = document.querySelector(`#${id}`);
    (button.matches("a, button") ? button : button.querySelector("a, button")).click();
  },
};
