//! ketch
fn main() {}
