//! Arguments → configuration → roles → cores → exit code.
fn main() {}
