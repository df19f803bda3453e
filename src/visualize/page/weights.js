/** The taps of a filter over the inputs that it weighs most. */
function weights(kernel, filter) {
  const [times, frequencies] = kernel.kernel, taps = times * frequencies;
  const channels = words(kernel.channels).subarray(filter * kernel.shown, (filter + 1) * kernel.shown);
  const levels = at(kernel.taps).subarray(filter * kernel.shown * taps, (filter + 1) * kernel.shown * taps);
  return Array.from(channels, (input, n) => {
    const canvas = paint(element("canvas", { role: "img" }), frequencies, times, (row, column) => levels[n * taps + column * frequencies + row], signed);
    canvas.setAttribute("aria-label", `Weights over input ${input}: ${times} frames × ${frequencies} bins`);
    const cell = kernel.inputs === 1 ? 28 : 14;
    canvas.style.cssText = `width:${cell * times}px;height:${cell * frequencies}px`;
    return element("figure", {}, canvas, element("figcaption", { textContent: kernel.inputs === 1 ? "spectrogram" : `input ${input}` }));
  });
}

/** What the pictures of the weights are. */
const weightsTitle = ({ inputs, shown }) =>
  `Weights${inputs > shown ? ` over the ${shown} of ${inputs} inputs that weigh most` : ""}: orange excites, blue inhibits`;
