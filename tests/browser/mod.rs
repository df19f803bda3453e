//! A page, used in a headless Chromium: told what to do by a script that is put into the page and writes what it found
//! into the document; `--dump-dom` then prints that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Collects what goes wrong, from before the page's own script.
const LISTEN: &str = r#"<script>
const wrong = [];
addEventListener("error", event => wrong.push(event.message));
addEventListener("unhandledrejection", event => wrong.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => wrong.push(event.blockedURI));
console.error = console.warn = (...words) => wrong.push(words.join(" "));
</script>"#;

/// Waits until the page stands.
const BEGIN: &str = r#"<script>
(async () => {
  const all = selector => [...document.querySelectorAll(selector)], one = selector => document.querySelector(selector);
  const pause = () => new Promise(done => setTimeout(done, 30));
  const key = name => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const found = {};
  for (let n = 0; n < 300 && !document.documentElement.dataset.ready; n++) await pause();
  found.ready = document.documentElement.dataset.ready;
"#;

/// Hands over what was found.
const END: &str = r#"
  found.wrong = wrong;
  document.body.append(Object.assign(document.createElement("pre"), { id: "found", textContent: btoa(unescape(encodeURIComponent(JSON.stringify(found)))) }));
})().catch(error => document.body.append(Object.assign(document.createElement("pre"), { id: "found", textContent: btoa(error.stack) })));
</script>"#;

/// The browser; without it a test says so and passes.
pub fn chromium() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut paths = std::env::split_paths(&folders).flat_map(|folder| names.map(|name| folder.join(name)));
    let chromium = paths.find(|path| path.is_file());
    if chromium.is_none() {
        eprintln!("skipped: no chromium to open the page with; install Debian's package chromium");
    }
    chromium
}

/// What the body of an asynchronous function, `script`, found on the page at a window of some size: its `found`. It may call
/// `one` and `all` for elements, `pause`, and `key`; `wrong` is what went wrong.
pub fn used(chromium: &Path, folder: &Path, page: &str, size: &str, script: &str) -> Value {
    let path = folder.join("used.html");
    let page = page.replacen("<style>", &format!("{LISTEN}<style>"), 1);
    let (before, after) = page.rsplit_once("</body>").unwrap();
    fs::write(&path, format!("{before}{BEGIN}{script}{END}</body>{after}")).unwrap();
    let mut command = Command::new(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--mute-audio", "--dump-dom"]);
    command.arg("--virtual-time-budget=20000").arg(format!("--window-size={size}"));
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    let dom = command.arg(&path).output().unwrap().stdout;
    let dom = String::from_utf8_lossy(&dom);
    let (_, found) = dom.split_once("<pre id=\"found\">").expect("the script ends");
    let found = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, found.split_once('<').unwrap().0).unwrap();
    // What is no JSON is the script's own error.
    serde_json::from_slice(&found).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&found)))
}
