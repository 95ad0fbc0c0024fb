//! `sarai-attest`: makes and verifies attestations; reads and pins the models manifest.
fn main() {}
