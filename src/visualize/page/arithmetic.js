/** The side of a cell. */
const SIDE = 26;
/** Cells drawn along time and frequency at most, fewer on a phone. */
const cells = () => innerWidth > 720 ? [11, 8] : [7, 6];
/** What is drawn: the stage, the way, the cell that is made or sent back, and for a max-pool the filter whose values are shown. */
let slide = { stage: null, transposed: false, at: 0, timer: 0, filter: null };

/** How a layer slides over its input, in the manner of Dumoulin & Visin's guide. */
function buildArithmetic() {
  const dialog = document.getElementById("arithmetic"), button = id => document.getElementById(id);
  button("slide").onclick = () => {
    const stage = scene.stages[chosen.stage];
    slide = { stage, transposed: false, at: null, timer: 0, filter: isMaxPool(stage) ? chosen.filter ?? loudest(stage) : null };
    document.querySelector("#directions [value=forward]").checked = true;
    document.getElementById("arithmetic-title").textContent = `${stage.path}: ${stage.about}`;
    drawGrids();
    dialog.showModal();
  };
  button("directions").onchange = ({ target }) => { Object.assign(slide, { transposed: target.value === "transposed", at: null }); drawGrids(); };
  const go = by => { slide.at += by; drawGrids(); };
  const run = on => {
    clearInterval(slide.timer);
    if (on) slide.timer = setInterval(() => go(1), 600);
    button("step-all").setAttribute("aria-pressed", String(on));
    button("step-all").textContent = on ? "Stop" : "Slide";
  };
  button("step-back").onclick = () => go(-1);
  button("step-on").onclick = () => go(1);
  button("step-all").onclick = ({ target }) => run(target.getAttribute("aria-pressed") !== "true");
  button("arithmetic-close").onclick = () => dialog.close();
  dialog.onclose = () => run(false);
  dialog.onkeydown = event => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by && event.target.type !== "radio") go(by);
    // Only the dialog closes, not the filters below it.
    event.stopPropagation();
  };
}

/** A max-pool whose input is on the page: its switches can be read off the values. */
const isMaxPool = stage => stage.about.startsWith("max-pool") && stage.input.line > 0;
const loudest = stage => stage.levels.greatest.reduce((most, value, filter, all) => value > all[most] ? filter : most, 0);

/**
 * One axis as it is drawn: `drawn` cells of the input with its padding, from the window of output `from` on, and the outputs whose
 * windows lie inside. `index` is what a cell is of the input, which has `extent` values; the first `lead` cells are padding.
 */
function drawnAxis({ kernel, stride, dilation, padding: [before, after] }, extent, most, strongest) {
  const reach = dilation * (kernel - 1) + 1, padded = extent + before + after, outputs = Math.floor((padded - reach) / stride) + 1;
  const room = Math.max(most, reach + stride), fitting = Math.floor((room - reach) / stride) + 1;
  const from = Math.max(0, Math.min(strongest - Math.floor(fitting / 2), outputs - fitting)), drawn = Math.min(room, padded - from * stride);
  const index = cell => cell + from * stride - before, real = cell => index(cell) >= 0 && index(cell) < extent;
  const lead = Math.max(0, before - from * stride), big = Math.min(drawn, padded - after - from * stride) - lead;
  return { kernel, stride, dilation, reach, from, drawn, index, real, lead, big, small: Math.floor((drawn - reach) / stride) + 1, whole: drawn === padded };
}

/** Both axes as they are drawn, and the cell, `[step, bin]` of those drawn, that is made or sent back. */
function drawn() {
  const { stage, transposed, filter } = slide, pool = filter !== null, { steps, bins } = stage.input, most = cells();
  const peak = pool ? channel(stage, filter).reduce((most, level, n, all) => level > all[most] ? n : most, 0) : 0;
  const strongest = [peak % stage.steps, Math.floor(peak / stage.steps)];
  // Of a convolution the beginning is drawn, so that the padding is seen; of a pool where something is to choose from.
  const axes = [drawnAxis(stage.windows[0], steps, most[0], strongest[0]), drawnAxis(stage.windows[1], bins, most[1], strongest[1])];
  const [across, up] = axes.map(axis => transposed && !pool ? axis.big : axis.small);
  slide.at ??= pool ? axes.reduceRight((at, { from, small }, axis) => at * small + strongest[axis] - from, 0) : 0;
  slide.at = (slide.at + across * up) % (across * up);
  return [axes, [slide.at % across, Math.floor(slide.at / across)]];
}

/** Paints both grids as they stand, and says in words and numbers what happens. */
function drawGrids() {
  const { transposed, filter } = slide, pool = filter !== null, [axes, now] = drawn(), size = key => axes.map(axis => axis[key]);
  const made = (counts, levels) => plainGrid(counts, now, levels);
  const [left, right, ...names] = pool
    ? transposed ? [made(size("small"), pooledLevel(axes)), pooledGrid(axes, now, true), "what comes back", "what is sent on"]
      : [pooledGrid(axes, now, false), made(size("small"), pooledLevel(axes)), "input", "output"]
    : transposed ? [insertedGrid(axes, now), made(size("big")), "what comes back, zeros between", "what is sent on"]
      : [paddedGrid(axes, now), made(size("small")), "input", "output"];
  const height = Math.max(left.height, right.height), gap = 70, places = [[0, height - left.height], [left.width + gap, (height - right.height) / 2]];
  // The lower left corner is the first step of the lowest bin.
  const parts = [left, right].flatMap((grid, side) => place(grid, ...places[side]));
  const near = left.reach ? 0 : 1, [from, to] = [[left, right][near].reach, [left, right][1 - near].now];
  const tip = [places[1 - near][0] + to.x + (near ? SIDE - 3 : 0), places[1 - near][1] + to.y + SIDE / 2];
  parts.push(...[[0, 0], [1, 0], [0, 1], [1, 1]].map(([x, y]) =>
    shape("line", { x1: places[near][0] + from.x + x * from.width, y1: places[near][1] + from.y + y * from.height, x2: tip[0], y2: tip[1] })));
  parts.push(...names.map((name, side) => shape("text", { x: places[side][0], y: height + 18 }, name)));
  const svg = document.getElementById("grids"), width = left.width + gap + right.width + 4;
  svg.replaceChildren(...parts);
  svg.setAttribute("viewBox", `-2 -2 ${width} ${height + 26}`);
  svg.style.maxWidth = `${width}px`;
  describe(axes, now);
}

const shape = (name, attributes, text) => {
  const made = document.createElementNS(document.getElementById("grids").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
};
const place = ({ cells }, x, y) => cells.map(cell => { cell.setAttribute("transform", `translate(${x} ${y})`); return cell; });

/** A grid of `[columns, rows]` cells, the lowest row first, whose classes `kind` gives, and `level` how much is in them, to 255. */
function grid([columns, rows], kind, level = () => null) {
  const cells = [];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const cell = shape("rect", { x: column * SIDE, y: (rows - 1 - row) * SIDE, width: SIDE - 3, height: SIDE - 3, rx: 3, class: kind(column, row) });
      const filled = level(column, row);
      if (filled !== null) cell.style.setProperty("--level", `${Math.round(filled / 2.55)}%`);
      cells.push(cell);
    }
  return { cells, width: columns * SIDE, height: rows * SIDE };
}

/** A frame around the cells from `first`, `size` of them, in a grid of `rows` rows. */
const reachOf = (first, size, rows) => ({ x: first[0] * SIDE - 2, y: (rows - first[1] - size[1]) * SIDE - 2, width: size[0] * SIDE + 1, height: size[1] * SIDE + 1 });
const framed = (made, reach) => ({ ...made, reach, cells: [...made.cells, shape("rect", { ...reach, rx: 4, class: "reach" })] });
const firstCell = (axes, now) => now.map((n, axis) => n * axes[axis].stride);
const frame = (made, axes, now) => framed(made, reachOf(firstCell(axes, now), axes.map(axis => axis.reach), axes[1].drawn));

/** The input with its padding, and the window that makes an output. */
function paddedGrid(axes, now) {
  const first = firstCell(axes, now);
  const tap = (axis, cell) => cell >= first[axis] && cell < first[axis] + axes[axis].reach && (cell - first[axis]) % axes[axis].dilation === 0;
  const made = grid(axes.map(axis => axis.drawn), (column, row) =>
    `${tap(0, column) && tap(1, row) ? "tap" : "value"} ${axes[0].real(column) && axes[1].real(row) ? "" : "padding"}`);
  return frame(made, axes, now);
}

/** What a cell of a pool's input holds, as a level; padding holds less than any. */
function inputLevel(axes, [column, row]) {
  const { stage, filter } = slide, source = scene.stages[stage.input.line - 1];
  if (!axes[0].real(column) || !axes[1].real(row)) return -1;
  return channel(source, filter)[axes[1].index(row) * source.steps + axes[0].index(column)];
}

/** Where the maximum of an output's window is: the switch. */
function switchOf(axes, now) {
  const first = firstCell(axes, now);
  let found = first;
  for (let x = 0; x < axes[0].kernel; x++)
    for (let y = 0; y < axes[1].kernel; y++) {
      const cell = [first[0] + x * axes[0].dilation, first[1] + y * axes[1].dilation];
      if (inputLevel(axes, cell) > inputLevel(axes, found)) found = cell;
    }
  return found;
}

const pooledLevel = axes => (column, row) => Math.max(0, inputLevel(axes, switchOf(axes, [column, row])));

/** A pool's input: all of it, or what unpooling puts there, which is zero but for the places of the maxima. */
function pooledGrid(axes, now, unpooled) {
  const switches = new Set();
  for (let x = 0; x < axes[0].small; x++)
    for (let y = 0; y < axes[1].small; y++) switches.add(`${switchOf(axes, [x, y])}`);
  const maximum = `${switchOf(axes, now)}`, real = cell => inputLevel(axes, cell) >= 0;
  const made = grid(axes.map(axis => axis.drawn), (...cell) => {
    if (!real(cell)) return "padding";
    const kept = !unpooled || switches.has(`${cell}`) ? "level" : "zero";
    return `${cell}` === maximum ? `${kept} switch` : kept;
  }, (...cell) => real(cell) ? inputLevel(axes, cell) : null);
  return frame(made, axes, now);
}

/** The output with zeros between its values, over which the transposed filter slides by one. */
function insertedGrid(axes, now) {
  const margin = axes.map(({ reach, lead }) => reach - 1 - lead), size = axes.map(({ big, reach }) => big + reach - 1);
  const value = (axis, cell) => {
    const at = cell - margin[axis];
    return at >= 0 && at % axes[axis].stride === 0 && at / axes[axis].stride < axes[axis].small;
  };
  const tap = (axis, cell) => cell >= now[axis] && cell < now[axis] + axes[axis].reach && (cell - now[axis]) % axes[axis].dilation === 0;
  const made = grid(size, (column, row) => {
    const real = value(0, column) && value(1, row);
    if (tap(0, column) && tap(1, row)) return real ? "tap" : "zero";
    const inside = [column, row].every((cell, axis) => cell >= margin[axis] && cell <= margin[axis] + (axes[axis].small - 1) * axes[axis].stride);
    return real ? "value" : inside ? "zero" : "padding";
  });
  return framed(made, reachOf(now, axes.map(axis => axis.reach), size[1]));
}

/** A grid without more, and where one of its cells stands. */
function plainGrid(size, now, level) {
  const own = (column, row) => column === now[0] && row === now[1];
  const made = grid(size, (column, row) => level ? own(column, row) ? "level switch" : "level" : own(column, row) ? "now" : "made", level);
  return { ...made, now: { x: now[0] * SIDE, y: (size[1] - 1 - now[1]) * SIDE } };
}

/** The layer's arithmetic in words and with its numbers. */
function describe(axes, now) {
  const { stage, transposed, filter } = slide, [time, frequency] = stage.windows, pool = filter !== null;
  const put = (id, text) => { document.getElementById(id).textContent = text; };
  const part = axes.every(axis => axis.whole) ? "" : pool ? ` Drawn are the values of filter ${filter} where it is strongest.` : " Of what is longer the beginning is drawn.";
  put("arithmetic-about", (transposed
    ? pool ? "Unpooling: each value goes back to where its maximum was, which the switches of the forward pass remember; the rest is zero."
      : "Each value is spread over what it was made from: the filter, turned over, slides by one over the values with zeros between them."
    : pool ? "Of each window the maximum goes on, and a switch remembers where it was."
      : stage.about.includes("pool") ? "At each place the mean of what lies below the window goes on."
        : "At each place the filter's taps are multiplied with what lies below them, and added.") + " Time to the right, frequency upwards; dashed is padding." + part);
  const place = axis => transposed && !pool ? axes[axis].index(axes[axis].lead + now[axis]) : axes[axis].from + now[axis];
  const span = axis => {
    const first = axes[axis].index(firstCell(axes, now)[axis]);
    return `${first} to ${first + axes[axis].reach - 1}`.replaceAll("-", "−");
  };
  put("arithmetic-now", transposed && !pool ? `step ${place(0)}, bin ${place(1)} of the input gathers what was made from it`
    : transposed ? `what came back at step ${place(0)}, bin ${place(1)} goes to ${switchOf(axes, now).map((cell, axis) => `${["step", "bin"][axis]} ${axes[axis].index(cell)}`).join(", ")}`
      : `output step ${place(0)}, bin ${place(1)} sees steps ${span(0)} and bins ${span(1)}`);
  const sizes = (name, { kernel: k, stride: s, dilation: d, padding: [low, high] }, i, o) => transposed
    ? `${name}: i = s(o − 1) + a + d(k − 1) + 1 − p − p′ = ${s}·(${o} − 1) + ${i - (s * (o - 1) + d * (k - 1) + 1 - low - high)} + ${d}·(${k} − 1) + 1 − ${low} − ${high} = ${i}`
    : `${name}: o = ⌊(i + p + p′ − d(k − 1) − 1) / s⌋ + 1 = ⌊(${i} + ${low} + ${high} − ${d}·(${k} − 1) − 1) / ${s}⌋ + 1 = ${o}`;
  const ahead = (time.dilation * (time.kernel - 1) - time.padding[0]) * stepSeconds(stage) / time.stride * 1000;
  put("arithmetic-sizes", `${sizes("frequency", frequency, stage.input.bins, stage.bins)}\n${sizes("time", time, stage.input.steps, stage.steps)}\n` +
    (ahead ? `looks ${Math.round(ahead)} ms ahead` : "does not look ahead"));
}
