/** Builds the page; `document.documentElement.dataset.ready` tells when it stands. */
async function build() {
  await unpack();
  mixColours();
  const { name, clips, hours, layers, earlier } = scene;
  document.title = `${name}: what its filters love`;
  document.getElementById("name").textContent = document.title;
  const amount = hours < 2 ? `${(60 * hours).toFixed(hours < .2 ? 1 : 0)} minutes` : `${hours.toFixed(1)} hours`;
  document.getElementById("about").textContent = `For each filter the patches of ${amount} of sound, in ${clips} clips, that it answers to most, each from another clip. ` +
    `Under a patch: what of it the filter answered to (the deconvnet's projection), and the letters heard then. Orange excites, blue inhibits. Choose a patch to hear it.` +
    (layers.some(({ filters }) => filters.some(({ imagined }) => imagined)) ? ` On the left what it would answer to most, imagined by gradient ascent.` : "") +
    (earlier.length ? ` Below: the strongest at earlier times of training.` : "");
  buildTabs();
  buildDetail();
  dark.addEventListener("change", () => { mixColours(); showLayer(chosenLayer); closeDetail(); });
  showLayer(0);
  document.documentElement.dataset.ready = "yes";
}

// ---- layers

let chosenLayer = 0;

function buildTabs() {
  const tabs = scene.layers.map((layer, index) => {
    const tab = element("button", { textContent: layer.path, role: "tab", title: layer.about });
    tab.setAttribute("aria-controls", "layer");
    tab.onclick = () => showLayer(index);
    return tab;
  });
  const list = document.getElementById("layers");
  list.replaceChildren(...tabs);
  list.onkeydown = event => {
    const turn = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = tabs[chosenLayer + turn];
    if (next) { next.click(); next.focus(); }
  };
}

/** A filter by its number, or by what it stands for in the layer of the classes. */
const isClasses = layer => layer === scene.layers.at(-1) && layer.channels === scene.tokens.length;
const filterName = (layer, channel) => `${layer.path} · ${isClasses(layer) ? shown(channel) : channel}`;

function showLayer(index) {
  chosenLayer = index;
  const layer = scene.layers[index], { bins, channels, filters } = layer;
  closeDetail();
  [...document.getElementById("layers").children].forEach((tab, n) => {
    tab.setAttribute("aria-selected", String(n === index));
    tab.tabIndex = n === index ? 0 : -1;
  });
  const shape = bins > 1 ? `${bins} bins × ${channels} filters` : `${channels} filters`;
  document.getElementById("layer-about").textContent = `${layer.about}. ${shape}, a step every ${Math.round(1000 * layer.step_s)} ms; ` +
    `a unit sees ${Math.round(1000 * layer.field_s)} ms of sound. ${layer.weights ? `${weightsTitle(layer.weights)}. ` : ""}${filters.length < channels ? `Here: ${filters.length} of the ${channels} filters.` : ""}`;
  document.getElementById("filters").replaceChildren(...filters.map(filter => buildFilter(layer, filter)));
  scrollTo({ top: 0 });
}

function buildFilter(layer, filter) {
  const name = filterName(layer, filter.channel);
  // All on one scale: how tall and wide the largest patch is.
  const imagined = filter.imagined ? [filter.imagined] : [], all = [...filter.patches, ...imagined, ...filter.earlier.map(([, patch]) => patch)];
  const size = [Math.max(...all.map(patch => patch.frames)), Math.max(...all.map(patch => patch.bins))];
  const row = (patches, names) => element("div", { className: "patches" }, ...patches.map((patch, n) => buildPatch(layer, filter, patch, size, names(n))));
  const about = element("div", {}, element("h3", { textContent: name })), columns = element("div", {}, row(filter.patches, n => `no. ${n + 1}`));
  if (layer.weights) about.append(element("div", { className: "weights", title: weightsTitle(layer.weights) }, ...weights(layer.weights, filter.channel)));
  if (filter.imagined) about.append(element("div", { className: "imagined" }, buildPatch(layer, filter, filter.imagined, size, "imagined")));
  if (filter.earlier.length) columns.append(element("h4", { textContent: "over its training" }), row(filter.earlier.map(([, patch]) => patch), n => scene.earlier[filter.earlier[n][0]]));
  return element("section", { className: "filter", ariaLabel: name }, about, columns);
}

/** A patch's levels and those of its projection, as functions of bin and frame. */
function pictures({ piece, first_frame, first_bin, back }) {
  const { frames, image } = scene.pieces[piece], levels = at(image), answered = at(back.place);
  return {
    heardLevel: (bin, frame) => levels[(first_bin + bin) * frames + first_frame + frame],
    backLevel: (bin, frame) => {
      const column = frame - back.first_frame;
      return column >= 0 && column < back.frames ? answered[bin * back.frames + column] : 128;
    },
  };
}

function buildPatch(layer, filter, patch, size, name) {
  const { frames, bins, heard, value } = patch, { heardLevel, backLevel } = pictures(patch);
  const style = `width:${Math.min(118, 14 * size[0]) * frames / size[0]}px;height:${Math.min(72, 14 * size[1]) * bins / size[1]}px`;
  const image = paint(element("canvas"), bins, frames, heardLevel), back = paint(element("canvas"), bins, frames, backLevel, signed);
  image.style.cssText = back.style.cssText = style;
  const button = element("button", { className: "patch", title: `${value} at ${moment(patch)}: listen` }, image, back, letters(heard));
  if (!name.startsWith("no.")) button.append(element("span", { className: "name", textContent: name }));
  button.setAttribute("aria-label", `${name}: answers ${value} at “${heard.join("")}”, ${scene.pieces[patch.piece].name}; listen`);
  button.setAttribute("aria-pressed", "false");
  button.onclick = () => showDetail(layer, filter, patch, name, button);
  return button;
}

/** The letters heard around a moment, that of the moment in the middle. */
const letters = ([before, letter, after]) => element("span", { className: "heard" },
  element("span", { textContent: before }), element("b", { className: "letter", textContent: letter || "·" }), element("span", { textContent: after }));

/** When a patch begins, in its clip. */
const moment = ({ piece, first_frame }) => seconds(scene.pieces[piece].start_s + first_frame * scene.hop_s);

// ---- the chosen patch

const detail = document.getElementById("detail"), sound = new Audio();
/** The patch that is shown, and the button that chose it. */
let chosen = { patch: null, button: null };
/** Where in its piece the sound that plays begins and ends, as shares. */
let playing = [0, 1];

function buildDetail() {
  document.getElementById("close").onclick = () => { const { button } = chosen; closeDetail(); button?.focus(); };
  document.getElementById("play").onclick = () => play(chosen.patch);
  document.getElementById("play-all").onclick = () => play({ ...chosen.patch, first_frame: 0, frames: Infinity });
  document.getElementById("over").onchange = ({ target }) => { document.getElementById("detail-back").hidden = !target.checked; };
  addEventListener("keydown", event => { if (event.key === "Escape" && !detail.hidden) document.getElementById("close").click(); });
  const follow = () => {
    const [from, to] = playing, share = sound.duration ? sound.currentTime / sound.duration : 0;
    document.getElementById("cursor").style.setProperty("--t", from + (to - from) * share);
    if (!sound.paused) requestAnimationFrame(follow);
  };
  sound.addEventListener("play", follow);
}

function closeDetail() {
  sound.pause();
  detail.hidden = true;
  document.body.classList.remove("chosen");
  chosen.button?.setAttribute("aria-pressed", "false");
  chosen = { patch: null, button: null };
}

/** Shows a patch in its piece, and plays it. */
function showDetail(layer, filter, patch, name, button) {
  closeDetail();
  chosen = { patch, button };
  button.setAttribute("aria-pressed", "true");
  detail.hidden = false;
  document.body.classList.add("chosen");
  const piece = scene.pieces[patch.piece], [before, letter, after] = patch.heard, { frames, bins, first_frame, first_bin } = patch;
  const put = (id, ...parts) => document.getElementById(id).replaceChildren(...parts);
  put("detail-title", `${filterName(layer, filter.channel)}, ${name}: ${patch.value}`);
  put("detail-heard", "heard: …", before, element("b", { className: "letter", textContent: letter || "·" }), after, "…");
  put("detail-said", piece.said ? `said: ${piece.said}` : "");
  const end = seconds(piece.start_s + (first_frame + frames - 1) * scene.hop_s + scene.window_s);
  put("detail-where", `${piece.name}, ${moment(patch)} to ${end}, ${scene.centres_hz[first_bin]} to ${scene.centres_hz[first_bin + bins - 1]} Hz`);
  put("extent", `${seconds(piece.start_s)} to ${seconds(piece.start_s + piece.samples / scene.rate_hz)}, ${scene.centres_hz[0]} to ${scene.centres_hz.at(-1)} Hz`);

  const levels = at(piece.image), { backLevel } = pictures(patch), inside = (n, first, count) => n >= first && n < first + count;
  const image = paint(document.getElementById("detail-image"), scene.bins, piece.frames, (bin, frame) => levels[bin * piece.frames + frame]);
  image.setAttribute("aria-label", `Spectrogram of ${piece.name} around the patch`);
  paint(document.getElementById("detail-back"), scene.bins, piece.frames, (bin, frame) =>
    inside(bin, first_bin, bins) && inside(frame, first_frame, frames) ? backLevel(bin - first_bin, frame - first_frame) : 128, overlay);
  const box = document.getElementById("box").style, percent = (part, whole) => `${100 * part / whole}%`;
  [box.left, box.width] = [percent(first_frame, piece.frames), percent(frames, piece.frames)];
  [box.bottom, box.height] = [percent(first_bin, scene.bins), percent(bins, scene.bins)];
  // As wide as its length asks for, so that short pieces are not stretched.
  button.scrollIntoView({ block: "nearest" });
  document.getElementById("detail-picture").style.maxWidth = `${Math.max(240, 5.5 * piece.frames)}px`;
  play(patch);
}

/** Plays some frames of a piece; what is too short to be heard, with a little around it. */
function play({ piece: index, first_frame, frames }) {
  const piece = scene.pieces[index], all = unpacked(piece), least = .2 * scene.rate_hz, hop = scene.hop_s * scene.rate_hz;
  let from = first_frame * hop, to = Math.min(all.length, from + (frames - 1) * hop + scene.window_s * scene.rate_hz);
  const more = Math.max(0, least - (to - from)) / 2;
  [from, to] = [Math.max(0, Math.floor(from - more)), Math.min(all.length, Math.ceil(to + more))];
  playing = [from / all.length, to / all.length];
  URL.revokeObjectURL(sound.src);
  sound.src = wav(all.slice(from, to));
  sound.play().catch(() => {}); // no sound device: the page is still of use
}

/** The samples of a piece: ADPCM, see adpcm.rs. */
function unpacked({ sound: place, samples: count }) {
  const codes = at(place), samples = new Int16Array(count), { steps, turns } = scene.adpcm;
  let predicted = 0, index = 0;
  for (let n = 0; n < count; n++) {
    const code = n % 2 ? codes[n >> 1] >> 4 : codes[n >> 1] & 15, magnitude = code & 7;
    const change = steps[index] * (2 * magnitude + 1) >> 3;
    predicted = Math.max(-32768, Math.min(32767, predicted + (code & 8 ? -change : change)));
    index = Math.max(0, Math.min(steps.length - 1, index + turns[magnitude]));
    samples[n] = predicted;
  }
  return samples;
}
build();
