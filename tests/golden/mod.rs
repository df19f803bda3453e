//! Where reference data lies and how it is read.
#![allow(dead_code, reason = "every test binary uses its part")]

pub mod bootstrap;

use std::io::Write;
use std::path::{Path, PathBuf};

/// An array of a `.npy` file in row-major order.
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Reads a `.npy` file (NEP 1, version 1.0) of little-endian f32 with one or two axes.
pub fn npy(path: impl AsRef<Path>) -> Array {
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).unwrap();
    assert!(header.contains("'<f4'"), "{header}");
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let shape: Vec<usize> = shape.split(',').filter_map(|axis| axis.trim().parse().ok()).collect();
    let stored: Vec<f32> = bytes[end..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(stored.len(), shape.iter().product::<usize>());
    let values = match shape[..] {
        [rows, columns] if header.contains("'fortran_order': True") => {
            (0..rows * columns).map(|i| stored[i % columns * rows + i / columns]).collect()
        }
        _ => stored,
    };
    Array { shape, values }
}

/// Committed reference data.
pub fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

/// A file or folder of the `shared` folder beside the project, where there is one. Says so where there is none.
pub fn shared(name: &str) -> Option<PathBuf> {
    let ancestors = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = ancestors.map(|folder| folder.join("shared").join(name)).find(|path| path.exists());
    if found.is_none() {
        // Not `eprintln!`, which the test harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "skipped: no shared/{name} beside the project");
    }
    found
}

/// A golden clip of the bootstrap network: paths without their extension, and the greedy text.
pub struct Clip {
    stem: PathBuf,
    pub greedy: String,
}

impl Clip {
    pub fn path(&self, extension: &str) -> PathBuf {
        self.stem.with_extension(extension)
    }
}

/// The golden clips of the bootstrap network; none where `shared` is absent.
pub fn clips() -> Vec<Clip> {
    let Some(folder) = shared("bootstrap/golden") else { return Vec::new() };
    let list = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
    let text = |clip: &serde_json::Value, key: &str| clip[key].as_str().unwrap().to_string();
    let clips: Vec<Clip> =
        list.iter().map(|clip| Clip { stem: folder.join(text(clip, "wav")), greedy: text(clip, "greedy") }).collect();
    assert!(!clips.is_empty());
    clips
}

/// The samples of a 16-bit mono WAV file, in ±1.
pub fn wav(path: impl AsRef<Path>) -> Vec<f32> {
    let mut reader = hound::WavReader::open(path).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.bits_per_sample), (1, 16));
    reader.samples::<i16>().map(|sample| f32::from(sample.unwrap()) / 32768.0).collect()
}

/// The largest absolute difference of two arrays of one length.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference = |(a, b): (&f32, &f32)| if a.is_nan() || b.is_nan() { f32::INFINITY } else { (a - b).abs() };
    a.iter().zip(b).map(difference).fold(0.0, f32::max)
}
