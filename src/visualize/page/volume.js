/** Canvases shown of a layer with several bins: those of its liveliest channels. */
const SLICES = 8;
/** Extent in space of the time axis, and of a bin of the spectrogram. */
const SPAN = 720, BIN = 2.6;
/** Between two layers. */
const GAP = 34;
/** The planes by stage; the first is the spectrogram's: `{ z, width, height, group }`. */
const planes = [];

/** Builds the view when it is first asked for, and turns it as the user will. */
function buildVolume() {
  const views = { figure: document.getElementById("figure-view"), volume: document.getElementById("volume-view") };
  document.getElementById("views").onchange = ({ target }) => {
    for (const [name, view] of Object.entries(views)) view.hidden = name !== target.value;
    if (target.value === "volume" && !planes.length) fillSpace();
  };
  const volume = document.getElementById("volume"), space = document.getElementById("space");
  const view = { yaw: -42, pitch: -22, near: .62 };
  const turn = (yaw, pitch, near = 1) => {
    view.yaw += yaw;
    view.pitch = Math.max(-89, Math.min(89, view.pitch + pitch));
    view.near = Math.max(.25, Math.min(4, view.near * near));
    space.style.setProperty("--yaw", `${view.yaw}deg`);
    space.style.setProperty("--pitch", `${view.pitch}deg`);
    space.style.setProperty("--near", view.near);
  };
  turn(0, 0, Math.min(1, innerWidth / 1200));
  const keys = { ArrowLeft: [-6, 0], ArrowRight: [6, 0], ArrowUp: [0, 4], ArrowDown: [0, -4], "+": [0, 0, 1.15], "-": [0, 0, 1 / 1.15] };
  volume.onkeydown = event => {
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    turn(...keys[event.key]);
  };
  volume.onpointermove = event => { if (event.buttons) turn(event.movementX * .35, -event.movementY * .25); };
  volume.addEventListener("wheel", event => {
    // Scrolling the page goes on; zooming is asked for.
    if (!event.ctrlKey) return;
    event.preventDefault();
    turn(0, 0, Math.exp(-event.deltaY / 300));
  }, { passive: false });
}

/** Puts the spectrogram and every layer that is not inside another into space, from back to front. */
function fillSpace() {
  const space = document.getElementById("space"), image = at(scene.image);
  const sound = { path: "sound", index: -1, bins: scene.bins, steps: scene.frames, stride: 1, slices: [{ rows: scene.bins, level: (bin, frame) => image[bin * scene.frames + frame] }] };
  const layers = scene.stages.map((stage, index) => ({ ...stage, index })).filter(stage => stage.depth === 0);
  const volumes = [sound, ...layers.map(stage => ({ ...stage, slices: slicesOf(scene.stages[stage.index], stage.index) }))];
  // A thick layer has more channels; the root keeps it in bounds.
  const thickness = ({ bins, channels = 1 }) => bins > 1 ? 5 * Math.sqrt(channels) : 2.6 * Math.sqrt(channels);
  let z = -volumes.reduce((sum, volume) => sum + thickness(volume) + GAP, 0) / 2;
  for (const volume of volumes) {
    const { path, index, bins, steps, stride, slices } = volume, depth = thickness(volume);
    const width = SPAN * Math.min(1, steps * stride * scene.hop_s / duration), height = Math.max(1, bins) * BIN * Math.min(6, scene.bins / bins) ** .5;
    const group = element("div", { className: "volume" });
    const flat = bins === 1;
    const name = element("span", { className: "name", textContent: path });
    name.style.transform = `translate3d(${-SPAN / 2 - 12}px, 0, ${z + depth / 2}px) translate(-100%, -50%)`;
    group.append(name);
    slices.forEach(({ rows, level }, n) => {
      const canvas = element("canvas");
      painted(() => paint(canvas, rows, steps, level));
      canvas.style.width = `${width}px`;
      canvas.style.height = `${flat ? depth : height}px`;
      canvas.style.transform = flat
        ? `translate3d(${-SPAN / 2}px, ${-depth / 2}px, ${z + depth / 2}px) rotateX(90deg)`
        : `translate3d(${-SPAN / 2}px, ${-height / 2}px, ${z + depth * (slices.length > 1 ? n / (slices.length - 1) : .5)}px)`;
      group.append(canvas);
    });
    const shape = bins > 1 ? `${bins} bins × ${volume.channels ?? 1}` : `${volume.channels} channels`;
    group.onpointerenter = () => { document.getElementById("volume-about").textContent = `${path}: ${volume.about ?? "spectrogram"}, ${shape}`; };
    if (index >= 0) group.onclick = () => showFilters(index);
    planes[index + 1] = { z: z + depth, width, height: flat ? 10 : height, group };
    space.append(group);
    z += depth + GAP;
  }
  document.getElementById("volume").dataset.planes = volumes.length;
}

/** The pictures of a layer: the posteriors of the last, else its liveliest channels, or all channels as one picture if it has but one bin. */
function slicesOf(stage, index) {
  if (index === outputStage() && stage.channels === scene.tokens.length)
    return [{ rows: stage.channels, level: (token, step) => Math.round(255 * Math.exp(logProb(token, step))) }];
  if (stage.bins === 1) {
    const { height, level } = overview(stage);
    return [{ rows: height, level }];
  }
  const order = Array.from({ length: stage.channels }, (_, index) => index).sort((a, b) => stage.levels.greatest[b] - stage.levels.greatest[a]);
  return order.slice(0, SLICES).map(index => {
    const values = channel(stage, index);
    return { rows: stage.bins, level: (bin, step) => values[bin * stage.steps + step] };
  });
}

/** Frames on every plane what a unit sees of it: the pyramid down to the sound. */
function showField(index, step, bin) {
  document.querySelectorAll("#space .field").forEach(frame => frame.remove());
  if (index === null || !planes.length) return;
  const stage = scene.stages[index];
  [null, ...scene.stages].forEach((layer, line) => {
    const plane = planes[line], own = line === index + 1;
    const seen = layer ?? { bins: scene.bins, steps: scene.frames, stride: 1 };
    if (!plane || !(own || stage.sees[line])) return;
    const columns = own ? [step, step] : seenBy(stage.sees[line][0], step, seen.steps), rows = own ? [bin, bin] : seenBy(stage.sees[line][1], bin, seen.bins);
    if (!columns || !rows) return;
    const frame = element("div", { className: "field" }), wide = plane.width / seen.steps, high = plane.height / seen.bins;
    frame.style.width = `${Math.max(4, wide * (columns[1] - columns[0] + 1))}px`;
    frame.style.height = `${Math.max(4, high * (rows[1] - rows[0] + 1))}px`;
    frame.style.transform = `translate3d(${-SPAN / 2 + wide * columns[0]}px, ${plane.height / 2 - high * (rows[1] + 1)}px, ${plane.z + 1}px)`;
    plane.group.append(frame);
  });
}
