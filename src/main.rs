//! The `dfcnn` program.

fn main() {}
