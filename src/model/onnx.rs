//! The model as one ONNX file with everything in it that other programs need.

use serde_json::json;

use super::Model;
use crate::Result;
use crate::network::onnx::{self, Form, OnnxNetwork, UNKNOWN_LENGTH};

/// What the streaming graph expects of its caller, for people who read the file's metadata.
const CHUNK_RULE: &str = "Give n frames, a multiple of stride_frames; position = frames given before; length = \
    unknown_length until the last frame is known, then the number of frames. Row k of log_probs is step \
    position / stride_frames + k - delay_steps; drop steps before 0. After the last frame go on with zeros until \
    floor((length + padding_frames - receptive_field_frames) / stride_frames) + 1 steps are out. Histories start as \
    zeros; each new_history.x is the next chunk's history.x. A batch is so many streams.";

impl Model {
    /// The network as an ONNX file whose metadata hold the tokens (the blank as the empty text), the front-end and, as
    /// `time`, delay and chunk rule.
    ///
    /// # Errors
    /// As [`Model::check`], and [`Error::Network`](crate::Error::Network) when there are too many weights for such a file.
    pub fn to_onnx(&self, form: Form) -> Result<OnnxNetwork> {
        self.check()?;
        let metadata = |delay_steps| self.metadata(form, delay_steps);
        onnx::export(&self.architecture, &self.weights, form, metadata)
    }

    fn metadata(&self, form: Form, delay_steps: usize) -> Vec<(String, String)> {
        let tokens: Vec<String> =
            (0..self.tokens.len() as u32).map(|id| self.tokens.piece(id).unwrap_or_default()).collect();
        let extent = self.architecture.time();
        let mut time = json!({
            "stride_frames": extent.stride,
            "receptive_field_frames": extent.receptive_field(),
            "lookahead_frames": extent.lookahead,
            "padding_frames": extent.padding,
            "emission_delay_s": self.emission_delay_s,
        });
        if form == Form::Streaming {
            time["delay_steps"] = delay_steps.into();
            time["unknown_length"] = UNKNOWN_LENGTH.into();
            time["rule"] = CHUNK_RULE.into();
        }
        let mut metadata = vec![
            ("name", self.name.clone()),
            ("form", if form == Form::Streaming { "streaming" } else { "offline" }.to_owned()),
            ("tokens", json!(tokens).to_string()),
            ("blank", self.tokens.blank().to_string()),
            ("spectrogram", json!(self.spectrogram).to_string()),
            ("normalization", json!({"mean": self.normalization.mean, "std": self.normalization.std}).to_string()),
            ("time", time.to_string()),
        ];
        let optional = [("description", &self.description), ("licence", &self.licence)];
        metadata.extend(optional.into_iter().filter_map(|(key, text)| Some((key, text.clone()?))));
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
