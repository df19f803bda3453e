//! What augmentation does, as a page to look at: one HTML file that needs nothing else.

use std::fmt::Write;

use serde::Serialize;

use super::loader::Example;
use crate::{Error, Result};

/// The page, but for what [`DATA`] stands for.
const TEMPLATE: &str = include_str!("examples.html");
/// Where the page expects a list of [`Picture`]s as JSON.
const DATA: &str = "{{examples}}";
/// Standard deviations from the mean that are black and white.
const REACH: f32 = 3.0;

/// An utterance twice; columns from the first to the last, bins from the lowest to the highest, a byte in hexadecimal
/// each.
#[derive(Debug, Serialize)]
struct Picture<'a> {
    text: &'a str,
    bins: usize,
    before: String,
    after: String,
}

/// The page that shows these utterances.
pub(super) fn page(examples: &[Example], bins: usize) -> Result<String> {
    let pictures: Vec<Picture> = examples
        .iter()
        .map(|Example { text, before, after }| Picture { text, bins, before: bytes(before), after: bytes(after) })
        .collect();
    let json = serde_json::to_string(&pictures).map_err(|error| Error::setting("show-augmented", error.to_string()))?;
    // Nothing in the data may end the script that holds it.
    Ok(TEMPLATE.replacen(DATA, &json.replace('<', "\\u003c"), 1))
}

fn bytes(values: &[f32]) -> String {
    values.iter().fold(String::with_capacity(2 * values.len()), |mut text, value| {
        let byte = (127.5 * (1.0 + value / REACH)).round() as u8; // saturates
        let _ = write!(text, "{byte:02x}"); // to a String: never fails
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_the_pictures() {
        let example = Example { text: "</script>".into(), before: vec![-9.0, 0.0], after: vec![9.0, f32::NAN] };
        let page = page(&[example], 2).unwrap();
        assert_eq!(page.matches("</script>").count(), TEMPLATE.matches("</script>").count());
        assert!(page.contains(r#""bins":2,"before":"0080","after":"ff00""#), "{page}");
        for outside in ["src=", "href=", "url(", "@import", "fetch(", "://"] {
            assert!(!TEMPLATE.contains(outside), "{outside}");
        }
    }
}
