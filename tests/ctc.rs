//! Decoding the bootstrap network's golden logits.

mod golden;

use dfcnn::ctc::{GreedyDecoder, words};
use dfcnn::tokens::Tokens;

/// The vocabulary in the metadata of the bootstrap network's weights.
fn tokens() -> Option<Tokens> {
    let path = golden::shared("bootstrap/model.safetensors")?;
    let file = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    let list: Vec<String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["vocab"]).unwrap();
    let lines: Vec<&str> = list.iter().map(|token| if token == " " { "<space>" } else { token }).collect();
    Some(Tokens::parse(path, &lines.join("\n")).unwrap())
}

/// Log of the softmax of one row.
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let log_sum = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
    logits.iter().map(|&logit| (f64::from(logit) - log_sum) as f32).collect()
}

#[test]
fn greedy_text_of_the_golden_logits() {
    let Some(tokens) = tokens() else { return };
    for clip in golden::clips() {
        let logits = golden::npy(clip.path("logits.npy"));
        assert_eq!(logits.shape[1], tokens.len());
        let log_probs: Vec<f32> = logits.values.chunks_exact(tokens.len()).flat_map(log_softmax).collect();
        let mut decoder = GreedyDecoder::new(tokens.blank(), tokens.len());
        let mut emissions = Vec::new();
        decoder.push(&log_probs, &mut emissions);
        decoder.finish(&mut emissions);
        let ids: Vec<u32> = emissions.iter().map(|emission| emission.token).collect();
        assert_eq!(tokens.text(&ids), clip.greedy);
        let words = words(&emissions, &tokens, |step| step as f64 * 0.04);
        assert_eq!(words.len(), clip.greedy.split(' ').count());
        assert!(words.iter().all(|word| (0.0..=1.0).contains(&word.confidence)));
    }
}
