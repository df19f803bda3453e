//! The bundle on disk: what the sound becomes, what the network is, its weights and what its classes mean, checked against
//! each other before use.
//!
//! ```text
//! models/<name>/model.toml            name, layers, [spectrogram]: a Recipe
//!               weights.safetensors   the layers' tensors (docs/int8.md: 8-bit ones), spectrogram.mean and spectrogram.std
//!               tokens.txt            one token per line, the blank <b> first
//!               words.lm              an n-gram model of the language, where model.toml has [language_model]
//!               README.md             the model card
//! ```

mod onnx;
mod recipe;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

pub use recipe::{LanguageWeights, Recipe};

use crate::ctc::Decoding;
use crate::ctc::beam::BeamOptions;
use crate::ctc::lm::compact::Compact;
use crate::network::{Architecture, Precision, Tensor, Weights};
use crate::spectrogram::{Normalization, Settings};
use crate::tokens::Tokens;
use crate::{Error, Result, atomic_file};

const DESCRIPTION: &str = "model.toml";
const WEIGHTS: &str = "weights.safetensors";
const TOKENS: &str = "tokens.txt";
const WORDS: &str = "words.lm";
const MEAN: &str = "spectrogram.mean";
const STD: &str = "spectrogram.std";

/// A model of the language and how much it counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Language {
    /// What suits the network.
    pub weights: LanguageWeights,
    /// Which words follow which.
    pub words: Arc<Compact>,
}

/// A model whose parts fit each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// A short name for people.
    pub name: String,
    /// One line on what it is.
    pub description: Option<String>,
    /// The licence of the weights, as an SPDX expression.
    pub licence: Option<String>,
    /// How much later than it is said the network tends to tell a token, in seconds; 0 if nobody measured it.
    pub emission_delay_s: f64,
    /// How samples become image columns.
    pub spectrogram: Settings,
    /// Mean and deviation of each bin over the training data.
    pub normalization: Normalization,
    /// The layers.
    pub architecture: Architecture,
    /// The layers' tensors.
    pub weights: Weights,
    /// What the network's classes mean.
    pub tokens: Tokens,
    /// What is known of the language, if anything is.
    pub language: Option<Language>,
}

impl Model {
    /// Puts the parts together, without a language model.
    ///
    /// # Errors
    /// [`Error::Network`] or [`Error::Setting`] when they do not fit each other: see [`Model::check`].
    pub fn new(recipe: Recipe, normalization: Normalization, weights: Weights, tokens: Tokens) -> Result<Self> {
        let Recipe { name, description, licence, emission_delay_s, spectrogram, architecture, .. } = recipe;
        let model = Self {
            name,
            description,
            licence,
            emission_delay_s,
            spectrogram,
            normalization,
            architecture,
            weights,
            tokens,
            language: None,
        };
        model.check()?;
        Ok(model)
    }

    /// Whether the parts fit: the spectrogram's settings and normalisation, the network's input and output, the weights.
    ///
    /// # Errors
    /// [`Error::Network`] or [`Error::Setting`] says what does not fit.
    pub fn check(&self) -> Result<()> {
        self.recipe().check()?;
        self.recipe().check_tokens(&self.tokens)?;
        self.normalization.validate(self.spectrogram.bins())?;
        self.weights.check(&self.architecture)
    }

    /// The part of the model that does not come from training.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            name: self.name.clone(),
            description: self.description.clone(),
            licence: self.licence.clone(),
            emission_delay_s: self.emission_delay_s,
            language_model: self.language.as_ref().map(|language| language.weights),
            spectrogram: self.spectrogram.clone(),
            architecture: self.architecture.clone(),
        }
    }

    /// How to decode with this model: with its language model, or greedily if it has none.
    pub fn decoding(&self) -> Decoding {
        let Some(Language { weights, words }) = &self.language else { return Decoding::Greedy };
        Decoding::Beam(BeamOptions {
            language_model: Some(words.clone()),
            lm_weight: weights.weight,
            word_bonus: weights.word_bonus,
            ..BeamOptions::default()
        })
    }

    /// Reads the bundle in `folder`.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Model`] names the file that is missing, broken or does not fit the others.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let metadata = fs::metadata(folder).map_err(Error::read(folder))?;
        if !metadata.is_dir() {
            let problem = format!("is no folder; a model is a folder with {DESCRIPTION}, {WEIGHTS} and {TOKENS}");
            return Err(Error::model(folder, problem));
        }
        for file in [DESCRIPTION, WEIGHTS, TOKENS] {
            if fs::metadata(folder.join(file)).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                let problem = format!("has no {file}; a model is a folder with {DESCRIPTION}, {WEIGHTS} and {TOKENS}");
                return Err(Error::model(folder, problem));
            }
        }
        let recipe = Recipe::load(folder.join(DESCRIPTION))?;
        let tokens = Tokens::load(folder.join(TOKENS))?;
        let weights = Weights::read(&folder.join(WEIGHTS))?;
        let words = recipe.language_model.map(|_| Compact::load(&folder.join(WORDS))).transpose()?;
        Self::assemble(folder, recipe, weights, tokens, words)
    }

    /// Reads a bundle from the contents of its files; `folder` is for the errors. `words` are needed where the description has
    /// a language model.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_parts(
        folder: impl AsRef<Path>,
        description: &str,
        weights: &[u8],
        tokens: &str,
        words: Option<&'static [u8]>,
    ) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(WEIGHTS);
        let recipe = Recipe::parse(folder.join(DESCRIPTION), description)?;
        let tokens = Tokens::parse(folder.join(TOKENS), tokens)?;
        let weights = Weights::from_bytes(weights).map_err(|problem| Error::model(path, problem))?;
        let words = recipe.language_model.map(|_| Compact::from_bytes(words.unwrap_or_default()));
        let words = words.transpose().map_err(|problem| Error::model(folder.join(WORDS), problem))?;
        Self::assemble(folder, recipe, weights, tokens, words)
    }

    /// The model that is part of the program: `models/english`.
    ///
    /// # Errors
    /// None as shipped; a test loads it.
    pub fn embedded() -> Result<Self> {
        Self::from_parts(
            "models/english",
            include_str!("../models/english/model.toml"),
            include_bytes!("../models/english/weights.safetensors"),
            include_str!("../models/english/tokens.txt"),
            Some(include_bytes!("../models/english/words.lm")),
        )
    }

    /// Writes the bundle to `folder`, made if need be. Each file appears whole or not at all, `model.toml` last: without
    /// it a folder is no bundle. Other files in the folder stay.
    ///
    /// # Errors
    /// [`Error::Write`], as [`Model::check`], or [`Error::Model`] when a value is beyond the range of `precision`.
    pub fn save(&self, folder: impl AsRef<Path>, precision: Precision) -> Result<()> {
        self.check()?;
        let folder = folder.as_ref();
        let mut weights = self.weights.clone();
        for (name, values) in [(MEAN, &self.normalization.mean), (STD, &self.normalization.std)] {
            weights.insert(name, Tensor { shape: vec![values.len()], values: values.clone() });
        }
        let weights = weights.to_bytes(precision).map_err(|problem| Error::model(folder, problem))?;
        let description = self.recipe().to_text().map_err(|problem| Error::model(folder, problem))?;
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let put = |name, bytes: &[u8]| atomic_file::write(&folder.join(name), |file| file.write_all(bytes));
        put(TOKENS, self.tokens.to_text().as_bytes())?;
        put(WEIGHTS, &weights)?;
        if let Some(Language { words, .. }) = &self.language {
            put(WORDS, words.bytes())?;
        }
        put(DESCRIPTION, description.as_bytes())
    }

    fn assemble(
        folder: &Path,
        recipe: Recipe,
        mut weights: Weights,
        tokens: Tokens,
        words: Option<Compact>,
    ) -> Result<Self> {
        let language = recipe.language_model.zip(words);
        let language = language.map(|(weights, words)| Language { weights, words: Arc::new(words) });
        let in_file = |file: &str| {
            let path = folder.join(file);
            move |error: Error| Error::model(path, error.to_string())
        };
        recipe.check_tokens(&tokens).map_err(in_file(TOKENS))?;
        let [mean, std] = [MEAN, STD].map(|name| {
            weights.remove(name).map(|tensor| tensor.values).ok_or_else(|| {
                let bins = recipe.spectrogram.bins();
                Error::network(name, format!("the weights lack this tensor of shape [{bins}]; convert the model again"))
            })
        });
        let normalization = mean.and_then(|mean| Ok(Normalization { mean, std: std? })).map_err(in_file(WEIGHTS))?;
        let model = Self::new(recipe, normalization, weights, tokens).map_err(in_file(WEIGHTS))?;
        Ok(Self { language, ..model })
    }
}
