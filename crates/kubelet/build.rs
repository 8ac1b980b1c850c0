//! Lets the linker find the libseccomp that every Debian system carries, without its -dev package.
//!
//! `libcontainer` links `-lseccomp`, which wants a file called `libseccomp.so`; the runtime package only ships
//! `libseccomp.so.2`. A symlink in OUT_DIR bridges the two.

use std::{env, fs, os::unix::fs::symlink, path::Path};

const PLACES: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu/libseccomp.so.2",
    "/lib/x86_64-linux-gnu/libseccomp.so.2",
    "/usr/lib/aarch64-linux-gnu/libseccomp.so.2",
    "/lib/aarch64-linux-gnu/libseccomp.so.2",
    "/usr/lib64/libseccomp.so.2",
    "/usr/lib/libseccomp.so.2",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let link = Path::new(&out).join("libseccomp.so");
    let found = PLACES.iter().find(|place| Path::new(place).exists());
    let Some(found) = found else {
        println!(
            "cargo:warning=libseccomp.so.2 not found: install libseccomp2 (apt-get install libseccomp2)"
        );
        return;
    };
    let _ = fs::remove_file(&link);
    symlink(found, &link).expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={out}");
}
