/** How what spoke for a letter can be found. */
const METHODS = [
  ["deconvnet", "Deconvnet", "The letter's score sent back through the layers with the deconvnet's rule: positive evidence only, the switches of this very pass (Zeiler & Fergus 2013)."],
  ["guided", "Guided gradient", "As the gradient, but only what was active passes, and only what speaks for the letter (Springenberg et al. 2015)."],
  ["gradient", "Gradient", "What more sound at each place would do to the letter's score: orange raises it, blue lowers it (Simonyan et al. 2013)."],
  ["occlusion", "Occlusion", "Each patch covered in turn: orange where the letter then becomes less probable, blue where it becomes more so."],
];
let method = "guided";
/** The letter that is explained, or null. */
let letter = null;

/** A button for a letter; all of one letter are pressed together. */
function letterButton(index) {
  const { token, probability } = scene.letters[index];
  const button = element("button", { textContent: shown(token), title: `${shown(token)}: ${percent(probability)}` });
  button.dataset.letter = index;
  button.setAttribute("aria-pressed", "false");
  button.onclick = () => explain(letter === index ? null : index);
  return button;
}

/** The transcript: words of letters; letters between two words belong to neither. */
function buildTranscript() {
  const holder = document.getElementById("transcript");
  let word = null, count = 0;
  scene.letters.forEach(({ token }, index) => {
    if (scene.tokens[token].trim() === "") { word = null; return; }
    if (!word) {
      word = element("span", { className: "word" });
      word.style.setProperty("--sure", `${Math.round(100 * (scene.words[count]?.confidence ?? 0))}%`);
      word.title = scene.words[count] ? `${percent(scene.words[count].confidence)} sure` : "";
      count++;
      holder.append(word);
    }
    word.append(letterButton(index));
  });
  if (!scene.letters.length) holder.append(element("span", { className: "quiet", textContent: "Nothing was heard." }));
}

function buildMethods() {
  document.getElementById("methods").append(...METHODS.filter(([key]) => key !== "occlusion" || scene.patch).map(([key, name]) => {
    const input = element("input", { type: "radio", name: "method", value: key, checked: key === method });
    input.onchange = () => { method = key; explain(letter); };
    return element("label", {}, input, ` ${name}`);
  }));
  addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (letter === null || !step || event.target.closest("input, #timeline")) return;
    event.preventDefault();
    explain(Math.min(scene.letters.length - 1, Math.max(0, letter + step)));
  });
  painted(() => explain(letter));
}

/** Lays over the spectrogram what spoke for a letter; `null` takes it away. */
function explain(index) {
  letter = index;
  document.querySelectorAll("[data-letter]").forEach(button => button.setAttribute("aria-pressed", String(+button.dataset.letter === index)));
  spectrogram.over?.remove();
  spectrogram.over = null;
  spectrogram.picture?.classList.toggle("faded", index !== null);
  document.getElementById("why").hidden = index === null;
  if (index === null) return;
  if (!drawer.hidden) closeDrawer();
  const { token, step, probability, why } = scene.letters[index];
  const others = best(step, 4).filter(([other]) => other !== token).slice(0, 3);
  document.getElementById("verdict").replaceChildren(
    "Why ", element("b", { textContent: `“${shown(token)}”` }), ` at ${moment(step * scene.step_s)}? ${percent(probability)} probable; next `,
    others.map(([other, p]) => `${shown(other)} ${percent(p)}`).join(", "));
  document.getElementById("method-about").textContent = why ? METHODS.find(([key]) => key === method)[2] : "This letter was not explained: there were too many.";
  if (why) spectrogram.over = method === "occlusion" ? occlusionOver(why.occlusion) : signedOver(why[method]);
  see(outputStage(), step);
  reveal(step * scene.step_s);
}

function signedOver({ place, first_frame, frames }) {
  const values = at(place), canvas = strip(spectrogram.lane, frames, scene.hop_s, "What spoke for the letter", first_frame);
  return paint(canvas, scene.bins, frames, (bin, frame) => values[bin * frames + frame], overlay);
}

/** Every cell is the mean of the patches that covered it. */
function occlusionOver({ place }) {
  const falls = at(place), { size, stride, places } = scene.patch;
  const canvas = strip(spectrogram.lane, scene.frames, scene.hop_s, "Where covering the sound changed the letter's probability");
  const sums = new Float32Array(scene.frames * scene.bins), counts = new Float32Array(scene.frames * scene.bins);
  for (let i = 0; i < places[0]; i++)
    for (let j = 0; j < places[1]; j++)
      for (let frame = i * stride[0]; frame < Math.min(scene.frames, i * stride[0] + size[0]); frame++)
        for (let bin = j * stride[1]; bin < Math.min(scene.bins, j * stride[1] + size[1]); bin++) {
          sums[bin * scene.frames + frame] += falls[i * places[1] + j] - 128;
          counts[bin * scene.frames + frame]++;
        }
  const most = sums.reduce((most, sum, n) => Math.max(most, Math.abs(sum / counts[n])), 1);
  return paint(canvas, scene.bins, scene.frames, (bin, frame) => {
    const n = bin * scene.frames + frame;
    return 128 + Math.round(127 * sums[n] / counts[n] / most);
  }, overlay);
}
