//! Where are NVIDIA's compiler and disassembler? Where the user says, where CI puts them, or where the system does.

use crate::workspace;
use anyhow::{Context, Result, bail};
use secateur::kernels::cuda::Nvrtc;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// CUDA 11.8: its PTX is ISA 7.8, which that CUDA's drivers and all later ones load.
const VERSION: (u32, u32) = (11, 8);
const WHEEL: &str = "pip install --no-deps --target DIR nvidia-cuda-nvrtc-cu11==11.8.89";
const NVDISASM_WHEEL: &str = "pip install --no-deps --target DIR nvidia-cuda-nvdisasm==13.2.86";
/// How deep below a folder programs are looked for.
const DEPTH: usize = 5;

/// The compiler, of the one version whose text is committed.
pub fn nvrtc(asked: Option<&Path>) -> Result<Nvrtc> {
    let place = asked.map(Into::into).or_else(|| set("SECATEUR_NVRTC"));
    let nvrtc = match place {
        Some(place) => Nvrtc::load(Some(&place)),
        None => Nvrtc::load(Some(&workspace::cuda())).or_else(|_| Nvrtc::load(None)),
    };
    let nvrtc = nvrtc.context("kernels are compiled by NVRTC 11.8")?;
    let (major, minor) = nvrtc.version();
    if (major, minor) != VERSION {
        bail!(
            "this is NVRTC {major}.{minor}, whose PTX older drivers do not load and nobody could compare; \
             kernels are compiled by 11.8: {WHEEL}, then --nvrtc DIR"
        );
    }
    Ok(nvrtc)
}

/// The disassembler: at the place asked for, else below the folders of the compiler, else by its name.
pub fn nvdisasm(asked: Option<&Path>, nvrtc: Option<&Path>) -> Result<PathBuf> {
    let name = format!("nvdisasm{}", env::consts::EXE_SUFFIX);
    if let Some(place) = asked.map(Into::into).or_else(|| set("SECATEUR_NVDISASM")) {
        return below(&place, &name)
            .with_context(|| format!("no {name} at {} ({NVDISASM_WHEEL})", place.display()));
    }
    let folders = [nvrtc.map(Into::into), set("SECATEUR_NVRTC"), Some(workspace::cuda())];
    let found = folders.into_iter().flatten().find_map(|folder| below(&folder, &name));
    Ok(found.unwrap_or(name.into()))
}

/// What the disassembler says of a cubin.
pub fn disassembly(nvdisasm: &Path, cubin: &[u8]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("kernels.cubin");
    fs::write(&file, cubin)?;
    let output = match Command::new(nvdisasm).arg(&file).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no {} here; {NVDISASM_WHEEL}, then --nvdisasm DIR", nvdisasm.display())
        }
        Err(error) => return Err(error).with_context(|| format!("{}", nvdisasm.display())),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", nvdisasm.display(), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A place named by the environment.
fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `place` if it is a file, else the first file called `name` below it.
fn below(place: &Path, name: &str) -> Option<PathBuf> {
    if place.is_file() {
        return Some(place.to_path_buf());
    }
    let (mut found, mut folders) = (Vec::new(), vec![(place.to_path_buf(), 0)]);
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && depth < DEPTH {
                folders.push((path, depth + 1));
            } else if path.is_file() && path.file_name().is_some_and(|found| found == name) {
                found.push(path);
            }
        }
    }
    found.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_below_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(below(folder.path(), "nvdisasm"), None);
        let bin = folder.path().join("nvidia/cu13/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("nvdisasm.txt"), "").unwrap();
        assert_eq!(below(folder.path(), "nvdisasm"), None);
        let file = bin.join("nvdisasm");
        fs::write(&file, "").unwrap();
        assert_eq!(below(folder.path(), "nvdisasm"), Some(file.clone()));
        assert_eq!(below(&file, "nvdisasm"), Some(file));
    }
}
