//! A clip as the network hears it, as a page to look at: one HTML file that needs nothing else.
//!
//! The page is `page.html` with its style and scripts, all plain source files beside this one. What it shows comes as JSON
//! (a scene) and as one compressed run of bytes, to which the JSON refers.

mod blob;
mod scene;
mod stages;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::model::Model;
use crate::{Error, Result};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// One script: its parts share their names.
const SCRIPTS: [&str; 8] = [
    include_str!("data.js"),
    include_str!("colour.js"),
    include_str!("sound.js"),
    include_str!("timeline.js"),
    include_str!("layers.js"),
    include_str!("letters.js"),
    include_str!("figure.js"),
    include_str!("main.js"),
];

/// The longest clip that a page can hold, in seconds.
pub const MOST_SECONDS: f64 = 20.0;

/// A piece of sound.
#[derive(Debug, Clone, Copy)]
pub struct Clip<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Mono samples in ±1 at the model's rate.
    pub samples: &'a [f32],
    /// Where in the recording it starts, in seconds.
    pub from_s: f64,
}

/// What is computed for the page.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Threads that compute, at least one.
    pub threads: usize,
    /// Whether to cover the spectrogram patch by patch, which is most of the work.
    pub occlusion: bool,
}

/// The page about `clip`. `progress` is told the share that is done.
///
/// # Errors
/// [`Error::Setting`] when the clip is longer than [`MOST_SECONDS`] or too short for a single output, or the threads cannot
/// be started.
pub fn page(model: &Model, clip: Clip<'_>, options: Options, progress: impl FnMut(f64)) -> Result<String> {
    let seconds = clip.samples.len() as f64 / f64::from(model.spectrogram.sample_rate_hz);
    if seconds > MOST_SECONDS {
        let problem = format!("{seconds:.1} s of sound; a page holds at most {MOST_SECONDS} s, choose a piece of it");
        return Err(Error::setting("clip", problem));
    }
    let (scene, bytes) = scene::scene(model, clip, options, progress)?;
    let json = serde_json::to_string(&scene).map_err(|error| Error::setting("clip", error.to_string()))?;
    let parts = [
        ("{{style}}", STYLE.to_owned()),
        ("{{script}}", SCRIPTS.join("\n")),
        // Nothing in the data may end the script that holds it.
        ("{{scene}}", json.replace('<', "\\u003c")),
        ("{{bytes}}", BASE64_STANDARD.encode(bytes)),
    ];
    Ok(filled(TEMPLATE, &parts))
}

/// `template` with each mark replaced once; what stands in for a mark is not searched for others.
fn filled(template: &str, parts: &[(&str, String)]) -> String {
    let Some(((mark, text), others)) = parts.split_first() else { return template.to_owned() };
    match template.split_once(mark) {
        Some((before, after)) => filled(before, others) + text + &filled(after, others),
        None => filled(template, others),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(seconds: f64, occlusion: bool) -> Result<String> {
        let model = Model::embedded().unwrap();
        let samples: Vec<f32> =
            (0..(16_000.0 * seconds) as usize).map(|n| 0.3 * (n as f32 * (0.1 + n as f32 * 1e-6)).sin()).collect();
        let clip = Clip { name: "a </script><b>{{bytes}} clip", samples: &samples, from_s: 1.0 };
        let mut last = 0.0;
        let page = page(&model, clip, Options { threads: 1, occlusion }, |share| {
            assert!((last..=1.0).contains(&share), "{last} to {share}");
            last = share;
        });
        assert!(page.is_err() || last == 1.0);
        page
    }

    #[test]
    fn the_page_holds_the_clip() {
        let page = made(0.5, true).unwrap();
        assert_eq!(page.matches("</script>").count(), TEMPLATE.matches("</script>").count());
        let (_, scene) = page.split_once("<script id=\"scene\" type=\"application/json\">").unwrap();
        let scene: serde_json::Value = serde_json::from_str(scene.split_once("</script>").unwrap().0).unwrap();
        assert_eq!(scene["name"], "a </script><b>{{bytes}} clip");
        assert_eq!((&scene["frames"], &scene["bins"]), (&48.into(), &80.into()));
        let stages = scene["stages"].as_array().unwrap();
        assert!(stages.iter().any(|stage| stage["path"] == "t0.a") && stages.len() > 20, "{stages:?}");
        assert!(page.len() < 4 << 20, "{} bytes", page.len());
    }

    #[test]
    fn clips_of_no_use_are_refused() {
        assert!(made(20.5, false).unwrap_err().to_string().contains("at most 20 s"));
        assert!(made(0.01, false).unwrap_err().to_string().contains("too short"));
    }

    /// No request leaves the page: everything is in it.
    #[test]
    fn the_page_needs_nothing_else() {
        for mark in ["{{style}}", "{{script}}", "{{scene}}", "{{bytes}}"] {
            assert_eq!(TEMPLATE.matches(mark).count(), 1, "{mark}");
        }
        for text in SCRIPTS.iter().chain([&TEMPLATE, &STYLE]) {
            for outside in ["src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest", "import(", "://"] {
                assert!(!text.contains(outside), "{outside}");
            }
        }
    }
}
