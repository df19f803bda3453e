//! Connectionist temporal classification (Graves et al. 2006): the loss, and what reads text from the network's output.

pub mod loss;
