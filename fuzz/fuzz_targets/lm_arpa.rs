//! Any bytes as an ARPA file: an error or a model that scores, and that survives being written and read again.
#![no_main]

use std::io::Cursor;

use dfcnn::ctc::lm::{LanguageModel, NGrams, arpa};
use dfcnn::lines::Lines;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = |bytes: &[u8]| Lines::new("fuzz", Cursor::new(bytes.to_vec())).and_then(arpa::read_lines);
    let Ok(model) = read(data) else { return };
    let scores = scores(&model);
    let mut written = Vec::new();
    arpa::write(&model, &mut written).expect("memory takes all");
    let again = read(&written).expect("what was written can be read");
    assert_eq!(scores, self::scores(&again));
});

fn scores(model: &NGrams) -> Vec<f32> {
    let mut state = model.start();
    let mut scores = vec![model.finish(&state)];
    for word in ["a", "b", "a", "b", "c", "<s>", "never", "a"] {
        let (score, next) = model.score(&state, word);
        state = next;
        scores.extend([score, model.finish(&state)]);
    }
    scores
}
