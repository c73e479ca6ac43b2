//! The `bridgefs` command.

fn main() {}
