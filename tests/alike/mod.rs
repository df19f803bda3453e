//! Two ways to split the same sound: the same texts and times exactly, what is computed but for rounding.

use dfcnn::transcript::{Alternative, Segment, Word};

/// Of confidences, and of scores in nats.
const ROUNDING: f64 = 1e-3;

/// Whether two ways to split the same sound have given these segments.
pub fn alike(a: &[Segment], b: &[Segment]) -> bool {
    all(a, b, |a, b| {
        (&a.text, a.start_s, a.end_s, a.stable_chars) == (&b.text, b.start_s, b.end_s, b.stable_chars)
            && all(&a.words, &b.words, alike_words)
            && all(&a.alternatives, &b.alternatives, alike_readings)
    })
}

fn alike_words(a: &Word, b: &Word) -> bool {
    (&a.text, a.start_s, a.end_s) == (&b.text, b.start_s, b.end_s) && near(a.confidence.into(), b.confidence.into())
}

fn alike_readings(a: &Alternative, b: &Alternative) -> bool {
    a.text == b.text && near(a.acoustic, b.acoustic) && near(a.language, b.language) && near(a.score, b.score)
}

fn all<T>(a: &[T], b: &[T], alike: impl Fn(&T, &T) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < ROUNDING
}
