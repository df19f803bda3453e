/** Seconds of sound: the length of the time axis. */
const duration = scene.samples[1] / 2 / scene.rate_hz;

/** Signed samples at a place. */
const samples = place => new Int16Array(at(place).slice().buffer);

/** The log-probability of a class at a step. */
function logProb(token, step) {
  return scene.least_log_prob * (1 - at(scene.log_probs)[token * scene.steps + step] / 255);
}

/** The most probable classes of a step: `[token, probability]`, best first. Levels round, so all are brought to sum to 1. */
function best(step, count) {
  const all = scene.tokens.map((_, token) => [token, Math.exp(logProb(token, step))]);
  const sum = all.reduce((sum, [, share]) => sum + share, 0);
  return all.sort((a, b) => b[1] - a[1]).slice(0, count).map(([token, share]) => [token, share / sum]);
}

/** One channel of a stage, `[bins][steps]` in levels. */
function channel(stage, index) {
  const size = stage.bins * stage.steps;
  return at(stage.levels.place).subarray(index * size, (index + 1) * size);
}

/** The value that a level of a channel stands for. */
function valueOf(stage, index, level) {
  const least = stage.levels.least[index];
  return least + (stage.levels.greatest[index] - least) * level / 255;
}

/** How a stage's steps lie on the time axis, in seconds. */
const stepSeconds = stage => stage.stride * scene.hop_s;

/** What index `index` sees through a span `[stride, before, after]` of `size` indices: `[first, last]` or null. */
function seenBy([stride, before, after], index, size) {
  const first = Math.max(0, index * stride - before), last = Math.min(size - 1, index * stride + after);
  return first <= last ? [first, last] : null;
}

/** A time of the clip as one of the recording, of which the clip is a piece. */
const moment = time => seconds(scene.from_s + time);
