//! Any bytes as a compact model, with a checksum that is right: an error or a model that scores.
#![no_main]

use dfcnn::ctc::lm::LanguageModel;
use dfcnn::ctc::lm::compact::Compact;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if bytes.len() > 16 {
        let crc = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    let Ok(model) = Compact::from_bytes(bytes) else { return };
    let mut state = model.start();
    assert!(model.finish(&state).is_finite());
    for word in ["a", "b", "a", "b", "c", "<s>", "never", "a"] {
        let (score, next) = model.score(&state, word);
        state = next;
        assert!(score.is_finite() && model.finish(&state).is_finite());
    }
});
