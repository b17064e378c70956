//! Which matrices does the literature search? NumPy's `rand(128, 64)` of seed 1, and Gaussians.

/// MT19937 (Matsumoto & Nishimura 1998), seeded as `numpy.random.seed` seeds it.
pub struct Mersenne {
    state: [u32; 624],
    next: usize,
}

impl Mersenne {
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            let last = state[i - 1];
            state[i] = (last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    fn word(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let joined = self.state[i] & 1 << 31 | self.state[(i + 1) % 624] & !(1 << 31);
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ joined >> 1 ^ twist;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// Uniform in `[0, 1)` with 53 bits, as `numpy.random.rand` draws it.
    pub fn uniform(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }
}

/// `numpy.random.seed(1); numpy.random.rand(128, 64)`, row-major.
pub fn numpy_rand_128_64() -> Vec<f32> {
    let mut stream = Mersenne::new(1);
    (0..128 * 64).map(|_| stream.uniform() as f32).collect()
}

/// Magnitudes of `len` standard Gaussian weights (Box & Muller 1958).
pub fn gaussian_magnitudes(len: usize, seed: u32) -> Vec<f32> {
    let mut stream = Mersenne::new(seed);
    let mut draw = || {
        let radius = (-2.0 * (1.0 - stream.uniform()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * stream.uniform()).cos()).abs() as f32
    };
    (0..len).map(|_| draw()).collect()
}

/// A matrix by its name, with its shape: `numpy`, or one of these with a shape, such as
/// `gaussian768x768` or `gaussian64x32x3x3`:
///
/// - `gaussian`: magnitudes of standard Gaussian weights;
/// - `columns`: the same, every input channel on a scale of its own (the exponential of a Gaussian), as
///   when activations weigh in;
/// - `heavy`: the same to the fourth power.
pub fn named(name: &str) -> Option<(Vec<f32>, Vec<usize>)> {
    if name == "numpy" {
        return Some((numpy_rand_128_64(), vec![128, 64]));
    }
    let digit = name.find(|c: char| c.is_ascii_digit())?;
    let (kind, shape) = name.split_at(digit);
    let shape: Vec<usize> = shape.split('x').map(str::parse).collect::<Result<_, _>>().ok()?;
    let mut values = gaussian_magnitudes(shape.iter().product(), 1);
    match kind {
        "gaussian" => {}
        "heavy" => values.iter_mut().for_each(|value| *value = value.powi(4)),
        "columns" => {
            let (channels, width) = (shape[1], shape[2..].iter().product::<usize>());
            let mut scales = Mersenne::new(2);
            let scales: Vec<f32> = (0..channels)
                .map(|_| ((0..12).map(|_| scales.uniform()).sum::<f64>() - 6.0).exp() as f32)
                .collect();
            for (index, value) in values.iter_mut().enumerate() {
                *value *= scales[index / width % channels];
            }
        }
        _ => return None,
    }
    Some((values, shape))
}
