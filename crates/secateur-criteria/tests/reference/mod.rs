//! What do the papers say, in the plainest code? Every criterion once more, from its definition.
//!
//! Written from the published definitions and not from the crate: vectors of vectors in f64, loops
//! over indices, matrices inverted by elimination. Nothing here is fast, and nothing shares a line
//! with what it is held against.

pub mod choose;
pub mod data;
pub mod fisher;
pub mod flow;
pub mod least_squares;
pub mod loss;
pub mod scores;
pub mod sparsegpt;

/// Rows of numbers.
pub type Matrix = Vec<Vec<f64>>;

/// A matrix of zeros.
pub fn zeros(rows: usize, cols: usize) -> Matrix {
    vec![vec![0.0; cols]; rows]
}

/// All rows after each other.
pub fn flat(a: &Matrix) -> Vec<f64> {
    a.concat()
}

/// Rows of `cols` numbers out of one sequence.
pub fn rows_of(values: &[f64], cols: usize) -> Matrix {
    values.chunks(cols).map(<[f64]>::to_vec).collect()
}

/// A·B.
pub fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let mut c = zeros(a.len(), b[0].len());
    for i in 0..a.len() {
        for j in 0..b[0].len() {
            for k in 0..b.len() {
                c[i][j] += a[i][k] * b[k][j];
            }
        }
    }
    c
}

/// Aᵀ.
pub fn transposed(a: &Matrix) -> Matrix {
    let mut t = zeros(a[0].len(), a.len());
    for i in 0..a.len() {
        for j in 0..a[0].len() {
            t[j][i] = a[i][j];
        }
    }
    t
}

/// The rows and columns of A at `places`.
pub fn part(a: &Matrix, places: &[usize]) -> Matrix {
    places.iter().map(|&i| places.iter().map(|&j| a[i][j]).collect()).collect()
}

/// The solution of A·x = b by Gauss elimination, the largest pivot of each column first.
pub fn solve(a: &Matrix, b: &[f64]) -> Vec<f64> {
    let n = b.len();
    let (mut a, mut b) = (a.clone(), b.to_vec());
    for col in 0..n {
        let mut pivot = col;
        for row in col..n {
            if a[row][col].abs() > a[pivot][col].abs() {
                pivot = row;
            }
        }
        a.swap(col, pivot);
        b.swap(col, pivot);
        for row in col + 1..n {
            let factor = a[row][col] / a[col][col];
            for k in col..n {
                a[row][k] -= factor * a[col][k];
            }
            b[row] -= factor * b[col];
        }
    }
    let mut x = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| a[row][k] * x[k]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    x
}

/// A⁻¹ by Gauss and Jordan, for A symmetric and positive definite: every pivot is then positive.
pub fn inverse(a: &Matrix) -> Matrix {
    let n = a.len();
    let mut left = a.clone();
    let mut right = zeros(n, n);
    for i in 0..n {
        right[i][i] = 1.0;
    }
    for col in 0..n {
        let pivot = left[col][col];
        for k in 0..n {
            left[col][k] /= pivot;
            right[col][k] /= pivot;
        }
        for row in 0..n {
            let factor = left[row][col];
            if row == col {
                continue;
            }
            for k in 0..n {
                left[row][k] -= factor * left[col][k];
                right[row][k] -= factor * right[col][k];
            }
        }
    }
    right
}

/// The upper triangle U with UᵀU = A, for A symmetric and positive definite.
pub fn upper_cholesky(a: &Matrix) -> Matrix {
    let n = a.len();
    let mut u = zeros(n, n);
    for i in 0..n {
        let above: f64 = (0..i).map(|k| u[k][i] * u[k][i]).sum();
        u[i][i] = (a[i][i] - above).sqrt();
        for j in i + 1..n {
            let above: f64 = (0..i).map(|k| u[k][i] * u[k][j]).sum();
            u[i][j] = (a[i][j] - above) / u[i][i];
        }
    }
    u
}
