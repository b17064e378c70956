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
use std::{env, path::PathBuf};

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
        let found = kept::<Self>(&path)
            .and_then(|found| found.map(|found| found.check(&empty)).transpose())
            .map(|found| found.unwrap_or(empty.clone()));
        found.unwrap_or_else(|reason| {
            let path = path.display();
            tracing::warn!("{path} is ignored: {reason}; `cargo xtask gpu-check` writes it anew");
            empty
        })
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
