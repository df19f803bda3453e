/** Builds the page; `document.documentElement.dataset.ready` tells when it stands. */
async function build() {
  await unpack();
  mixColours();
  document.title = `Seeing inside: ${scene.name}`;
  document.getElementById("name").textContent = scene.name;
  const millions = (scene.model.parameters / 1e6).toFixed(2);
  document.getElementById("about").textContent = `${seconds(duration)}${scene.from_s ? ` from ${seconds(scene.from_s)}` : ""}, heard by ${scene.model.name}: ` +
    `${millions} million parameters, a step every ${Math.round(1000 * scene.step_s)} ms`;
  buildTranscript();
  loadSound();
  buildTimeline();
  buildMethods();
  buildFigure();
  buildVolume();
  buildArithmetic();
  buildDrawer();
  buildZoom();
  dark.addEventListener("change", () => { mixColours(); painters.forEach(draw => draw()); });
  document.documentElement.dataset.ready = "yes";
}
build();
