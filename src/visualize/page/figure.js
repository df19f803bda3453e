/** The network drawn in the manner of AlexNet's figure 2: volumes to scale, and the windows that slide over them. */
function buildFigure() {
  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS(document.getElementById("figure").namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const figure = document.getElementById("figure"), floor = 200, perBin = 1.9;
  const input = { path: "sound", bins: scene.bins, channels: 1, stride: 1, depth: 0, index: -1 };
  const volumes = [input, ...scene.stages.map((stage, index) => ({ ...stage, index }))].filter(stage => stage.depth === 0);
  /** Channels to the right, frequency upwards, time into the page; the root keeps thick layers in bounds. */
  const place = ({ x, height }, [channel, bin, time]) => [x + channel + .55 * time, floor - height * bin - .38 * time];
  const path = points => `M${points.map(point => point.map(value => value.toFixed(1)).join(" ")).join("L")}Z`;
  let x = 26;
  for (const volume of volumes) {
    Object.assign(volume, {
      x, height: Math.max(5, perBin * volume.bins), thickness: 2 + 1.9 * Math.sqrt(volume.channels),
      // A second of steps; those that come seldom make a shallow volume.
      time: Math.max(8, .85 / (volume.stride * scene.hop_s)),
    });
    x += volume.thickness + .55 * volume.time + 30;
  }
  volumes.forEach((volume, n) => {
    const { thickness: t, time: d, index } = volume, at = (...point) => place(volume, point);
    const faces = [
      ["front", [at(0, 0, 0), at(t, 0, 0), at(t, 1, 0), at(0, 1, 0)]],
      ["top", [at(0, 1, 0), at(t, 1, 0), at(t, 1, d), at(0, 1, d)]],
      ["side", [at(t, 0, 0), at(t, 0, d), at(t, 1, d), at(t, 1, 0)]],
    ].map(([name, points]) => svg("path", { class: name, d: path(points) }));
    const shape = volume.bins > 1 ? `${volume.bins} × ${volume.channels}` : `${volume.channels}`;
    const rate = `${+(1 / (volume.stride * scene.hop_s)).toFixed(1)}/s`;
    const middle = volume.x + t / 2;
    const captions = [[volume.path, 18, "name"], [shape, 33, ""], [rate, 47, ""]].map(([text, below, kind]) =>
      svg("text", { x: middle.toFixed(1), y: floor + below, class: kind }, text));
    const title = svg("title", {}, `${volume.path}: ${volume.about ?? "spectrogram"}, ${shape}, ${rate}`);
    const group = svg("g", { class: index < 0 ? "volume" : "volume open" }, title, ...faces, ...captions);
    if (index >= 0) group.addEventListener("click", () => showFilters(index));
    const before = volumes[n - 1];
    const spans = before && volume.sees[before.index + 1];
    if (spans) {
      // The window on the volume before, larger than to scale where it would not be seen.
      const [times, bins] = spans.map(([, past, after]) => past + after + 1);
      const depth = Math.min(.8 * before.time, Math.max(6, times * before.stride * scene.hop_s * before.time));
      const tall = Math.min(1, bins / before.bins), low = (1 - tall) * .55, near = Math.min(before.time * .3, before.time - depth);
      const corners = [[low, near], [low, near + depth], [low + tall, near + depth], [low + tall, near]].map(([bin, time]) => place(before, [before.thickness, bin, time]));
      const tip = at(0, .55, 0);
      figure.append(svg("path", { class: "window", d: path(corners) }), ...corners.map(corner => svg("path", { class: "ray", d: `M${corner}L${tip}` })));
    }
    figure.append(group);
  });
  figure.setAttribute("viewBox", `0 0 ${Math.ceil(x)} ${floor + 56}`);
  figure.style.minWidth = `${Math.ceil(x * .72)}px`;
  figure.setAttribute("aria-label", `The network: ${volumes.map(({ path, bins, channels }) => `${path} ${bins} × ${channels}`).join(", ")}`);
}
