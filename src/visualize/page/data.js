"use strict";

/** What the page is about, as the program wrote it. */
const scene = JSON.parse(document.getElementById("scene").textContent);
/** All numbers behind the pictures. */
let bytes = new Uint8Array();

/** Unpacks the numbers: base64, then zlib. */
async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("bytes").textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  bytes = new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The bytes at a place, `[offset, length]`. */
const at = ([offset, length]) => bytes.subarray(offset, offset + length);
/** Two-byte numbers at a place. */
const words = place => new Uint16Array(at(place).slice().buffer);

/** A token as people read it. */
function shown(token) {
  const text = scene.tokens[token];
  return text === "" ? "blank" : text.replaceAll(" ", "␣");
}

// With spaces that do not break.
const percent = share => share >= .995 ? "100\u00a0%" : share < .01 ? "<1\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
const seconds = time => `${time.toFixed(2)}\u00a0s`;

/** An element with properties and children. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
