/** The clip as a sound that can be played, from any time to any time. */
const sound = new Audio();
/** Where the piece under way ends, in seconds. */
let pieceEnd = Infinity;

function loadSound() {
  sound.src = wav(at(scene.samples));

  const play = document.getElementById("play"), seek = document.getElementById("seek");
  seek.max = duration;
  play.onclick = () => sound.paused ? playPiece(sound.currentTime >= duration - .02 ? 0 : sound.currentTime) : sound.pause();
  seek.oninput = () => moveTo(+seek.value);
  const follow = () => {
    if (sound.currentTime >= pieceEnd) sound.pause();
    showTime(sound.currentTime);
    if (!sound.paused) requestAnimationFrame(follow);
  };
  for (const event of ["play", "pause", "seeked", "ended"])
    sound.addEventListener(event, () => {
      play.textContent = sound.paused ? "Play" : "Pause";
      play.setAttribute("aria-pressed", String(!sound.paused));
      follow();
    });
  addEventListener("keydown", event => {
    if (event.key === " " && !event.target.closest("button, input")) { event.preventDefault(); play.click(); }
  });
}

/** Plays from `start` to `end`, in seconds. */
function playPiece(start, end = Infinity) {
  pieceEnd = end;
  sound.currentTime = Math.max(0, start);
  sound.play().catch(() => {}); // no sound device: the page is still of use
}

function moveTo(time) {
  pieceEnd = Infinity;
  sound.currentTime = time;
  showTime(time);
}

/** Puts the cursor and the slider at a time. */
function showTime(time) {
  document.getElementById("seek").value = time;
  document.documentElement.style.setProperty("--t", Math.min(1, time / duration));
  showField(outputStage(), stepAt(time), 0);
}
