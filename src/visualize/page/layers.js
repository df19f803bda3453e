/** What the picture of a stage is made of: its bins, or its channels if it has but one bin. */
function overview(stage) {
  const { bins, channels, steps } = stage;
  if (bins > 1) {
    const sums = new Float32Array(bins * steps);
    for (let index = 0; index < channels; index++) channel(stage, index).forEach((level, n) => { sums[n] += level; });
    const most = sums.reduce((most, sum) => Math.max(most, sum), 1);
    return { height: bins, level: (bin, step) => Math.round(255 * sums[bin * steps + step] / most) };
  }
  const peak = index => channel(stage, index).reduce((best, level, step, all) => level > all[best] ? step : best, 0);
  const order = Array.from({ length: channels }, (_, index) => index).map(index => [peak(index), index]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  return { height: channels, level: (row, step) => channel(stage, order[row][1])[step] };
}

function buildStage(stage, index) {
  const open = element("button", { textContent: stage.path, title: `The ${stage.channels} filters of ${stage.path}` });
  open.onclick = () => showFilters(index);
  const shape = stage.bins > 1 ? `${stage.bins} bins × ${stage.channels} filters` : `${stage.channels} filters`;
  const { label, lane } = addRow(open, stage.about, stage.bins > 1 ? Math.min(80, Math.max(40, 2 * stage.bins)) : 48);
  label.append(element("span", { className: "quiet", textContent: shape }));
  if (stage.depth) label.firstChild.classList.add("under");
  const what = stage.bins > 1 ? "mean over its filters, frequency upwards" : "a line for each filter, ordered by when it is strongest";
  const canvas = strip(lane, stage.steps, stepSeconds(stage), `${stage.path}: ${what}`);
  const picture = overview(stage);
  painted(() => paint(canvas, picture.height, stage.steps, picture.level));
  watch(lane, (time, height) => see(index, Math.min(stage.steps - 1, Math.floor(time / stepSeconds(stage))), Math.floor(height * stage.bins)));
  stageRows.push({ lane });
}

/** Boxes on the lanes that belong to what is pointed at. */
let marks = [];

/** A box over a lane: columns and bins, both from first to last. */
function box(lane, className, columns, columnSeconds, bins, height) {
  const mark = element("div", { className });
  mark.style.left = `${100 * columns[0] * columnSeconds / duration}%`;
  mark.style.width = `${100 * (columns[1] - columns[0] + 1) * columnSeconds / duration}%`;
  mark.style.bottom = `${100 * bins[0] / height}%`;
  mark.style.height = `${100 * (bins[1] - bins[0] + 1) / height}%`;
  lane.append(mark);
  return mark;
}

/** Shows what a unit of a stage sees: a box on the spectrogram, and on every layer on the way. */
function see(index, step = 0, bin = 0) {
  marks.forEach(mark => mark.remove());
  marks = [];
  if (index === null) {
    reading.textContent = "";
    if (letter !== null) see(outputStage(), scene.letters[letter].step);
    else showField(outputStage(), stepAt(sound.currentTime), 0);
    return;
  }
  showField(index, step, bin);
  const stage = scene.stages[index], mark = (...given) => marks.push(box(...given));
  mark(stageRows[index].lane, "unit", [step, step], stepSeconds(stage), [bin, bin], stage.bins);
  stage.sees.forEach((spans, line) => {
    if (!spans || line === index + 1) return;
    const seen = line ? scene.stages[line - 1] : { bins: scene.bins, steps: scene.frames, stride: 1 };
    const columns = seenBy(spans[0], step, seen.steps), bins = seenBy(spans[1], bin, seen.bins);
    if (!columns || !bins) return;
    mark(line ? stageRows[line - 1].lane : spectrogram.lane, "seen", columns, stepSeconds(seen), bins, seen.bins);
  });
  const frames = seenBy(stage.sees[0][0], step, scene.frames), time = step * stepSeconds(stage);
  const bins = seenBy(stage.sees[0][1], bin, scene.bins);
  const field = frames && bins ? `sees ${moment(frames[0] * scene.hop_s)} to ${moment(frames[1] * scene.hop_s + scene.window_s)}` +
    (bins[1] - bins[0] + 1 < scene.bins ? `, ${scene.centres_hz[bins[0]]} to ${scene.centres_hz[bins[1]]} Hz` : "") : "sees padding only";
  const top = index === outputStage() ? best(step, 3).map(([token, p]) => `${shown(token)} ${percent(p)}`).join("  ") : stage.path;
  reading.replaceChildren(element("b", { textContent: moment(time) }), `  ${top}  ·  ${field}`);
}

// ---- the filters of a layer

const drawer = document.getElementById("drawer");
/** The layer and filter that are shown. */
let chosen = { stage: null, filter: null };
/** What opened the drawer, to return the focus to. */
let opener = null;

function buildDrawer() {
  document.getElementById("close").onclick = closeDrawer;
  document.getElementById("size").oninput = event => document.getElementById("channels").style.setProperty("--size", `${event.target.value}px`);
  addEventListener("keydown", event => { if (event.key === "Escape" && !drawer.hidden) closeDrawer(); });
}

function closeDrawer() {
  drawer.hidden = true;
  response.row.hidden = true;
  document.body.classList.remove("drawn");
  document.querySelectorAll(".strongest").forEach(mark => mark.remove());
  opener?.focus();
}

/** Opens the drawer with every filter of a layer. */
function showFilters(index) {
  const stage = scene.stages[index], channels = document.getElementById("channels");
  explain(null);
  opener = document.activeElement;
  chosen = { stage: index, filter: null };
  drawer.hidden = false;
  document.body.classList.add("drawn");
  document.getElementById("filter").hidden = true;
  document.getElementById("slide").hidden = !stage.windows;
  const title = document.getElementById("drawer-title");
  title.replaceChildren(element("b", { textContent: stage.path }), `: ${stage.about}. ${stage.channels} filters, each on a scale of its own`);
  channels.replaceChildren(...Array.from({ length: stage.channels }, (_, filter) => {
    const canvas = element("canvas"), [least, most] = [stage.levels.least[filter], stage.levels.greatest[filter]];
    const button = element("button", {}, canvas, `${filterName(index, filter)} · ${most > least ? `up to ${+most.toPrecision(2)}` : "silent"}`);
    canvas.style.height = stage.bins > 1 ? "auto" : "26px";
    if (stage.bins > 1) canvas.style.aspectRatio = `${Math.max(1.6, Math.min(5, duration))} / 1`;
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => showFilter(index, filter, button);
    drawChannel(canvas, stage, filter);
    return button;
  }));
  channels.scrollTop = 0;
  title.focus({ preventScroll: true });
}

/** The last layer's filters are the classes. */
const filterName = (index, filter) =>
  index === outputStage() && scene.stages[index].channels === scene.tokens.length ? shown(filter) : String(filter);

/** A channel as an image, or as a curve if it has but one bin. */
function drawChannel(canvas, stage, filter) {
  const values = channel(stage, filter);
  if (stage.bins > 1) return paint(canvas, stage.bins, stage.steps, (bin, step) => values[bin * stage.steps + step]);
  const rows = 24;
  return paint(canvas, rows, stage.steps, (row, step) => row <= values[step] / 255 * (rows - 1) ? 70 + Math.round(.7 * values[step]) : 0);
}

/** Shows one filter: its response over time, where it is strongest, what it weighs. */
function showFilter(index, filter, button) {
  const stage = scene.stages[index], values = channel(stage, filter), name = `${stage.path} · ${filterName(index, filter)}`;
  chosen = { stage: index, filter };
  document.querySelectorAll("#channels [aria-pressed=true]").forEach(other => other.setAttribute("aria-pressed", "false"));
  button.setAttribute("aria-pressed", "true");

  response.row.hidden = false;
  response.label.replaceChildren(element("b", { textContent: name }), element("span", { className: "quiet", textContent: "response, on a scale of its own" }));
  response.lane.replaceChildren();
  drawChannel(strip(response.lane, stage.steps, stepSeconds(stage), `Response of ${name} over time`), stage, filter);

  const strongest = values.reduce((most, level, n) => level > values[most] ? n : most, 0);
  const [bin, step] = [Math.floor(strongest / stage.steps), strongest % stage.steps];
  const frames = seenBy(stage.sees[0][0], step, scene.frames) ?? [0, 0], bins = seenBy(stage.sees[0][1], bin, scene.bins) ?? [0, scene.bins - 1];
  document.querySelectorAll(".strongest").forEach(mark => mark.remove());
  box(spectrogram.lane, "strongest", frames, scene.hop_s, bins, scene.bins);

  reveal(step * stepSeconds(stage));
  spectrogram.lane.scrollIntoView({ block: "start" });
  const panel = document.getElementById("filter");
  const [from, to] = [frames[0] * scene.hop_s, frames[1] * scene.hop_s + scene.window_s];
  const patch = element("canvas", { role: "img", ariaLabel: "Strongest patch" }), image = at(scene.image);
  const [columns, height] = [frames[1] - frames[0] + 1, bins[1] - bins[0] + 1];
  paint(patch, height, columns, (row, column) => image[(bins[0] + row) * scene.frames + frames[0] + column]);
  const scale = Math.min(220 / columns, 110 / height, 14);
  patch.style.width = `${Math.max(4, columns * scale)}px`;
  patch.style.height = `${Math.max(4, height * Math.min(110 / height, 14))}px`;
  const play = element("button", { textContent: "Play it" });
  play.onclick = () => playPiece(from, to);
  panel.replaceChildren(
    element("h3", { textContent: name }),
    element("p", { className: "quiet", textContent: `${+valueOf(stage, filter, 255).toPrecision(3)} at ${moment(step * stepSeconds(stage))}` }),
    element("h4", { textContent: `Strongest patch: ${moment(from)} to ${moment(to)}, ${scene.centres_hz[bins[0]]} to ${scene.centres_hz[bins[1]]} Hz` }),
    element("div", { className: "patch" }, patch, play),
    ...stage.filters ? [element("h4", { textContent: weightsTitle(stage.filters) }), element("div", { className: "weights" }, ...weights(stage.filters, filter))] : []);
  panel.hidden = false;
  panel.scrollTop = 0;
}
