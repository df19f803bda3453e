/** Cells drawn of an axis at most, and the side of one. */
const CELLS = [11, 8], SIDE = 26;
/** What is drawn: the stage, the way, and the cell that the window stands at. */
let slide = { stage: null, transposed: false, at: 0, timer: 0 };

/** How a layer slides over its input, in the manner of Dumoulin & Visin's guide. */
function buildArithmetic() {
  const dialog = document.getElementById("arithmetic"), button = id => document.getElementById(id);
  button("slide").onclick = () => {
    slide = { stage: scene.stages[chosen.stage], transposed: false, at: 0, timer: 0 };
    document.querySelector("#directions [value=forward]").checked = true;
    document.getElementById("arithmetic-title").textContent = `${slide.stage.path}: ${slide.stage.about}`;
    drawGrids();
    dialog.showModal();
  };
  button("directions").onchange = ({ target }) => { Object.assign(slide, { transposed: target.value === "transposed", at: 0 }); drawGrids(); };
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

/**
 * One axis as it is drawn: `big` cells of the input, real ones, with `before` and `after` padding around them, and the `small` cells of
 * the output whose windows lie inside. Of a long axis only the beginning is drawn, so that the padding is seen.
 */
function drawnAxis({ kernel, stride, dilation, padding: [before, after] }, extent, most) {
  const reach = dilation * (kernel - 1) + 1, whole = extent && extent + before + after <= most;
  const big = whole ? extent : Math.max(1, Math.max(most, reach + stride) - before);
  const padded = big + before + (whole ? after : 0);
  return { kernel, stride, dilation, before, after: whole ? after : 0, big, padded, reach, small: Math.max(1, Math.floor((padded - reach) / stride) + 1), whole };
}

/** Paints both grids as they stand, and says in words and numbers what happens. */
function drawGrids() {
  const { stage, transposed } = slide, pool = stage.about.includes("pool");
  const axes = [drawnAxis(stage.windows[0], null, CELLS[0]), drawnAxis(stage.windows[1], stage.input_bins, CELLS[1])];
  const count = transposed ? axes[0].big * axes[1].big : axes[0].small * axes[1].small, across = transposed ? axes[0].big : axes[0].small;
  slide.at = (slide.at + count) % count;
  const now = [slide.at % across, Math.floor(slide.at / across)];
  const svg = document.getElementById("grids");
  const [left, right] = transposed ? [insertedGrid(axes, now, pool), plainGrid(axes.map(axis => axis.big), now, "made")] : [paddedGrid(axes, now, pool), plainGrid(axes.map(axis => axis.small), now, "made")];
  const height = Math.max(left.height, right.height), gap = 90;
  // The lower left corner is the first step of the lowest bin.
  const parts = [...place(left, 0, height - left.height), ...place(right, left.width + gap, (height - right.height) / 2)];
  const [from, to] = [left.reach, right.now];
  const tip = [left.width + gap + to.x, (height - right.height) / 2 + to.y + SIDE / 2], top = height - left.height;
  parts.push(...[[0, 0], [1, 0], [0, 1], [1, 1]].map(([x, y]) => shape("line", { x1: from.x + x * from.width, y1: top + from.y + y * from.height, x2: tip[0], y2: tip[1] })));
  const names = transposed ? ["what comes back, zeros between", "what is sent on"] : ["input", "output"];
  parts.push(shape("text", { x: 0, y: height + 18 }, names[0]), shape("text", { x: left.width + gap, y: height + 18 }, names[1]));
  svg.replaceChildren(...parts);
  svg.setAttribute("viewBox", `-2 -2 ${left.width + gap + right.width + 4} ${height + 26}`);
  svg.style.maxWidth = `${left.width + gap + right.width + 4}px`;
  describe(axes, now, pool);
}

const shape = (name, attributes, text) => {
  const made = document.createElementNS(document.getElementById("grids").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
};
const place = ({ cells }, x, y) => cells.map(cell => { cell.setAttribute("transform", `translate(${x} ${y})`); return cell; });

/** A grid of `[columns, rows]` cells, the lowest row first, whose classes `kind` gives. */
function grid([columns, rows], kind) {
  const cells = [];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      cells.push(shape("rect", { x: column * SIDE, y: (rows - 1 - row) * SIDE, width: SIDE - 3, height: SIDE - 3, rx: 3, class: kind(column, row) }));
  return { cells, width: columns * SIDE, height: rows * SIDE };
}

/** A frame around the cells from `first`, `size` of them, in a grid of `rows` rows. */
const reachOf = (first, size, rows) => ({ x: first[0] * SIDE - 2, y: (rows - first[1] - size[1]) * SIDE - 2, width: size[0] * SIDE + 1, height: size[1] * SIDE + 1 });
const framed = (made, reach) => ({ ...made, reach, cells: [...made.cells, shape("rect", { ...reach, rx: 4, class: "reach" })] });

/** The tap of a pooling window that stands for its maximum in the drawing; any would do. */
const switchOf = (axes, [x, y]) => [(x * 2 + y) % axes[0].kernel, (x + y) % axes[1].kernel];

/** The input with its padding, and the window that makes an output. */
function paddedGrid(axes, now, pool) {
  const first = now.map((n, axis) => n * axes[axis].stride), maximum = switchOf(axes, now);
  const tap = (axis, cell) => {
    const [offset, { kernel, dilation }] = [cell - first[axis], axes[axis]];
    return offset >= 0 && offset % dilation === 0 && offset / dilation < kernel ? offset / dilation : -1;
  };
  const real = (axis, cell) => cell >= axes[axis].before && cell < axes[axis].before + axes[axis].big;
  const made = grid(axes.map(axis => axis.padded), (column, row) => {
    const [x, y] = [tap(0, column), tap(1, row)], inside = real(0, column) && real(1, row);
    if (pool && x === maximum[0] && y === maximum[1]) return "now";
    return x >= 0 && y >= 0 ? "tap" : inside ? "value" : "padding";
  });
  return framed(made, reachOf(first, axes.map(axis => axis.reach), axes[1].padded));
}

/** The output with zeros between its values, over which the transposed filter slides by one; or what unpooling puts there. */
function insertedGrid(axes, now, pool) {
  const margin = axes.map(({ reach, before }) => reach - 1 - before), size = axes.map(({ big, reach }) => big + reach - 1);
  const value = (axis, cell) => {
    const at = cell - margin[axis];
    return at >= 0 && at % axes[axis].stride === 0 && at / axes[axis].stride < axes[axis].small;
  };
  const tap = (axis, cell) => cell >= now[axis] && cell < now[axis] + axes[axis].reach && (cell - now[axis]) % axes[axis].dilation === 0;
  const made = grid(size, (column, row) => {
    const real = value(0, column) && value(1, row);
    if (tap(0, column) && tap(1, row)) return real ? (pool ? "now" : "tap") : "zero";
    const inside = [column, row].every((cell, axis) => cell >= margin[axis] && cell <= margin[axis] + (axes[axis].small - 1) * axes[axis].stride);
    return real ? "value" : inside ? "zero" : "padding";
  });
  return framed(made, reachOf(now, axes.map(axis => axis.reach), size[1]));
}

/** A grid without more, and where one of its cells stands. */
function plainGrid(size, now, kind) {
  const made = grid(size, (column, row) => column === now[0] && row === now[1] ? "now" : kind);
  return { ...made, now: { x: now[0] * SIDE, y: (size[1] - 1 - now[1]) * SIDE } };
}

/** The layer's arithmetic in words and with its numbers. */
function describe(axes, now, pool) {
  const { stage, transposed } = slide, [time, frequency] = stage.windows, put = (id, text) => { document.getElementById(id).textContent = text; };
  const cut = axes.some(axis => !axis.whole) ? " Of what is longer the beginning is drawn." : "";
  put("arithmetic-about", (transposed
    ? pool ? "Unpooling: each value goes back to where its maximum was, which the switches of the forward pass remember; the rest is zero."
      : "Each value is spread over what it was made from: the filter, turned over, slides by one over the values with zeros between them."
    : pool ? "Of each window the maximum goes on, and a switch remembers where it was." : "At each place the filter's taps are multiplied with what lies below them, and added.") + " Time to the right, frequency upwards; dashed is padding." + cut);
  const input = now.map((n, axis) => n * axes[axis].stride - axes[axis].before), last = input.map((n, axis) => n + axes[axis].reach - 1);
  put("arithmetic-now", transposed ? `step ${now[0]}, bin ${now[1]} of the input gathers what was made from it`
    : `output step ${now[0]}, bin ${now[1]} sees steps ${input[0]} to ${last[0]} and bins ${input[1]} to ${last[1]}`);
  const o = stage.bins, i = stage.input_bins, { kernel: k, stride: s, dilation: d, padding: [low, high] } = frequency;
  const line = transposed ? `frequency: i = s(o − 1) + a + d(k − 1) + 1 − p − p′ = ${s}·(${o} − 1) + ${i - (s * (o - 1) + d * (k - 1) + 1 - low - high)} + ${d}·(${k} − 1) + 1 − ${low} − ${high} = ${i}`
    : `frequency: o = ⌊(i + p + p′ − d(k − 1) − 1) / s⌋ + 1 = ⌊(${i} + ${low} + ${high} − ${d}·(${k} − 1) − 1) / ${s}⌋ + 1 = ${o}`;
  const ahead = time.padding[1] * stepSeconds(stage) / time.stride * 1000;
  const shown = ({ kernel, stride, dilation, padding }) => `k = ${kernel}, s = ${stride}, d = ${dilation}, p = ${padding[0]}, p′ = ${padding[1]}`;
  put("arithmetic-sizes", `${line}\nfrequency: ${shown(frequency)}\ntime:      ${shown(time)}; looks ${Math.round(ahead)} ms ahead`);
}
