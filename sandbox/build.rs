//! The migrations are embedded: a changed or new one has to rebuild this crate.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
