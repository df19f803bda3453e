//! Four bits a sample: the ADPCM of the Interactive Multimedia Association ("Recommended practices for enhancing digital
//! audio compatibility in multimedia systems", 1992, §6), which a page unpacks in a few lines.

use serde::Serialize;

/// What packing and unpacking must agree on.
#[derive(Serialize)]
pub struct Tables {
    steps: &'static [i32],
    turns: [isize; 8],
}

/// The association's.
pub const TABLES: Tables = Tables { steps: &STEPS, turns: TURNS };

const STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794,
    32767,
];

/// What a code adds to the index of the step, by its three bits of magnitude.
const TURNS: [isize; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

/// Both sides' state: what the next sample is predicted to be, and the size of a step.
#[derive(Default)]
struct State {
    predicted: i32,
    index: usize,
}

impl State {
    /// Takes a code of four bits and returns the sample that it stands for.
    fn take(&mut self, code: u8) -> i32 {
        let (step, magnitude) = (STEPS[self.index], i32::from(code & 7));
        let change = (step * (2 * magnitude + 1)) >> 3;
        self.predicted = (self.predicted + if code & 8 == 0 { change } else { -change }).clamp(-32_768, 32_767);
        self.index = self.index.saturating_add_signed(TURNS[usize::from(code & 7)]).min(STEPS.len() - 1);
        self.predicted
    }

    /// The code whose sample is next to `sample`.
    fn code(&self, sample: i16) -> u8 {
        let (step, error) = (STEPS[self.index], i32::from(sample) - self.predicted);
        let magnitude = (4 * error.abs() / step).min(7) as u8;
        if error < 0 { 8 | magnitude } else { magnitude }
    }
}

/// Two samples a byte, the first in its lower half; an odd last one is followed by a zero code.
pub fn encode(samples: impl IntoIterator<Item = i16>) -> Vec<u8> {
    let (mut state, mut bytes) = (State::default(), Vec::new());
    for (n, sample) in samples.into_iter().enumerate() {
        let code = state.code(sample);
        state.take(code);
        match bytes.last_mut() {
            Some(last) if n % 2 == 1 => *last |= code << 4,
            _ => bytes.push(code),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone comes back with an error of a few hundredths, beginnings apart.
    #[test]
    fn a_tone_comes_back() {
        let tone: Vec<i16> = (0..2001).map(|n| (12_000.0 * (n as f64 * 0.2).sin()) as i16).collect();
        let bytes = encode(tone.iter().copied());
        assert_eq!(bytes.len(), 1001);
        let mut state = State::default();
        let decoded: Vec<i32> =
            bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).map(|code| state.take(code)).collect();
        let energy = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
        let error = energy(&mut tone.iter().zip(&decoded).skip(100).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        let all = energy(&mut tone.iter().skip(100).map(|&a| f64::from(a)));
        assert!(error < 0.003 * all, "{}", error / all);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let square: Vec<i16> = (0..400).map(|n| if n / 50 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        assert_eq!(encode(square).len(), 200);
        assert!(encode([]).is_empty());
    }
}
