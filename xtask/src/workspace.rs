//! Where is everything? Paths of the workspace that this command was built in.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The workspace's root.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where data sets are unpacked; ignored by git.
pub fn data() -> PathBuf {
    root().join("data")
}

/// Where runs go unless told otherwise; ignored by git.
pub fn runs() -> PathBuf {
    root().join("runs")
}

/// Where the shipped recipes are.
pub fn recipes() -> PathBuf {
    root().join("xtask/recipes")
}

/// Where tools of NVIDIA are looked for, among what cargo builds.
pub fn cuda() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    root().join(target).join("cuda")
}
