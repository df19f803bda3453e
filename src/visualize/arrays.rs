//! What a clip's page shows as plain numbers, for those who make their own plots.

use std::io::{Seek, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::activations::{Unit, activations};
use super::deconvnet::project;
use super::letters::{best_path, logits, surest_step};
use super::page::stages::stages;
use super::receptive_field::fields;
use crate::layers::{Images, OpenNetwork, Rule};
use crate::model::Model;
use crate::network::{Folded, fold_batch_norm};
use crate::spectrogram::Spectrogram;
use crate::{Error, Result};

/// Numbers with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// What they are, such as `activations.c1`.
    pub name: String,
    /// Extents, the last one running fastest.
    pub shape: Vec<usize>,
    /// As many as the product of the extents.
    pub values: Vec<f32>,
}

impl Array {
    fn new(name: impl Into<String>, shape: &[usize], values: Vec<f32>) -> Self {
        let array = Self { name: name.into(), shape: shape.to_vec(), values };
        assert_eq!(array.values.len(), array.shape.iter().product::<usize>(), "{}", array.name);
        array
    }
}

/// Everything about a clip of mono `samples` in ±1 at the model's rate:
///
/// | name | shape |
/// |---|---|
/// | `samples` | `[samples]` |
/// | `image` | `[frames, bins]`, normalised |
/// | `centres_hz` | `[bins]` |
/// | `activations.LAYER` | `[steps, bins, channels]`, behind the layer's activation function |
/// | `weights.LAYER` | `[filters, inputs, time, frequency]`, batch normalisation folded in |
/// | `log_probs` | `[steps, classes]` in the order of `tokens.txt` |
/// | `letters.token`, `letters.step` | `[letters]`: class, and the step at which it is surest |
/// | `letters.first_frame` | `[letters]`: the first frame that the step sees, negative where that is padding |
/// | `letters.deconvnet`, `.guided`, `.gradient` | `[letters, frames seen, bins]`: what spoke for it |
///
/// `progress` is told the share that is done.
///
/// # Errors
/// [`Error::Setting`] when the clip is too short for a single output, or the threads cannot be started.
pub fn arrays(model: &Model, samples: &[f32], threads: usize, mut progress: impl FnMut(f64)) -> Result<Vec<Array>> {
    let Folded { architecture, weights, .. } = fold_batch_norm(&model.architecture, &model.weights)?;
    let mut network = OpenNetwork::new(&architecture, &weights, threads)?;
    let (bins, classes) = (model.spectrogram.bins(), model.tokens.len());
    let mut frames = Vec::new();
    Spectrogram::new(&model.spectrogram, Some(model.normalization.clone()))?.push(samples, &mut frames);
    let image = Images::new(architecture.input(), vec![frames.len() / bins], frames);
    let log_probs = network.forward(&image).values.clone();
    if log_probs.is_empty() {
        return Err(Error::setting("clip", "is too short for a single output of the network; choose a longer piece"));
    }
    let count = image.lengths[0];
    let mut arrays = vec![
        Array::new("samples", &[samples.len()], samples.to_vec()),
        Array::new("image", &[count, bins], image.values.clone()),
        Array::new("centres_hz", &[bins], model.spectrogram.centres_hz().iter().map(|&hz| hz as f32).collect()),
    ];
    let maps = activations(&network);
    for stage in stages(architecture.layers()) {
        let (map, output) = (&maps[stage.line], maps[stage.line].layer.output);
        let shape = [map.steps(), output.frequency, output.channels];
        arrays.push(Array::new(format!("activations.{}", stage.path), &shape, map.values.to_vec()));
        if let Some(tensor) = weights.get(&format!("{}.weight", stage.path)) {
            arrays.push(Array::new(format!("weights.{}", stage.path), &tensor.shape, tensor.values.clone()));
        }
    }
    arrays.push(Array::new("log_probs", &[log_probs.len() / classes, classes], log_probs.clone()));

    let letters = best_path(&log_probs, &model.tokens);
    let steps: Vec<usize> = letters.iter().map(|letter| surest_step(letter, &log_probs, classes)).collect();
    let path = logits(&architecture).to_owned();
    let line = architecture.summary().iter().position(|layer| layer.path == path).unwrap_or(0);
    let field = fields(&architecture, line)[0].map(|field| field.time);
    let (stride, before, seen) =
        field.map_or((0, 0, 0), |time| (time.stride, time.before, (time.before + time.after + 1) as usize));
    let first = |step: usize| step as i64 * stride - before;
    let tokens = letters.iter().map(|letter| letter.token as f32).collect();
    arrays.push(Array::new("letters.token", &[letters.len()], tokens));
    arrays.push(Array::new("letters.step", &[steps.len()], steps.iter().map(|&step| step as f32).collect()));
    let frames = steps.iter().map(|&step| first(step) as f32).collect();
    arrays.push(Array::new("letters.first_frame", &[steps.len()], frames));
    let rules = [("deconvnet", Rule::Deconvnet), ("guided", Rule::Guided), ("gradient", Rule::Gradient)];
    let mut done = 0;
    for (name, rule) in rules {
        let mut values = vec![0.0; letters.len() * seen * bins];
        for ((letter, &step), out) in letters.iter().zip(&steps).zip(values.chunks_exact_mut((seen * bins).max(1))) {
            let back = project(&mut network, &path, Unit { step, bin: 0, channel: letter.token as usize }, rule);
            for (frame, out) in (first(step)..).zip(out.chunks_exact_mut(bins)) {
                if let Some(row) = usize::try_from(frame).ok().and_then(|frame| back.chunks_exact(bins).nth(frame)) {
                    out.copy_from_slice(row);
                }
            }
            done += 1;
            progress(f64::from(done) / (rules.len() * letters.len()) as f64);
        }
        arrays.push(Array::new(format!("letters.{name}"), &[letters.len(), seen, bins], values));
    }
    Ok(arrays)
}

/// Writes NumPy's NPZ: a ZIP of one NPY (format 1.0, little-endian `float32`, C order) for each array.
///
/// # Errors
/// What writing said.
pub fn write_npz(arrays: &[Array], out: impl Write + Seek) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(out);
    for Array { name, shape, values } in arrays {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().large_file(true))?;
        zip.write_all(&npy_header(shape))?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        zip.write_all(&bytes)?;
    }
    zip.finish()?;
    Ok(())
}

/// The magic string, the version, the length of what follows, and a Python dictionary, padded to 64 bytes in all.
fn npy_header(shape: &[usize]) -> Vec<u8> {
    let extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({extents}), }}");
    let padding = 63 - (10 + text.len()) % 64;
    let length = (text.len() + padding + 1) as u16;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(length.to_le_bytes());
    header.extend(text.bytes());
    header.extend(std::iter::repeat_n(b' ', padding));
    header.push(b'\n');
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a second of a gliding tone.
    fn made() -> (Model, Vec<Array>) {
        let model = Model::embedded().unwrap();
        let samples: Vec<f32> = (0..16_000).map(|n| 0.3 * (n as f32 * (0.1 + n as f32 * 1e-5)).sin()).collect();
        let mut last = 0.0;
        let arrays = arrays(&model, &samples, 1, |share| last = share).unwrap();
        assert!(last == 1.0 || arrays.iter().any(|array| array.name == "letters.token" && array.values.is_empty()));
        (model, arrays)
    }

    #[test]
    fn the_arrays_are_those_of_the_network() {
        let (model, arrays) = made();
        let shape = |name: &str| &arrays.iter().find(|array| array.name == name).expect(name).shape;
        assert_eq!(shape("image"), &[98, 80]);
        assert_eq!(shape("weights.c1"), &[32, 1, 3, 3]);
        assert_eq!(shape("activations.c1")[1..], [40, 32]);
        assert_eq!(shape("activations.t0.a")[1..], [1, 320]);
        assert_eq!(shape("log_probs"), &[shape("activations.out")[0], model.tokens.len()]);
        assert_eq!(shape("letters.gradient")[0], shape("letters.token")[0]);
        assert!(made().1 == arrays, "nothing is left to chance");
        assert!(super::arrays(&model, &[0.0; 100], 1, |_| ()).unwrap_err().to_string().contains("too short"));
    }

    #[test]
    fn npy_headers_are_aligned() {
        for shape in [&[][..], &[7], &[3, 4], &[100_000, 20, 3, 3]] {
            let header = npy_header(shape);
            assert_eq!((header.len() % 64, header.last()), (0, Some(&b'\n')), "{shape:?}");
            assert_eq!(usize::from(u16::from_le_bytes([header[8], header[9]])) + 10, header.len());
        }
        assert!(String::from_utf8_lossy(&npy_header(&[7])).contains("'shape': (7, ), }"));
        assert!(String::from_utf8_lossy(&npy_header(&[])).contains("'shape': (), }"));
    }

    #[test]
    fn an_npz_is_a_zip_of_arrays() {
        let mut out = std::io::Cursor::new(Vec::new());
        write_npz(&[Array::new("a.b", &[2], vec![1.0, -2.0])], &mut out).unwrap();
        let mut zip = zip::ZipArchive::new(out).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut zip.by_name("a.b.npy").unwrap(), &mut bytes).unwrap();
        assert_eq!(bytes[bytes.len() - 8..], [0, 0, 128, 63, 0, 0, 0, 192]);
    }
}
