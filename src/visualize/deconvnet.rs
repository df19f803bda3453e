//! What of the spectrogram a unit answered to: its value sent back through the layers, the deconvnet of Zeiler & Fergus
//! 2013 ("Visualizing and understanding convolutional networks", §2.1) and its relatives.

use super::activations::{Unit, activations};
use crate::layers::{OpenNetwork, Rule};

/// Sends one unit of the layer at `path` back to the spectrogram, `[frames, bins]` with the input's channels last, through
/// the switches of the network's last pass.
///
/// All other units of the layer are set to zero, as in the paper. The unit's own value would only scale the result, and its
/// sign is known; so 1 is sent.
///
/// # Panics
/// When there is no such unit.
pub fn project(network: &mut OpenNetwork, path: &str, unit: Unit, rule: Rule) -> Vec<f32> {
    let maps = activations(network);
    let map = maps.iter().find(|map| map.layer.path == path).expect("a layer of the network");
    let mut signal = vec![0.0; map.values.len()];
    signal[map.index(unit)] = 1.0;
    network.backward(path, &signal, rule).values.clone()
}
