//! Was a kernel faster than the best dense product on this card? A table of what `cargo xtask gpu-check` timed.
//!
//! The table belongs to one card, one driver and one version of this crate, and is kept beside calibrations
//! (`SECATEUR_CACHE`). None comes with the crate: figures of one card say nothing about another.

use super::{CudaKernel, Device};
use crate::{
    KernelError, Problem,
    dispatch::cache::{folder, keep, kept},
};
use serde::{Deserialize, Serialize};
use std::{
    env,
    path::{Path, PathBuf},
};

/// One product, by one kernel and by the best dense library.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The kernel.
    pub kernel: CudaKernel,
    /// The weight's type, such as `bf16`.
    pub dtype: String,
    /// Rows of the weight.
    pub rows: usize,
    /// Columns of the weight.
    pub cols: usize,
    /// Tokens.
    pub tokens: usize,
    /// The kernel's median time.
    pub nanoseconds: f64,
    /// The dense product's median time, of the same numbers in turns; none where no library was there.
    pub dense_nanoseconds: Option<f64>,
}

impl Measurement {
    /// How many times faster than dense, if dense was there.
    pub fn speedup(&self) -> Option<f64> {
        self.dense_nanoseconds.map(|dense| dense / self.nanoseconds)
    }
}

/// What was timed on one card.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurements {
    /// The card's name.
    pub device: String,
    /// Its compute capability, times ten.
    pub sm: u32,
    /// The driver's CUDA version, `1000 · major + 10 · minor`.
    pub driver: u32,
    /// This crate's version.
    pub version: String,
    /// The products.
    pub products: Vec<Measurement>,
}

impl Measurements {
    /// An empty table for a device.
    pub fn of(device: &Device) -> Self {
        let properties = device.properties();
        Self {
            device: properties.name.clone(),
            sm: properties.sm,
            driver: properties.driver,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            products: Vec::new(),
        }
    }

    /// Keeps the table for [`Dispatcher::on`](crate::Dispatcher::on), whole or not at all. Says where, or `None` when
    /// `SECATEUR_CACHE` is `off` or there is no folder for caches. Errors when it cannot be written.
    pub fn save(&self) -> Result<Option<PathBuf>, KernelError> {
        let Some(folder) = folder(env::var_os("SECATEUR_CACHE")) else { return Ok(None) };
        let path = folder.join(self.file_name());
        keep(self, &path)?;
        Ok(Some(path))
    }

    /// The table kept for a device; an empty one, with a warning if there is a file, where it cannot be used.
    pub(super) fn kept(device: &Device) -> Self {
        let empty = Self::of(device);
        let path = folder(env::var_os("SECATEUR_CACHE")).map(|at| at.join(empty.file_name()));
        let Some(path) = path else { return empty };
        empty.read(&path).unwrap_or_else(|reason| {
            let path = path.display();
            tracing::warn!("{path} is ignored: {reason}; `cargo xtask gpu-check` writes it anew");
            empty
        })
    }

    /// The table in a file; this one if there is none. An error says why one that is there cannot be used.
    fn read(&self, path: &Path) -> Result<Self, String> {
        kept::<Self>(path)?.map_or_else(|| Ok(self.clone()), |found| found.check(self))
    }

    fn check(self, here: &Self) -> Result<Self, String> {
        let whose = |of: &Self| {
            let Self { device, sm, driver, version, .. } = of;
            format!("{device}, sm_{sm}, driver {driver}, version {version}")
        };
        if whose(&self) != whose(here) {
            return Err(format!("it belongs to {}, this is {}", whose(&self), whose(here)));
        }
        let sane = |ns: f64| ns.is_finite() && ns > 0.0;
        let all = self
            .products
            .iter()
            .all(|product| sane(product.nanoseconds) && product.dense_nanoseconds.is_none_or(sane));
        if all { Ok(self) } else { Err("no card has such times".to_owned()) }
    }

    /// A name of letters, digits and dashes, whatever the card calls itself.
    fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.device.chars().take(64).map(plain).collect();
        format!("gpu-{name}.json")
    }

    /// What was measured closest to a problem with a kernel: of the same type, within a factor of four in the size
    /// of the weight, and of two in the number of tokens or beyond the largest one.
    pub(super) fn closest(&self, kernel: CudaKernel, problem: &Problem) -> Option<&Measurement> {
        let apart = |a: usize, b: usize| (a.max(1) as f64).log2() - (b.max(1) as f64).log2();
        let dtype = problem.dtype.to_string();
        let same = |found: &&Measurement| {
            found.kernel == kernel && found.dtype.eq_ignore_ascii_case(&dtype)
        };
        let most = self.products.iter().filter(same).map(|found| found.tokens).max()?;
        let tokens = problem.tokens.min(most);
        let sides = |found: &Measurement| {
            [apart(found.rows, problem.rows), apart(found.cols, problem.cols)]
        };
        let near = |found: &&Measurement| {
            let [rows, cols] = sides(found);
            (rows + cols).abs() <= 2.0 && apart(found.tokens, tokens).abs() <= 1.0
        };
        let far = |found: &Measurement| {
            let [rows, cols] = sides(found);
            rows.abs() + cols.abs() + 2.0 * apart(found.tokens, tokens).abs()
        };
        let found = self.products.iter().filter(same).filter(near);
        found.min_by(|a, b| far(a).total_cmp(&far(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Emulator;
    use secateur_storage::{Dtype, Format};
    use std::fs;

    fn product(kernel: CudaKernel, [rows, cols, tokens]: [usize; 3]) -> Measurement {
        let (nanoseconds, dense_nanoseconds) = (1500.5, Some(3000.25));
        let dtype = "bf16".into();
        Measurement { kernel, dtype, rows, cols, tokens, nanoseconds, dense_nanoseconds }
    }

    fn table() -> Measurements {
        let products = vec![
            product(CudaKernel::SmallBatch, [4096, 4096, 8]),
            Measurement {
                dense_nanoseconds: None,
                ..product(CudaKernel::Gemm, [4096, 11008, 1024])
            },
        ];
        Measurements { products, ..Measurements::of(&Emulator::new().device()) }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let empty = Measurements::of(&Emulator::new().device());
        let path = folder.path().join("not/there").join(empty.file_name());
        assert_eq!(empty.read(&path), Ok(empty.clone()), "no file is an empty table");
        keep(&table(), &path).unwrap();
        assert_eq!(empty.read(&path), Ok(table()));
        assert_eq!(empty.file_name(), "gpu-emulated-sm-80.json");
        let strange = Measurements { device: "../../etc/\u{e9} A100\n".into(), ..empty };
        assert_eq!(strange.file_name(), "gpu-------etc---a100-.json");
    }

    #[test]
    fn what_is_damaged_or_foreign_is_turned_down_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        let here = Measurements::of(&Emulator::new().device());
        let reason = |text: &str| {
            fs::write(&path, text).unwrap();
            here.read(&path).unwrap_err()
        };
        let whole = serde_json::to_string(&table()).unwrap();
        for end in 0..whole.len() {
            assert!(reason(&whole[..end]).contains("damaged"), "{}", &whole[..end]);
        }
        assert!(reason(&whole.replace("\"rows\"", "\"lines\"")).contains("damaged"));
        assert!(reason(&whole.replace("small-batch", "wgmma")).contains("damaged"));
        assert!(reason(&" ".repeat(1_100_000)).contains("too long"));
        let with = |change: fn(&mut Measurements)| {
            let mut other = table();
            change(&mut other);
            reason(&serde_json::to_string(&other).unwrap())
        };
        assert!(with(|table| table.device = "A toaster".into()).contains("belongs to A toaster"));
        assert!(with(|table| table.sm = 90).contains("sm_90"));
        assert!(with(|table| table.driver = 12_040).contains("driver 12040"));
        assert!(with(|table| table.version = "0.0.0".into()).contains("version 0.0.0"));
        assert!(with(|table| table.products[0].nanoseconds = 0.0).contains("no card"));
        assert!(with(|table| table.products[1].nanoseconds = -1.0).contains("no card"));
        assert!(with(|table| table.products[0].dense_nanoseconds = Some(0.0)).contains("no card"));
    }

    #[test]
    fn the_closest_is_of_the_type_and_near_in_size_and_tokens() {
        let shapes =
            [[4096, 4096, 8], [4096, 4096, 16], [8192, 2048, 8], [usize::MAX, usize::MAX, 8]];
        let products = shapes.map(|shape| product(CudaKernel::SmallBatch, shape)).to_vec();
        let table = Measurements { products, ..table() };
        let closest = |kernel, dtype, [rows, cols, tokens]: [usize; 3]| {
            let (format, stored) = (Format::TWO_OF_FOUR, 0);
            let problem = Problem { rows, cols, tokens, format, stored, dtype };
            table.closest(kernel, &problem).map(|found| [found.rows, found.cols, found.tokens])
        };
        let small = |shape| closest(CudaKernel::SmallBatch, Dtype::BF16, shape);
        assert_eq!(small([4096, 4096, 8]), Some([4096, 4096, 8]));
        assert_eq!(small([4096, 4096, 15]), Some([4096, 4096, 16]));
        assert_eq!(small([8192, 2048, 8]), Some([8192, 2048, 8]), "the shape, where sizes tie");
        assert_eq!(small([4096, 4096, 4]), Some([4096, 4096, 8]), "half as many tokens");
        assert_eq!(small([4096, 4096, 3]), None, "too few");
        assert_eq!(small([4096, 16_384, 8]), Some([4096, 4096, 8]), "four times as large");
        assert_eq!(small([4096, 16_385, 8]), None, "more than that");
        assert_eq!(small([4096, 4096, 999]), Some([4096, 4096, 16]), "beyond what was measured");
        assert_eq!(small([0, 0, 0]), None);
        assert_eq!(closest(CudaKernel::Gemm, Dtype::BF16, [4096, 4096, 8]), None);
        assert_eq!(closest(CudaKernel::SmallBatch, Dtype::F16, [4096, 4096, 8]), None);
    }
}
