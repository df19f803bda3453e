//! `model.toml`: everything about a model that does not come from training.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ctc::beam::BeamOptions;
use crate::network::{Architecture, FrameShape, NamedLayer};
use crate::spectrogram::Settings;
use crate::tokens::Tokens;
use crate::{Error, Result};

/// The largest `model.toml` that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The longest delay that is believed.
const MAX_EMISSION_DELAY_S: f64 = 10.0;

/// What to train or what was trained: the front-end and the layers. `models/architectures` holds ready-made ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// A short name for people.
    pub name: String,
    /// One line on what it is.
    pub description: Option<String>,
    /// The licence of the weights, as an SPDX expression.
    pub licence: Option<String>,
    /// How much later than it is said the network tends to tell a token, in seconds; 0 if nobody measured it. CTC leaves a
    /// network free to wait for what helps it (Sak et al. 2015), so this is found out after training.
    pub emission_delay_s: f64,
    /// How much the language model counts that lies beside the weights, if one does.
    pub language_model: Option<LanguageWeights>,
    /// How samples become image columns.
    pub spectrogram: Settings,
    /// The layers, on columns of `spectrogram.bins()` bins and one channel.
    pub architecture: Architecture,
}

/// How much a language model counts: what suits this network best, found out after training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageWeights {
    /// α of [`BeamOptions`].
    pub weight: f64,
    /// β of [`BeamOptions`].
    pub word_bonus: f64,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    emission_delay_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    language_model: Option<LanguageWeights>,
    layers: Vec<NamedLayer>,
    spectrogram: Settings,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Recipe {
    /// Reads a `model.toml`.
    ///
    /// # Errors
    /// [`Error::Read`], or as [`Recipe::parse`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(Error::read(path))?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Error::read(path))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(Error::model(path, format!("is larger than {MAX_FILE_BYTES} bytes; this is no model.toml")));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| Error::model(path, format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to())))?;
        Self::parse(path, &text)
    }

    /// Reads the text of a `model.toml`; `path` is for the errors.
    ///
    /// # Errors
    /// [`Error::Model`] names the line or the layer that is wrong.
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Result<Self> {
        let Description { name, description, licence, emission_delay_s, language_model, layers, spectrogram } =
            toml::from_str(text).map_err(|error| Error::model(&path, one_line(&error, text)))?;
        let wrong = |error: Error| Error::model(&path, error.to_string());
        spectrogram.validate().map_err(wrong)?;
        let input = FrameShape { frequency: spectrogram.bins(), channels: 1 };
        let architecture = Architecture::new(input, layers).map_err(wrong)?;
        let recipe = Self { name, description, licence, emission_delay_s, language_model, spectrogram, architecture };
        recipe.check().map_err(wrong)?;
        Ok(recipe)
    }

    /// Whether the network takes what the spectrogram makes and ends as CTC expects.
    ///
    /// # Errors
    /// [`Error::Network`] or [`Error::Setting`] says what does not fit.
    pub fn check(&self) -> Result<()> {
        let texts = [Some(&self.name), self.description.as_ref(), self.licence.as_ref()];
        if self.name.is_empty() || texts.iter().flatten().any(|text| text.contains(char::is_control)) {
            let problem = "name, description and licence must each be one line, and the name not empty";
            return Err(Error::setting("name", problem));
        }
        if !(0.0..=MAX_EMISSION_DELAY_S).contains(&self.emission_delay_s) {
            let problem = format!("{} is no time from 0 to {MAX_EMISSION_DELAY_S} s", self.emission_delay_s);
            return Err(Error::setting("emission_delay_s", problem));
        }
        if let Some(LanguageWeights { weight, word_bonus }) = self.language_model {
            BeamOptions { lm_weight: weight, word_bonus, ..BeamOptions::default() }.validate()?;
        }
        self.spectrogram.validate()?;
        let (input, bins) = (self.architecture.input(), self.spectrogram.bins());
        if input != (FrameShape { frequency: bins, channels: 1 }) {
            let problem = format!("the network takes {input} but the spectrogram makes {bins} × 1 (bins × channels)");
            return Err(Error::network("", problem));
        }
        let output = self.architecture.output();
        if output.frequency != 1 {
            let problem = format!("the output has {} bins, not 1; add a frequency-collapse layer", output.frequency);
            return Err(Error::network("", problem));
        }
        if !self.architecture.ends_with_log_softmax() {
            return Err(Error::network("", "the last layer is no log-softmax; add one, CTC reads log-probabilities"));
        }
        Ok(())
    }

    /// Whether the network has one class for each token.
    ///
    /// # Errors
    /// [`Error::Network`] says how many there are of each.
    pub fn check_tokens(&self, tokens: &Tokens) -> Result<()> {
        let classes = self.architecture.output().channels;
        if classes == tokens.len() {
            return Ok(());
        }
        let problem = format!(
            "the network has {classes} classes but there are {} tokens; they must be as many, the blank included",
            tokens.len()
        );
        Err(Error::network("", problem))
    }

    /// The text of a `model.toml` that [`Recipe::parse`] reads back, one line for each layer. The error says what cannot
    /// be written as TOML.
    pub fn to_text(&self) -> Result<String, String> {
        let description = Description {
            name: self.name.clone(),
            description: self.description.clone(),
            licence: self.licence.clone(),
            emission_delay_s: self.emission_delay_s,
            language_model: self.language_model,
            layers: self.architecture.layers().to_vec(),
            spectrogram: self.spectrogram.clone(),
        };
        let mut table = toml::Table::try_from(description).map_err(|error| error.to_string())?;
        let mut text = String::new();
        for key in ["name", "description", "licence", "emission_delay_s"] {
            if let Some(value) = table.remove(key) {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text.push_str("\nlayers = [\n");
        write_layers(&mut text, "    ", table.remove("layers"));
        text.push_str("]\n\n[spectrogram]\n");
        if let Some(toml::Value::Table(settings)) = table.remove("spectrogram") {
            for (key, value) in settings {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        if let Some(toml::Value::Table(weights)) = table.remove("language_model") {
            text.push_str("\n[language_model]\n");
            for (key, value) in weights {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        Ok(text)
    }
}

/// One line per layer, name and kind first, the layers of a residual indented under it.
fn write_layers(text: &mut String, indent: &str, layers: Option<toml::Value>) {
    let Some(toml::Value::Array(layers)) = layers else { return };
    for layer in layers {
        let toml::Value::Table(mut layer) = layer else { continue };
        let inner = ["branch", "shortcut"].map(|path| (path, layer.remove(path)));
        let first = ["name", "kind"].map(|key| (key.to_string(), layer.remove(key)));
        let rest = layer.into_iter().map(|(key, value)| (key, Some(value)));
        let pairs: Vec<String> =
            first.into_iter().chain(rest).filter_map(|(key, value)| Some(format!("{key} = {}", value?))).collect();
        let _ = write!(text, "{indent}{{ {}", pairs.join(", "));
        for (path, layers) in inner {
            if layers.is_some() {
                let _ = writeln!(text, ", {path} = [");
                write_layers(text, &format!("{indent}    "), layers);
                let _ = write!(text, "{indent}]");
            }
        }
        text.push_str(" },\n");
    }
}

/// The error without the excerpt of the file that toml draws over several lines.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().trim().replace('\n', " ");
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}
