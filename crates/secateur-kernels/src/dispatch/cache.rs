//! Where is a calibration kept, and whose is it? In the user's folder for caches, a file for each tier,
//! with the machine's name in it.
//!
//! `SECATEUR_CACHE` says otherwise: `off` for none, or a folder. Whatever is wrong with a file, or not of
//! this very machine and version, is ignored with a warning: built-in costs are good plans too.

use super::{Calibration, Tier};
use crate::KernelError;
use secateur_storage::write_atomically;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    env,
    ffi::OsString,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// A calibration is a few kilobytes, a table of a card's products some tens; nothing much longer is either.
const MOST_BYTES: u64 = 1 << 20;

/// Whose costs they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machine {
    pub processor: String,
    pub features: Vec<String>,
    pub version: String,
}

impl Machine {
    pub fn this() -> Self {
        let features = features().into_iter().filter(|(_, found)| *found);
        Self {
            processor: processor(),
            features: features.map(|(name, _)| name.to_owned()).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The name that the processor gives itself, and its model and stepping: machines in a cloud like to share
/// names.
#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    use std::arch::x86_64::__cpuid;
    let registers = |leaf: u32| {
        let found = __cpuid(leaf);
        [found.eax, found.ebx, found.ecx, found.edx]
    };
    let model = registers(1)[0];
    if registers(0x8000_0000)[0] < 0x8000_0004 {
        return format!("x86-64 {model:#x}");
    }
    let name: Vec<u8> = (0x8000_0002..=0x8000_0004)
        .flat_map(registers)
        .flat_map(u32::to_le_bytes)
        .filter(|byte| byte.is_ascii_graphic() || *byte == b' ')
        .collect();
    let name = String::from_utf8_lossy(&name);
    let words: Vec<&str> = name.split_whitespace().collect();
    format!("{} {model:#x}", words.join(" "))
}

/// What Linux says of the processor's maker and part; elsewhere, the architecture.
#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    let told = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut name = env::consts::ARCH.to_owned();
    for wanted in ["CPU implementer", "CPU part", "CPU revision"] {
        let line = told.lines().find(|line| line.starts_with(wanted));
        if let Some((_, value)) = line.and_then(|line| line.split_once(':')) {
            name += &format!(" {}", value.trim());
        }
    }
    name
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<(&'static str, bool)> {
    vec![
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

impl Calibration {
    /// Why it cannot be used for `tier` of this machine.
    pub(super) fn check(&self, tier: Tier) -> Result<(), String> {
        let here = Machine::this();
        if self.machine.version != here.version {
            return Err(format!(
                "it was made by version {}, this is {}",
                self.machine.version, here.version
            ));
        }
        if self.machine != here {
            return Err(format!("it belongs to {}, this is {}", self.processor(), here.processor));
        }
        if self.tier != tier.name() {
            return Err(format!("it is for the tier {}, not {tier}", self.tier));
        }
        if !self.costs.are_sane() {
            return Err("no machine has such costs".to_owned());
        }
        Ok(())
    }
}

/// The calibration of this tier on this machine, if one is kept that can be used.
pub(super) fn load(tier: Tier) -> Option<Calibration> {
    let path = folder(env::var_os("SECATEUR_CACHE"))?.join(file_name(tier.name()));
    match read(&path, tier) {
        Ok(found) => found,
        Err(reason) => {
            tracing::warn!(
                "{} is ignored: {reason}; `cargo xtask calibrate` writes it anew",
                path.display()
            );
            None
        }
    }
}

pub(super) fn save(calibration: &Calibration) -> Result<Option<PathBuf>, KernelError> {
    let Some(folder) = folder(env::var_os("SECATEUR_CACHE")) else { return Ok(None) };
    write(calibration, &folder).map(Some)
}

fn write(calibration: &Calibration, folder: &Path) -> Result<PathBuf, KernelError> {
    let path = folder.join(file_name(&calibration.tier));
    keep(calibration, &path)?;
    Ok(path)
}

/// Writes what was measured, whole or not at all.
pub(crate) fn keep(measured: &impl Serialize, path: &Path) -> Result<(), KernelError> {
    let said = |reason: String| KernelError::Calibration(format!("{}: {reason}", path.display()));
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| said(error.to_string()))?;
    let mut text =
        serde_json::to_string_pretty(measured).map_err(|error| said(error.to_string()))?;
    text.push('\n');
    write_atomically(path, text.as_bytes()).map_err(|error| said(error.to_string()))
}

/// `None` if there is no such file; an error says why one that is there cannot be used.
fn read(path: &Path, tier: Tier) -> Result<Option<Calibration>, String> {
    let Some(found) = kept::<Calibration>(path)? else { return Ok(None) };
    found.check(tier)?;
    Ok(Some(found))
}

/// What [`keep`] wrote; `None` if there is no such file.
pub(crate) fn kept<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    // Asked before it is opened: opening a pipe would wait for ever.
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err("it is no file".to_owned()),
        Ok(found) if found.len() > MOST_BYTES => return Err("it is too long".to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    }
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map(Some).map_err(|error| format!("it is damaged ({error})"))
}

fn file_name(tier: &str) -> String {
    format!("costs-{tier}.json")
}

/// Where measurements lie, given what `SECATEUR_CACHE` says.
pub(crate) fn folder(asked: Option<OsString>) -> Option<PathBuf> {
    match asked {
        Some(asked) if asked.is_empty() || asked == "off" => return None,
        Some(asked) => return Some(asked.into()),
        None => {}
    }
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let caches = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("LOCALAPPDATA"))
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("secateur"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::built_in::costs;

    fn calibration() -> Calibration {
        let (machine, tier) = (Machine::this(), Tier::Portable.to_string());
        Calibration { machine, tier, costs: costs(Tier::Portable) }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("not/there/yet");
        let path = write(&calibration(), &below).unwrap();
        assert_eq!(read(&path, Tier::Portable), Ok(Some(calibration())));
        assert_eq!(fs::read_dir(&below).unwrap().count(), 1, "nothing else is left");
        assert_eq!(read(&below.join("none"), Tier::Portable), Ok(None));
        assert!(read(&path, Tier::Avx2).unwrap_err().contains("the tier portable"));
    }

    #[test]
    fn what_is_damaged_or_foreign_is_turned_down_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("costs");
        let reason = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path, Tier::Portable).unwrap_err()
        };
        let whole = serde_json::to_string(&calibration()).unwrap();
        for end in 0..whole.len() {
            assert!(reason(&whole[..end]).contains("damaged"));
        }
        let with = |change: fn(&mut Calibration)| {
            let mut other = calibration();
            change(&mut other);
            serde_json::to_string(&other).unwrap()
        };
        assert!(reason(&with(|c| c.machine.processor = "a toaster".into())).contains("a toaster"));
        assert!(reason(&with(|c| c.machine.version = "0.0.0".into())).contains("version 0.0.0"));
        assert!(reason(&with(|c| c.machine.features.push("wings".into()))).contains("belongs to"));
        for cost in [-1.0, 1e9] {
            let mut other = calibration();
            other.costs.memory = cost;
            assert!(reason(&serde_json::to_string(&other).unwrap()).contains("no machine"));
        }
        assert!(reason(&"[".repeat(60_000)).contains("damaged"));
        assert!(reason(&" ".repeat(1_100_000)).contains("too long"));
        assert!(read(folder.path(), Tier::Portable).unwrap_err().contains("no file"));
    }

    #[test]
    fn the_environment_says_where() {
        assert_eq!(folder(Some("off".into())), None);
        assert_eq!(folder(Some("".into())), None);
        assert_eq!(folder(Some("here".into())), Some("here".into()));
    }
}
