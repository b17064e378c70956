//! How sure is a mean of a few seeds? The 95 % interval of Student's t distribution.

use serde::Serialize;

/// A mean and, from two values on, its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    pub mean: f64,
    /// From where to where; nothing is known from one value.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// The estimate from independent `values`; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let freedom = values.len().checked_sub(1)?;
        let interval = (freedom > 0).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let half = critical(freedom) * (squares / freedom as f64 / n).sqrt();
            (mean - half, mean + half)
        });
        Some(Self { mean, interval })
    }
}

/// The t that lies between ±t in 95 % of the cases, at so many degrees of freedom.
fn critical(freedom: usize) -> f64 {
    // With one degree it is 12.7, and it falls from there.
    let (mut low, mut high) = (0.0, 13.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if within(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    high
}

/// The probability of lying between ±`t` (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4: a finite sum).
fn within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = freedom % 2;
    let (mut term, mut sum) = if odd == 1 { (cos, cos) } else { (1.0, 1.0) };
    let mut power = 1 + odd;
    // Powers of the cosine up to `freedom - 2`, each with its factor k/(k+1).
    while power + 2 <= freedom {
        term *= cos * cos * power as f64 / (power + 1) as f64;
        sum += term;
        power += 2;
    }
    match (odd, freedom) {
        (1, 1) => angle / std::f64::consts::FRAC_PI_2,
        (1, _) => (angle + sin * sum) / std::f64::consts::FRAC_PI_2,
        _ => sin * sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table of the distribution has these.
    #[test]
    fn critical_values_are_those_of_the_tables() {
        for (freedom, known) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (9, 2.262),
            (10, 2.228),
            (30, 2.042),
        ] {
            let found = critical(freedom);
            assert!((found - known).abs() < 6e-4, "{freedom}: {found}, not {known}");
        }
    }

    #[test]
    fn an_interval_needs_two_values() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[3.0]), Some(Estimate { mean: 3.0, interval: None }));
        // Standard deviation √2.5, so the half width is 2.776 · √0.5.
        let found = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let (low, high) = found.interval.unwrap();
        assert_eq!(found.mean, 3.0);
        assert!((low - 1.0366).abs() < 1e-3 && (high - 4.9634).abs() < 1e-3, "{low} {high}");
    }
}
