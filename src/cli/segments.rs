//! Where speech is cut into segments, and what is taken for noise: for the subcommands that recognise.

use clap::Args;
use dfcnn::endpoint::EndpointRules;
use dfcnn::recognizer::Options;

/// When a segment becomes final.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Segments")]
pub struct SegmentChoice {
    /// Silence that ends a segment
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().silence_s)]
    endpoint_silence: f64,
    /// Silence without speech before it after which the decoder begins anew
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().nothing_said_s)]
    endpoint_nothing_said: f64,
    /// A segment as long as this ends with the next word
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().longest_s)]
    longest_segment: f64,
    /// Drop segments as noise in which no word is at least this sure, 0 … 1; short words have to be surer; 0 drops none
    #[arg(long, value_name = "CONFIDENCE", default_value_t = Options::default().min_confidence)]
    min_confidence: f32,
}

impl SegmentChoice {
    /// `options` with what was asked for.
    pub fn apply(&self, options: Options) -> Options {
        let endpoint = EndpointRules {
            nothing_said_s: self.endpoint_nothing_said,
            silence_s: self.endpoint_silence,
            longest_s: self.longest_segment,
        };
        Options { endpoint, min_confidence: self.min_confidence, ..options }
    }
}
