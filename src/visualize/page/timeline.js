/** The rows over the time axis. */
const rows = document.getElementById("rows"), reading = document.getElementById("reading");
/** Of each stage: its lane, how tall it is in bins, and what it shows. */
const stageRows = [];
/** Works that draw again when the colours change. */
const painters = [];

/** Draws now and whenever the colours change. */
function painted(draw) {
  painters.push(draw);
  draw();
}

/** A row: what stands in the gutter, and a lane of some height in pixels. */
function addRow(name, about, height, kind = "") {
  const lane = element("div", { className: "lane" });
  lane.style.setProperty("--height", `${height}px`);
  const label = element("div", { className: "label" }, typeof name === "string" ? element("b", { textContent: name }) : name,
    element("span", { className: "quiet", textContent: about }));
  const row = element("div", { className: `row ${kind}` }, label, lane);
  rows.append(row);
  return { row, label, lane };
}

function addHeading(text) {
  rows.append(element("div", { className: "row heading" }, element("h2", { textContent: text })));
}

/** A canvas of `columns` of `columnSeconds` each, from `first` on. */
function strip(lane, columns, columnSeconds, description, first = 0) {
  const canvas = element("canvas", { role: "img" });
  canvas.setAttribute("aria-label", description);
  canvas.style.width = `${100 * columns * columnSeconds / duration}%`;
  canvas.style.left = `${100 * first * columnSeconds / duration}%`;
  lane.append(canvas);
  return canvas;
}

/** Small labels in the gutter at heights from 0, the foot, to 1. */
function ticks(lane, marks) {
  const holder = element("div", { className: "ticks" });
  holder.setAttribute("aria-hidden", "true");
  for (const [text, height] of marks) {
    const mark = element("span", { textContent: text });
    mark.style.top = `${100 * (1 - height)}%`;
    holder.append(mark);
  }
  lane.before(holder);
}

/** The time under the pointer, in seconds, and the height, from 0, the foot, to 1. */
function pointed(event, lane) {
  const box = lane.getBoundingClientRect();
  const within = value => Math.min(.99999, Math.max(0, value));
  return [within((event.clientX - box.left) / box.width) * duration, within(1 - (event.clientY - box.top) / box.height)];
}

/** Calls `over(time, height)` as the pointer moves over a lane; a click moves the cursor there. */
function watch(lane, over) {
  lane.addEventListener("pointermove", event => over(...pointed(event, lane)));
  lane.addEventListener("pointerleave", () => see(null));
  lane.addEventListener("click", event => { if (!event.target.closest("button")) moveTo(pointed(event, lane)[0]); });
}

function buildTimeline() {
  const axis = addRow("", "", 16, "axis").lane;
  const every = [.1, .2, .5, 1, 2, 5].find(step => duration / step <= 12) ?? 5;
  for (let time = 0; time < duration - every / 3; time += every) {
    const mark = element("span", { textContent: `${+(scene.from_s + time).toFixed(1)} s` });
    mark.style.left = `${100 * time / duration}%`;
    axis.append(mark);
  }
  buildWaveform();
  buildSpectrogram();
  buildResponse();
  buildWords();
  buildPosteriors();
  addHeading("Layers, from the sound upwards");
  scene.stages.forEach(buildStage);
}

function buildWaveform() {
  const { lane } = addRow("Sound", "", 54);
  const canvas = strip(lane, 1, duration, "Waveform"), pcm = samples(scene.samples);
  canvas.className = "smooth";
  const most = pcm.reduce((most, sample) => Math.max(most, Math.abs(sample)), 1);
  painted(() => {
    const columns = canvas.width = 2400, height = canvas.height = 108, context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(document.body).getPropertyValue("--quiet");
    for (let x = 0; x < columns; x++) {
      const [from, to] = [x, x + 1].map(edge => Math.floor(edge * pcm.length / columns));
      let low = 0, high = 0;
      for (let n = from; n < to; n++) { low = Math.min(low, pcm[n]); high = Math.max(high, pcm[n]); }
      const top = height / 2 * (1 - high / most);
      context.fillRect(x, top, 1, Math.max(1.5, height / 2 * (1 - low / most) - top));
    }
  });
  watch(lane, time => see(outputStage(), stepAt(time)));
}

/** The spectrogram's lane, its picture and what is laid over it. */
const spectrogram = {};

function buildSpectrogram() {
  const { lane } = addRow("Spectrogram", `${scene.bins} bins, what the network sees`, 200);
  const picture = strip(lane, scene.frames, scene.hop_s, "Spectrogram, time to the right, frequency upwards");
  const image = at(scene.image);
  painted(() => paint(picture, scene.bins, scene.frames, (bin, frame) => image[bin * scene.frames + frame]));
  const marks = [250, 500, 1000, 2000, 4000].filter(hz => hz < scene.centres_hz.at(-1)).map(hz => {
    const bin = scene.centres_hz.findIndex(centre => centre >= hz);
    return [hz < 1000 ? `${hz}` : `${hz / 1000}k`, (bin + .5) / scene.bins];
  });
  ticks(lane, marks);
  Object.assign(spectrogram, { lane, picture, over: null });
  watch(lane, time => see(outputStage(), stepAt(time)));
}

/** Where the response of the chosen filter is shown. */
const response = {};

function buildResponse() {
  const { row, label, lane } = addRow("", "", 76);
  row.hidden = true;
  Object.assign(response, { row, label, lane });
}

/** The step of the output at a time. */
const stepAt = time => Math.min(scene.steps - 1, Math.floor(time / scene.step_s));
/** The last stage, whose outputs are the logits. */
const outputStage = () => scene.stages.length - 1;

function buildWords() {
  const { lane } = addRow("Words", scene.delay_s ? `${scene.delay_s * 1000} ms of delay taken off` : "", 28, "words");
  for (const word of scene.words) {
    const box = element("span", { textContent: word.text, title: `${word.text}: ${percent(word.confidence)} sure, ${moment(word.start_s)} to ${moment(word.end_s)}` });
    box.style.left = `${100 * word.start_s / duration}%`;
    box.style.width = `${100 * (word.end_s - word.start_s) / duration}%`;
    box.style.setProperty("--sure", `${Math.round(100 * word.confidence)}%`);
    lane.append(box);
  }
}

function buildPosteriors() {
  const letters = addRow("Letters", "choose one: why?", 24, "letters").lane;
  letters.style.overflow = "visible";
  scene.letters.forEach((letter, index) => {
    const button = letterButton(index);
    button.style.left = `${100 * (letter.step + .5) * scene.step_s / duration}%`;
    letters.append(button);
  });
  const probabilities = scene.tokens.map((_, token) => Float32Array.from({ length: scene.steps }, (_, step) => Math.exp(logProb(token, step))));
  const likely = scene.tokens.map((_, token) => token).filter(token => probabilities[token].some(p => p > .05));
  const order = [...likely.filter(token => token > 0).reverse(), ...likely.filter(token => token === 0)];
  const { lane } = addRow("Posteriors", "each class at each step", 11.5 * order.length);
  const canvas = strip(lane, scene.steps, scene.step_s, "Probability of each class at each step");
  painted(() => paint(canvas, order.length, scene.steps, (row, step) => Math.round(255 * Math.sqrt(probabilities[order[row]][step]))));
  ticks(lane, order.map((token, row) => [token === 0 ? "blank" : shown(token), (row + .5) / order.length]));
  watch(lane, time => see(outputStage(), stepAt(time)));
}

/** The time axis fits the page, but letters stay apart. */
function setZoom(factor) {
  const holder = document.getElementById("timeline");
  const zoom = Math.min(40, Math.max(1, factor));
  const middle = (holder.scrollLeft + holder.clientWidth / 2) / holder.scrollWidth;
  document.documentElement.style.setProperty("--zoom", zoom);
  holder.scrollLeft = middle * holder.scrollWidth - holder.clientWidth / 2;
  return zoom;
}

/** Brings a time into sight. */
function reveal(time) {
  const holder = document.getElementById("timeline"), lane = spectrogram.lane;
  const x = lane.offsetLeft + lane.clientWidth * time / duration, margin = lane.offsetLeft + 24;
  if (x < holder.scrollLeft + margin || x > holder.scrollLeft + holder.clientWidth - 24)
    holder.scrollLeft = x - (margin + holder.clientWidth) / 2;
}

function buildZoom() {
  const holder = document.getElementById("timeline");
  const perSecond = (holder.clientWidth - 40) / duration;
  // A letter is some 11 pixels wide, and the closest are a step apart.
  let zoom = setZoom(11 / scene.step_s / perSecond);
  holder.scrollLeft = 0;
  document.getElementById("wider").onclick = () => { zoom = setZoom(zoom * 1.5); };
  document.getElementById("narrower").onclick = () => { zoom = setZoom(zoom / 1.5); };
}
