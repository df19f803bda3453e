//! `dfcnn see --filters`: what the filters of a network love, from manifest to browser.

mod browser;
mod program;

use std::fs;
use std::path::Path;
use std::process::Output;

/// A manifest of the recordings that come with the program, one of them named twice.
fn manifest(folder: &Path, more: &str) -> std::path::PathBuf {
    let audio = Path::new(env!("CARGO_MANIFEST_DIR")).join("audio");
    let transcripts = fs::read_to_string(audio.join("transcripts.tsv")).unwrap();
    let line = |line: &str| {
        let (file, text) = line.split_once('\t').unwrap();
        serde_json::json!({ "id": file, "audio_filepath": audio.join(file), "text": text }).to_string() + "\n"
    };
    let path = folder.join("clips.jsonl");
    fs::write(&path, transcripts.lines().map(line).collect::<String>() + more).unwrap();
    path
}

fn see(arguments: &[&str]) -> Output {
    let mut command = program::dfcnn();
    command.args(["see", "--threads", "1", "--quiet"]).args(arguments).output().unwrap()
}

/// Uses the page as people do.
const USE: &str = r##"
  found.tabs = all("#layers button").map(tab => tab.textContent);
  found.painted = all(".filter canvas").every(canvas => canvas.width > 0 && canvas.clientWidth > 0);
  found.kernels = all(".filter .weights canvas").length;
  one("#layers [aria-selected=true]").focus();
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  found.selected = one("#layers [aria-selected=true]").textContent;
  found.filters = all(".filter").length;
  found.patches = all(".filter:first-child .patch").length;
  found.evolution = all(".filter:first-child .name").map(name => name.textContent);

  one(".patch").click();
  await pause();
  found.named = all("button, input, [role=img]").every(part => part.textContent || part.ariaLabel || part.labels?.length);
  found.said = one("#detail-said").textContent;
  found.where = one("#detail-where").textContent;
  found.sound = sound.src.startsWith("blob:");
  found.boxed = one("#box").clientWidth > 3 && one("#box").clientWidth < one("#detail-image").clientWidth;
  // What is unpacked is as loud as speech is, and not louder.
  const samples = unpacked(scene.pieces[chosen.patch.piece]);
  found.loud = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0) / 32768;
  one("#play-all").click();
  found.around = playing;
  one("#over").click();
  found.uncovered = one("#detail-back").hidden;
  key("Escape");
  found.closed = one("#detail").hidden && document.activeElement === one(".patch");
"##;

#[test]
fn the_page_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, out) = (manifest(folder.path(), ""), folder.path().join("page.html"));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/english");
    let [manifest, out_text] = [&manifest, &out].map(|path| path.to_str().unwrap());
    // A network that has stayed what it was.
    let layers = ["--layers", "c1,t0,out", "--each", "2", "--patches", "3", "--evolution", model, model];
    let run = see(&[&["--filters", manifest, "--out", out_text], &layers[..]].concat());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let page = fs::read_to_string(out).unwrap();
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
    let Some(chromium) = browser::chromium() else { return };
    for size in ["1280,800", "390,844"] {
        let found = browser::used(&chromium, folder.path(), &page, size, USE);
        let text = |name: &str| found[name].as_str().unwrap_or_else(|| panic!("{name}: {found}"));
        assert_eq!(found["wrong"], serde_json::json!([]), "at {size}");
        assert_eq!(found["tabs"], serde_json::json!(["c1", "t0", "out"]));
        ["named", "painted", "sound", "boxed", "uncovered", "closed"]
            .into_iter()
            .for_each(|name| assert_eq!(found[name], true, "{name} at {size}: {found}"));
        assert_eq!((&found["kernels"], text("selected"), &found["filters"]), (&2.into(), "t0", &2.into()), "{found}");
        assert_eq!(
            (&found["patches"], &found["evolution"]),
            (&5.into(), &serde_json::json!([model, model])),
            "{found}"
        );
        assert!(text("said").starts_with("said: ") && text("where").contains(" Hz"), "{found}");
        assert!((0.02..1.0).contains(&found["loud"].as_f64().unwrap()), "{found}");
        assert_eq!(found["around"], serde_json::json!([0, 1]));
    }
}

#[test]
fn what_is_missing_is_named_and_the_rest_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.wav");
    fs::write(&broken, "no sound").unwrap();
    let gone = r#"{"audio_filepath": "gone.wav", "text": "nothing"}"#;
    let bad = serde_json::json!({ "audio_filepath": broken, "text": "nothing" });
    let (manifest, out) = (manifest(folder.path(), &format!("{gone}\n{bad}\n")), folder.path().join("page.html"));
    let [manifest, out_text] = [&manifest, &out].map(|path| path.to_str().unwrap());
    let run = see(&["--filters", manifest, "--layers", "c1", "--each", "1", "--out", out_text]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.code() == Some(1) && said.contains("gone.wav") && said.contains("broken.wav"), "{said}");
    assert!(fs::read_to_string(&out).unwrap().contains(r#""clips":4"#));

    fs::remove_file(&out).unwrap();
    let failed = |arguments: &[&str]| {
        let run = see(&[arguments, &["--out", out_text]].concat());
        assert!(!out.exists());
        (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned())
    };
    let (code, said) = failed(&["--filters", manifest, "--layers", "c9"]);
    assert!(code == Some(1) && said.contains("no layer c9; it has c1"), "{said}");
    let (code, said) = failed(&["--filters", folder.path().join("nothing.jsonl").to_str().unwrap()]);
    assert!(code == Some(1) && said.contains("nothing.jsonl"), "{said}");
    for usage in [
        &[][..],
        &["a.wav", "--filters", manifest],
        &["--layers", "c1", "a.wav"],
        &["--filters", manifest, "--from", "1"],
    ] {
        assert_eq!(failed(usage).0, Some(2), "{usage:?}");
    }
}
