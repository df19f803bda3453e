const dark = matchMedia("(prefers-color-scheme: dark)");

/** OKLCH (Ottosson 2020), hue in degrees, as 8-bit sRGB. Equal steps of lightness look equal. */
function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos(hue * Math.PI / 180), b = chroma * Math.sin(hue * Math.PI / 180);
  const l = (lightness + .3963377774 * a + .2158037573 * b) ** 3;
  const m = (lightness - .1055613458 * a - .0638541728 * b) ** 3;
  const s = (lightness - .0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + .2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - .3413193965 * s,
    -.0041960863 * l - .7034186147 * m + 1.707614701 * s,
  ];
  return linear.map(c => Math.round(255 * Math.min(1, Math.max(0, c <= .0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - .055))));
}

const pixel = ([r, g, b], alpha = 255) => (alpha << 24 | b << 16 | g << 8 | r) >>> 0;

/** Colours of the 256 levels: light on dark, or ink on paper, evenly spaced in lightness. */
let levels = new Uint32Array(256);
/** Colours of signed levels, 128 being zero: blue against, orange for. */
let signed = new Uint32Array(256);
/** The same, to be laid over another picture. */
let overlay = new Uint32Array(256);

function mixColours() {
  const night = dark.matches;
  for (let level = 0; level < 256; level++) {
    const t = level / 255;
    levels[level] = pixel(night
      ? oklch(.2 + .76 * t, .02 + .13 * Math.sin(Math.PI * Math.min(1, t * .95 + .05)), 285 - 190 * t)
      : oklch(.985 - .72 * t, .004 + .15 * Math.sin(Math.PI * .62 * t), 95 + 185 * t));
    const share = Math.min(1, Math.abs(level - 128) / 127), hue = level < 128 ? 250 : 60;
    signed[level] = pixel(night ? oklch(.28 + .55 * share, .17 * share, hue) : oklch(.965 - .42 * share, .17 * share, hue));
    overlay[level] = pixel(night ? oklch(.8, .15, hue) : oklch(.6, .17, hue), Math.round(255 * Math.min(1, 1.25 * share ** .75)));
  }
}

/** Paints `[rows][columns]` levels, the first row lowest. */
function paint(canvas, rows, columns, level, colours = levels) {
  canvas.width = Math.max(1, columns);
  canvas.height = Math.max(1, rows);
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      pixels[(rows - 1 - row) * columns + column] = colours[level(row, column)];
  context.putImageData(image, 0, 0);
  return canvas;
}
