//! A clip as the network hears it, as a page to look at: one HTML file that needs nothing else.
//!
//! The page is `page.html` with its style and scripts, all plain source files beside this one. What it shows comes as JSON
//! (a scene) and as one compressed run of bytes, to which the JSON refers.

pub(super) mod blob;
mod scene;
pub(super) mod stages;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::model::Model;
use crate::{Error, Result};
use blob::Blob;

const TEMPLATE: Template = Template {
    html: include_str!("page.html"),
    style: include_str!("page.css"),
    scripts: &[
        include_str!("data.js"),
        include_str!("clip.js"),
        include_str!("colour.js"),
        include_str!("wav.js"),
        include_str!("sound.js"),
        include_str!("timeline.js"),
        include_str!("weights.js"),
        include_str!("layers.js"),
        include_str!("letters.js"),
        include_str!("figure.js"),
        include_str!("volume.js"),
        include_str!("arithmetic.js"),
        include_str!("main.js"),
    ],
};

/// Two pages in frames.
const BESIDE: &str = include_str!("beside.html");

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
    let (scene, blob) = scene::scene(model, clip, options, progress)?;
    TEMPLATE.filled(&scene, blob)
}

/// Two pages side by side, as one: of two clips, or of one clip by two models.
///
/// # Errors
/// None that are known; JSON is written.
pub fn beside(first: &str, second: &str) -> Result<String> {
    let pages = serde_json::to_string(&[first, second]).map_err(|error| Error::setting("page", error.to_string()))?;
    Ok(filled(BESIDE, &[("{{pages}}", pages.replace('<', "\\u003c"))]))
}

/// A page without its data.
pub(super) struct Template {
    pub html: &'static str,
    pub style: &'static str,
    /// One script: its parts share their names.
    pub scripts: &'static [&'static str],
}

impl Template {
    /// The page about `scene`, which refers to the bytes of `blob`.
    pub fn filled(&self, scene: &impl Serialize, blob: Blob) -> Result<String> {
        let json = serde_json::to_string(scene).map_err(|error| Error::setting("page", error.to_string()))?;
        let parts = [
            ("{{style}}", self.style.to_owned()),
            ("{{script}}", self.scripts.join("\n")),
            // Nothing in the data may end the script that holds it.
            ("{{scene}}", json.replace('<', "\\u003c")),
            ("{{bytes}}", BASE64_STANDARD.encode(blob.compressed())),
        ];
        Ok(filled(self.html, &parts))
    }

    /// No request leaves the page: everything is in it.
    #[cfg(test)]
    pub fn assert_needs_nothing_else(&self) {
        for mark in ["{{style}}", "{{script}}", "{{scene}}", "{{bytes}}"] {
            assert_eq!(self.html.matches(mark).count(), 1, "{mark}");
        }
        for text in self.scripts.iter().chain([&self.html, &self.style]) {
            for outside in ["src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest", "import(", "://"] {
                assert!(!text.contains(outside), "{outside}");
            }
        }
    }
}

/// What a token is, by class; the blank is empty.
pub(super) fn tokens(model: &Model) -> Vec<String> {
    (0..model.tokens.len() as u32).map(|id| model.tokens.piece(id).unwrap_or_default()).collect()
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
        assert_eq!(page.matches("</script>").count(), TEMPLATE.html.matches("</script>").count());
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

    #[test]
    fn the_page_needs_nothing_else() {
        TEMPLATE.assert_needs_nothing_else();
    }
}
