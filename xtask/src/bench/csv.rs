//! What did other programs measure? Lines of a CSV file, checked, since a damaged figure would be quoted.
//!
//! Columns: `shape,tokens,threads,impl,min_ms,med_ms,gflops_min,gflops_med`, with or without that line on
//! top (`xtask/peers/dense.py` writes them). The name's ending says the dtype (`torch_bf16`); a name
//! with `avx2` in it was held to AVX2. Names without a dtype (`torch_csr_2of4`) are no dense products, and
//! are passed over.

use super::{
    cases::{Number, Setting, Shape},
    rows::{Dense, Figures, Limit},
};
use anyhow::{Context, Result, bail, ensure};
use std::{fs, path::Path};

const COLUMNS: &str = "shape,tokens,threads,impl,min_ms,med_ms,gflops_min,gflops_med";
/// GFLOP/s are rounded to a tenth, and times to a tenth of a microsecond.
const ROUNDING: f64 = 0.06;

/// One line: a dense product of another program.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    shape: Shape,
    tokens: usize,
    threads: usize,
    dense: Dense,
}

impl Peer {
    /// Whether it multiplied what this setting multiplies.
    pub fn fits(&self, setting: &Setting) -> bool {
        (self.shape, self.tokens, self.threads) == (setting.shape, setting.tokens, setting.threads)
    }

    /// What it reached.
    pub fn dense(&self) -> &Dense {
        &self.dense
    }
}

/// All dense products of a file.
pub fn read(path: &Path) -> Result<Vec<Peer>> {
    let said = || format!("cannot read {}", path.display());
    parse(&fs::read_to_string(path).with_context(said)?)
        .with_context(|| format!("{} is not what --peers takes", path.display()))
}

fn parse(text: &str) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if !line.is_empty() && line != COLUMNS {
            peers.extend(parse_line(line).with_context(|| format!("line {number} ({line:?})"))?);
        }
    }
    ensure!(!peers.is_empty(), "it has no dense product; its columns should be {COLUMNS}");
    Ok(peers)
}

fn parse_line(line: &str) -> Result<Option<Peer>> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let &[shape, tokens, threads, name, min_ms, med_ms, gflops_min, gflops_med] = &fields[..]
    else {
        bail!("{} columns where {} belong: {COLUMNS}", fields.len(), COLUMNS.split(',').count());
    };
    let count = |what: &str, text: &str| match text.parse::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => bail!("{what} is {text:?}, not a whole number above 0"),
    };
    let figure = |what: &str, text: &str| match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => bail!("{what} is {text:?}, not a number above 0"),
    };
    let shape: Shape = shape.parse()?;
    let (tokens, threads) = (count("tokens", tokens)?, count("threads", threads)?);
    let (min, med) = (figure("min_ms", min_ms)?, figure("med_ms", med_ms)?);
    ensure!(min <= med, "the shortest time, {min} ms, is longer than the median, {med} ms");
    let flops = Setting { shape, tokens, threads, sparse: Vec::new() }.flops();
    for (what, text, ms) in [("gflops_min", gflops_min, min), ("gflops_med", gflops_med, med)] {
        let (said, is) = (figure(what, text)?, flops / ms / 1e6);
        let rounding = ROUNDING + is * (0.01 + ROUNDING / 1e3 / ms);
        ensure!(
            (said - is).abs() <= rounding,
            "{what} says {said} where {shape}, {tokens} tokens in {ms} ms are {is:.1}"
        );
    }
    let Some(dtype) = dtype(name) else { return Ok(None) };
    let limit = if name.contains("avx2") { Limit::Avx2Only } else { Limit::None };
    let figures = Figures { median: med / 1e3, min: min / 1e3 };
    let dense = Dense { name: name.to_owned(), number: dtype, limit, figures };
    Ok(Some(Peer { shape, tokens, threads, dense }))
}

/// The dtype that a name ends in.
fn dtype(name: &str) -> Option<Number> {
    let endings = [
        ("_bf16", Number::BF16),
        ("_f16", Number::F16),
        ("_f32", Number::F32),
        ("_q8_0", Number::I8),
        ("_i8", Number::I8),
    ];
    endings.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "3072x768,128,1,ort_f32,2.5000,2.6000,241.6,232.3";

    #[test]
    fn lines_become_dense_products() {
        let avx2 = GOOD.replace("ort_f32", "onednn_avx2_f32");
        let text = format!("{COLUMNS}\n\n{GOOD}\r\n{avx2}\n{}\n", GOOD.replace("ort_f32", "ds_90"));
        let peers = parse(&text).unwrap();
        let said: Vec<_> = peers.iter().map(|p| (&p.dense.name[..], p.dense.limit)).collect();
        assert_eq!(said, [("ort_f32", Limit::None), ("onednn_avx2_f32", Limit::Avx2Only)]);
        assert_eq!(peers[0].dense.figures, Figures { median: 2.6e-3, min: 2.5e-3 });
        assert_eq!(peers[0].dense.number, Number::F32);
    }

    #[test]
    fn damaged_lines_say_where_and_why() {
        let said = |from: &str, to: &str| {
            let text = format!("{COLUMNS}\n{}", GOOD.replace(from, to));
            format!("{:#}", parse(&text).unwrap_err())
        };
        for (from, to, why) in [
            (",232.3", "", "7 columns where 8 belong"),
            ("3072x768", "3072", "ROWSxCOLS"),
            (",128,", ",0,", "tokens is \"0\""),
            (",1,", ",one,", "threads is \"one\""),
            ("2.5000", "NaN", "min_ms is \"NaN\""),
            ("2.5000", "-2.5", "min_ms is \"-2.5\""),
            ("2.6000", "2.4", "longer than the median"),
            ("232.3", "2323", "gflops_med says 2323"),
            ("232.3", "inf", "gflops_med is \"inf\""),
        ] {
            let said = said(from, to);
            assert!(said.contains("line 2") && said.contains(why), "{said}");
        }
        assert!(parse("").unwrap_err().to_string().contains("no dense product"));
    }

    /// What the script writes of a product too small for its tenths.
    #[test]
    fn rounded_figures_are_not_damaged() {
        parse("384x384,1,1,torch_f32,0.0021,0.0022,141.8,137.1").unwrap();
        parse("3072x768,1,1,torch_bf16,95.1234,95.1300,0.0,0.0").unwrap_err();
        parse("3072x768,1,1,torch_bf16,95.1234,95.1300,0.1,0.1").unwrap();
    }
}
