//! From tokens to words.

use super::Emission;
use crate::tokens::Tokens;
use crate::transcript::Word;

/// Groups `emissions` into words, which are what spaces part: joined by spaces they are `Tokens::text` of the emissions.
/// `start_s` tells when a step starts, in seconds.
///
/// A word starts with the first step of its first token and ends with the last of its last; its confidence is the
/// geometric mean of its tokens' probabilities.
pub fn words(emissions: &[Emission], tokens: &Tokens, start_s: impl Fn(u64) -> f64) -> Vec<Word> {
    let mut number = 0;
    let mut parts = Vec::new();
    for emission in emissions {
        let piece = tokens.piece(emission.token).unwrap_or_default();
        for (spaces, part) in piece.split(' ').enumerate() {
            number += usize::from(spaces > 0);
            if !part.is_empty() {
                parts.push(Part { word: number, text: part.to_string(), emission });
            }
        }
    }
    parts.chunk_by(|a, b| a.word == b.word).map(|parts| word(parts, &start_s)).collect()
}

/// What one token adds to one word.
struct Part<'a> {
    /// The word's number, counting empty ones.
    word: usize,
    text: String,
    emission: &'a Emission,
}

/// The word that `parts`, at least one, make.
fn word(parts: &[Part], start_s: impl Fn(u64) -> f64) -> Word {
    let log_prob = parts.iter().map(|part| part.emission.log_prob).sum::<f32>() / parts.len() as f32;
    Word {
        text: parts.iter().map(|part| part.text.as_str()).collect(),
        start_s: start_s(parts[0].emission.start_step),
        end_s: start_s(parts[parts.len() - 1].emission.end_step),
        confidence: log_prob.exp().min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn emission(token: u32, start_step: u64, end_step: u64, probability: f32) -> Emission {
        Emission { token, start_step, end_step, log_prob: probability.ln() }
    }

    #[test]
    fn words_have_times_and_confidence() {
        let tokens = Tokens::parse("tokens.txt", "<b>\n<space>\na\nb\n").unwrap();
        let heard = [
            emission(1, 0, 1, 0.1),
            emission(2, 2, 3, 0.25),
            emission(3, 4, 6, 1.0),
            emission(1, 7, 8, 0.1),
            emission(1, 9, 10, 0.1),
            emission(3, 11, 12, 0.5),
        ];
        let words = words(&heard, &tokens, |step| step as f64 * 0.5);
        let word = |text: &str, start_s, end_s, confidence| Word { text: text.into(), start_s, end_s, confidence };
        assert_eq!(words, [word("ab", 1.0, 3.0, 0.5), word("b", 5.5, 6.0, 0.5)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Default::default() })]

        #[test]
        fn words_joined_are_the_text(ids in prop::collection::vec(0u32..9, 0..20)) {
            let tokens = Tokens::parse("tokens.txt", "<b>\n▁\n▁a\nb\n▁c▁d\ne▁\n中\n▁▁f\n").unwrap();
            let heard: Vec<Emission> =
                ids.iter().enumerate().map(|(i, &token)| emission(token, i as u64, i as u64 + 1, 0.5)).collect();
            let words = words(&heard, &tokens, |step| step as f64);
            let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            prop_assert_eq!(texts.join(" "), tokens.text(&ids));
            prop_assert!(words.iter().all(|word| word.start_s < word.end_s && word.confidence == 0.5));
            // Two words may share a token that holds both, but never go back.
            prop_assert!(words.windows(2).all(|pair| pair[0].start_s <= pair[1].start_s && pair[0].end_s <= pair[1].end_s));
        }
    }
}
