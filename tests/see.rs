//! `dfcnn see`: the pages, used in a browser.

mod browser;
mod program;

use std::fs;
use std::path::Path;

/// Uses the page as people do.
const USE: &str = r##"
  found.heard = one("#transcript").textContent;
  found.painted = all(".lane canvas").every(canvas => canvas.width > 0 && canvas.clientWidth > 0);
  found.named = all("button, input, [role=img]").every(part => part.textContent || part.ariaLabel || part.labels?.length);

  const lane = spectrogram.lane, box = lane.getBoundingClientRect();
  lane.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + box.width * .6, clientY: box.top + 9 }));
  found.seen = all(".seen").length;
  found.reading = one("#reading").textContent;

  one("#transcript button").click();
  found.why = one("#verdict").textContent;
  found.methods = all("#methods input").map(input => {
    input.click();
    return [input.value, spectrogram.over.width > 1];
  });
  key("ArrowRight");
  found.next = all("#transcript button").map(button => button.ariaPressed);
  one("#transcript button[aria-pressed=true]").click();
  found.closedWhy = one("#why").hidden;

  one(".row .label button").click();
  found.filters = all("#channels button").length;
  all("#channels button")[5].click();
  found.filter = one("#filter").textContent;
  found.weights = all("#filter .weights canvas").length;
  found.strongest = all(".strongest").length;
  one("#slide").click();
  found.sizes = one("#arithmetic-sizes").textContent;
  const sees = one("#arithmetic-now").textContent;
  one("#step-on").click();
  found.stepped = sees !== one("#arithmetic-now").textContent && all("#grids .tap").length === 9 && all("#grids .padding").length > 0;
  one("#directions [value=transposed]").click();
  found.inserted = all("#grids .zero").length;
  found.back = one("#arithmetic-sizes").textContent;
  one("#arithmetic-close").click();
  found.closedArithmetic = !one("#arithmetic").open && !one("#drawer").hidden;

  // A pool's maximum is what goes on, and what comes back goes to its place.
  showFilters(scene.stages.findIndex(stage => stage.path === "c3-pool"));
  one("#slide").click();
  const levels = () => all("#grids .switch").map(cell => cell.style.getPropertyValue("--level"));
  found.pooled = [];
  for (let n = 0; n < 30; n++) {
    const switched = switchOf(...drawn()), other = [switched[0], switched[1] ^ 1];
    const greater = inputLevel(drawn()[0], switched) >= inputLevel(drawn()[0], other);
    found.pooled.push(greater && levels().length === 2 && levels()[0] === levels()[1]);
    one("#step-on").click();
  }
  one("#directions [value=transposed]").click();
  found.unpooled = levels().length === 2 && levels()[0] === levels()[1] && one("#arithmetic-now").textContent;
  one("#arithmetic-close").click();

  key("Escape");
  found.closedDrawer = one("#drawer").hidden;

  one("#views [value=volume]").click();
  found.planes = +one("#volume").dataset.planes;
  found.textured = all("#space canvas").every(canvas => canvas.width > 1 && canvas.height > 1);
  const before = getComputedStyle(one("#space")).transform;
  one("#volume").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
  found.turned = before !== getComputedStyle(one("#space")).transform;
  see(outputStage(), 3);
  found.pyramid = all("#space .field").length;
  found.edges = all("#space .edge").length;
  see(null);
  const field = () => all("#space .field").at(-1).style.transform, first = field();
  moveTo(.4);
  found.follows = first !== field();
  const canvas = all("#space canvas").at(-1), press = (type, x) => canvas.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId: 1, clientX: x, clientY: 9 }));
  const click = () => canvas.dispatchEvent(new MouseEvent("click", { bubbles: true, detail: 1 }));
  const drag = end => { press("pointerdown", 9); press("pointermove", end); press("pointerup", end); click(); return one("#drawer").hidden; };
  found.dragged = drag(90);
  found.clicked = !drag(10);
  closeDrawer();

  one("#wider").click();
  found.wider = one("#rows").clientWidth > one("#timeline").clientWidth;
  one("#play").click();
  await pause();
  one("#seek").value = .15;
  one("#seek").dispatchEvent(new Event("input"));
  found.cursor = +document.documentElement.style.getPropertyValue("--t");
"##;

/// The page about the beginning of a recording.
fn page(folder: &Path) -> String {
    let out = folder.join("page.html");
    let audio = Path::new(env!("CARGO_MANIFEST_DIR")).join("audio/harbour.wav");
    let mut command = program::dfcnn();
    command.arg("see").arg(audio).args(["--to", "0.6", "--threads", "1", "--quiet", "--out"]).arg(&out);
    let result = command.output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    fs::read_to_string(out).unwrap()
}

#[test]
fn the_page_can_be_used() {
    let Some(chromium) = browser::chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = page(folder.path());
    for size in ["1280,800", "390,844"] {
        let found = browser::used(&chromium, folder.path(), &page, size, USE);
        let text = |name: &str| found[name].as_str().unwrap_or_else(|| panic!("{name}: {found}"));
        let is = |name: &str| assert_eq!(found[name], true, "{name} at {size}: {found}");
        assert_eq!(found["wrong"], serde_json::json!([]), "at {size}");
        assert!(text("heard").starts_with("the"), "{found}");
        ["painted", "named", "closedWhy", "closedDrawer", "wider"].into_iter().for_each(is);
        ["stepped", "closedArithmetic", "textured", "turned"].into_iter().for_each(is);
        ["follows", "dragged", "clicked"].into_iter().for_each(is);
        assert_eq!(found["pooled"], serde_json::json!(vec![true; 30]), "{found}");
        assert!(text("unpooled").starts_with("what came back at step"), "{found}");
        assert!(text("sizes").contains("⌊(80 + 1 + 1 − 1·(3 − 1) − 1) / 2⌋ + 1 = 40"), "{found}");
        assert!(text("sizes").contains("time: o = ⌊(i + p + p′ − d(k − 1) − 1) / s⌋ + 1 = ⌊(58 + 1 + 1"), "{found}");
        assert!(text("sizes").contains("looks 10 ms ahead"), "{found}");
        assert!(text("back").contains("2·(40 − 1) + 1 + 1·(3 − 1) + 1 − 1 − 1 = 80"), "{found}");
        assert!(found["inserted"].as_u64() > Some(10), "{found}");
        // The sound, and every layer that is not inside another.
        assert_eq!((&found["planes"], &found["pyramid"]), (&17.into(), &17.into()), "{found}");
        assert_eq!(found["edges"], 4 * 16, "{found}");
        assert!(found["seen"].as_u64().unwrap_or(0) > 20 && text("reading").contains("sees"), "{found}");
        assert!(text("why").starts_with("Why “t”"), "{found}");
        let methods =
            serde_json::json!([["deconvnet", true], ["guided", true], ["gradient", true], ["occlusion", true]]);
        assert_eq!(found["methods"], methods);
        assert_eq!((&found["next"][0], &found["next"][1]), (&"false".into(), &"true".into()), "{found}");
        assert_eq!((&found["filters"], &found["weights"], &found["strongest"]), (&32.into(), &1.into(), &1.into()));
        assert!(text("filter").contains("Strongest patch"), "{found}");
        assert!((found["cursor"].as_f64().unwrap_or(f64::NAN) - 0.25).abs() < 0.01, "{found}");
    }
}

#[test]
fn pieces_are_bounded_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let audio = Path::new(env!("CARGO_MANIFEST_DIR")).join("audio/harbour.wav");
    let see = |more: &[&str]| {
        let mut command = program::dfcnn();
        command.arg("see").arg(&audio).arg("--out").arg(folder.path().join("page.html")).args(more);
        let result = command.output().unwrap();
        (result.status.code(), String::from_utf8_lossy(&result.stderr).into_owned())
    };
    let (code, said) = see(&["--from", "100"]);
    assert!(code == Some(1) && said.contains("harbour.wav: there is no sound from 100 s on"), "{said}");
    let (code, said) = see(&["--from", "3.39"]);
    assert!(code == Some(1) && said.contains("too short"), "{said}");
    assert_eq!(see(&["--from", "-1"]).0, Some(2));
    assert!(!folder.path().join("page.html").exists());
}

/// Looks at two pages at once.
const COMPARE: &str = r##"
  const inside = frames.map(frame => frame.contentWindow);
  found.names = inside.map(page => page.document.getElementById("name").textContent);
  inside[0].document.getElementById("seek").value = .15;
  inside[0].document.getElementById("seek").dispatchEvent(new inside[0].Event("input"));
  await pause();
  found.cursors = inside.map(page => page.document.documentElement.style.getPropertyValue("--t"));
"##;

#[test]
fn two_models_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (out, model) = (folder.path().join("page.html"), package.join("models/english"));
    let mut command = program::dfcnn();
    command.arg("see").arg(package.join("audio/harbour.wav"));
    command.args(["--to", "0.6", "--no-occlusion", "--quiet", "--out"]).arg(&out).arg("--beside-model").arg(&model);
    let result = command.output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    let page = fs::read_to_string(out).unwrap();
    let Some(chromium) = browser::chromium() else { return };
    let found = browser::used(&chromium, folder.path(), &page, "1280,800", COMPARE);
    assert_eq!(found["wrong"], serde_json::json!([]));
    let name = format!("harbour.wav ({})", model.display());
    assert_eq!(found["names"], serde_json::json!(["harbour.wav (english)", name]));
    assert_eq!(found["cursors"][0], found["cursors"][1]);
    let cursor: f64 = found["cursors"][0].as_str().unwrap().parse().unwrap();
    assert!((cursor - 0.25).abs() < 0.01, "{found}");
}

/// The numbers alone, without a page.
#[test]
fn numbers_and_pictures_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let audio = Path::new(env!("CARGO_MANIFEST_DIR")).join("audio/harbour.wav");
    let (npz, png) = (folder.path().join("clip.npz"), folder.path().join("new/pictures"));
    let mut command = program::dfcnn();
    command.arg("see").arg(audio).args(["--to", "0.5", "--threads", "1", "--quiet"]);
    let result = command.arg("--npz").arg(&npz).arg("--png").arg(&png).output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    let mut npz = zip::ZipArchive::new(fs::File::open(npz).unwrap()).unwrap();
    for name in ["samples", "image", "activations.c1", "weights.out", "log_probs", "letters.deconvnet"] {
        assert!(npz.by_name(&format!("{name}.npy")).unwrap().size() > 128, "{name}");
    }
    for name in ["image", "posteriors", "activations.t0.a", "weights.c1"] {
        assert!(fs::read(png.join(format!("{name}.png"))).unwrap().starts_with(b"\x89PNG"), "{name}");
    }
}
