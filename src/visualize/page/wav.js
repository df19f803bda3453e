/** 16-bit samples as a WAV file that can be played. */
function wav(data) {
  const header = new DataView(new ArrayBuffer(44)), rate = scene.rate_hz;
  const text = (offset, chars) => [...chars].forEach((c, n) => header.setUint8(offset + n, c.charCodeAt(0)));
  text(0, "RIFF"); header.setUint32(4, 36 + data.byteLength, true); text(8, "WAVEfmt ");
  header.setUint32(16, 16, true); header.setUint16(20, 1, true); header.setUint16(22, 1, true);
  header.setUint32(24, rate, true); header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true); header.setUint16(34, 16, true);
  text(36, "data"); header.setUint32(40, data.byteLength, true);
  return URL.createObjectURL(new Blob([header, data], { type: "audio/wav" }));
}
