/** Canvases shown of a layer with several bins: those of its liveliest channels. */
const SLICES = 8;
/** Extent in space of the time axis, and of a bin of the spectrogram. */
const SPAN = 720, BIN = 2.6;
/** Width of the view that holds all of it, and how far the eye is in such widths. */
const WHOLE = 1620, EYE = 1.8;
/** Between two layers. */
const GAP = 34;
/** The planes by stage; the first is the spectrogram's: `{ z, width, height, group }`. */
const planes = [];

/** Moved by this many pixels a press is no click. */
const DRAG = 5;
/** What the pyramid stands on now, so that it is not built twice. */
let shownField = "";

/** Builds the view when it is first asked for, and turns it as the user will. */
function buildVolume() {
  const views = { figure: document.getElementById("figure-view"), volume: document.getElementById("volume-view") };
  document.getElementById("views").onchange = ({ target }) => {
    for (const [name, view] of Object.entries(views)) view.hidden = name !== target.value;
    if (target.value !== "volume" || planes.length) return;
    fillSpace();
    see(null);
  };
  const volume = document.getElementById("volume"), space = document.getElementById("space");
  const view = {};
  const turn = (yaw, pitch, near = 1) => {
    view.yaw += yaw;
    view.pitch = Math.max(-89, Math.min(89, view.pitch + pitch));
    view.near = Math.max(.25, Math.min(4, view.near * near));
    space.style.setProperty("--yaw", `${view.yaw}deg`);
    space.style.setProperty("--pitch", `${view.pitch}deg`);
    space.style.setProperty("--near", view.near * volume.clientWidth / WHOLE);
    volume.style.perspective = `${EYE * volume.clientWidth}px`;
  };
  const start = () => {
    Object.assign(view, { yaw: -42, pitch: -22, near: 1 });
    turn(0, 0);
  };
  start();
  new ResizeObserver(() => turn(0, 0)).observe(volume);
  document.getElementById("nearer").onclick = () => turn(0, 0, 1.25);
  document.getElementById("farther").onclick = () => turn(0, 0, .8);
  document.getElementById("turn-back").onclick = start;
  const keys = { ArrowLeft: [-6, 0], ArrowRight: [6, 0], ArrowUp: [0, 4], ArrowDown: [0, -4], "+": [0, 0, 1.15], "-": [0, 0, 1 / 1.15] };
  volume.onkeydown = event => {
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    turn(...keys[event.key]);
  };
  // Two fingers bring it nearer, one turns it.
  const fingers = new Map();
  let moved = 0;
  const apart = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  volume.onpointerdown = event => {
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  };
  volume.onpointermove = event => {
    const last = fingers.get(event.pointerId), now = { x: event.clientX, y: event.clientY };
    if (!last) return;
    const [dx, dy] = [now.x - last.x, now.y - last.y], before = fingers.size === 2 && apart();
    fingers.set(event.pointerId, now);
    moved += Math.abs(dx) + Math.abs(dy);
    if (fingers.size === 2) turn(0, 0, apart() / Math.max(1, before));
    else turn(dx * .35, -dy * .25);
  };
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) volume.addEventListener(end, event => fingers.delete(event.pointerId));
  volume.addEventListener("click", event => { if (event.detail && moved > DRAG) event.stopPropagation(); }, true);
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
    const name = element(index < 0 ? "span" : "button", { className: "name", textContent: path });
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
    const tell = () => { document.getElementById("volume-about").textContent = `${path}: ${volume.about ?? "spectrogram"}, ${shape}`; };
    Object.assign(group, { onpointerenter: tell, onfocusin: tell });
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
  if (!planes.length || shownField === `${index} ${step} ${bin}`) return;
  shownField = `${index} ${step} ${bin}`;
  document.querySelectorAll("#space .field, #space .edge").forEach(part => part.remove());
  const stage = scene.stages[index], frames = [];
  [null, ...scene.stages].forEach((layer, line) => {
    const plane = planes[line], own = line === index + 1;
    const seen = layer ?? { bins: scene.bins, steps: scene.frames, stride: 1 };
    if (!plane || !(own || stage.sees[line])) return;
    const columns = own ? [step, step] : seenBy(stage.sees[line][0], step, seen.steps), rows = own ? [bin, bin] : seenBy(stage.sees[line][1], bin, seen.bins);
    if (!columns || !rows) return;
    const wide = plane.width / seen.steps, high = plane.height / seen.bins;
    const box = {
      left: -SPAN / 2 + wide * columns[0], top: plane.height / 2 - high * (rows[1] + 1), z: plane.z + 1,
      width: Math.max(4, wide * (columns[1] - columns[0] + 1)), height: Math.max(4, high * (rows[1] - rows[0] + 1)),
    };
    const frame = element("div", { className: "field" });
    frame.style.width = `${box.width}px`;
    frame.style.height = `${box.height}px`;
    frame.style.transform = `translate3d(${box.left}px, ${box.top}px, ${box.z}px)`;
    plane.group.append(frame);
    frames.push(box);
  });
  const corners = ({ left, top, z, width, height }) => [[0, 0], [1, 0], [0, 1], [1, 1]].map(([x, y]) => [left + x * width, top + y * height, z]);
  document.getElementById("space").append(...frames.slice(1).flatMap((box, n) => {
    const before = corners(frames[n]);
    return corners(box).map((corner, which) => edge(before[which], corner));
  }));
}

/** A line in space. */
function edge(from, to) {
  const [dx, dy, dz] = to.map((end, axis) => end - from[axis]), length = Math.hypot(dx, dy, dz);
  const line = element("div", { className: "edge" });
  line.style.width = `${length}px`;
  line.style.transform = `translate3d(${from.map(start => `${start}px`)}) rotateY(${Math.atan2(-dz, dx)}rad) rotateZ(${Math.asin(dy / length)}rad)`;
  return line;
}
