//! How does one process time another's products in turns with its own? One line asked, one answered.
//!
//! ```text
//! case candle_f32 3072 768 128    -> ready 0        weight and activations lie in memory
//! go 0 0.005                      -> took 1234.5    nanoseconds a call, timed over 5 ms after one call
//! encode {"model": …}             -> ready 1        an encoder, in programs that have one
//! clear                           -> cleared        all cases are forgotten; the last weight stays
//! anything that cannot be done    -> error why
//! ```
//!
//! Threads are what `RAYON_NUM_THREADS` said when the process began: candle asks nothing else. The same
//! text is part of two programs: `secateur-peers`, where candle is as users have it, and `xtask`, where
//! `gemm` has AVX-512 switched on.

use candle_core::{
    DType, Device, Module, Result, Tensor, bail,
    quantized::{GgmlDType, QMatMul, QTensor},
};
use std::{
    io::{BufRead, Write},
    time::Instant,
};

/// What a case calls again and again.
pub type Call = Box<dyn Fn() -> Result<()>>;

/// Makes a case of what is asked for behind `encode`.
pub type Encode<'a> = &'a mut dyn FnMut(&str) -> Result<Call>;

/// Answers until the questions end.
pub fn serve(
    questions: impl BufRead,
    mut answers: impl Write,
    encode: Encode<'_>,
) -> std::io::Result<()> {
    let (mut weights, mut calls) = (Weights::default(), Vec::new());
    for question in questions.lines() {
        let answer = answer(question?.trim(), &mut weights, &mut calls, &mut *encode);
        match answer {
            Ok(answer) => writeln!(answers, "{answer}")?,
            Err(error) => {
                // One line: what follows is where it happened, if the environment asks for that.
                let text = error.to_string();
                writeln!(answers, "error {}", text.lines().next().unwrap_or_default())?;
            }
        }
        answers.flush()?;
    }
    Ok(())
}

fn answer(
    question: &str,
    weights: &mut Weights,
    calls: &mut Vec<Call>,
    encode: Encode<'_>,
) -> Result<String> {
    if let Some(asked) = question.strip_prefix("encode ") {
        calls.push(encode(asked)?);
        return Ok(format!("ready {}", calls.len() - 1));
    }
    let number = |text: &str| text.parse::<usize>().map_err(candle_core::Error::wrap);
    match &question.split_whitespace().collect::<Vec<_>>()[..] {
        ["case", name, rows, cols, tokens] => {
            calls.push(weights.call(name, number(rows)?, number(cols)?, number(tokens)?)?);
            Ok(format!("ready {}", calls.len() - 1))
        }
        ["go", case, seconds] => {
            let seconds: f64 = seconds.parse().map_err(candle_core::Error::wrap)?;
            let Some(call) = calls.get(number(case)?) else { bail!("there is no case {case}") };
            Ok(format!("took {:.1}", time(call, seconds)? * 1e9))
        }
        ["clear"] => {
            calls.clear();
            Ok("cleared".to_owned())
        }
        _ => bail!("not a question: {question:?}"),
    }
}

/// Seconds of one call: the mean over at least `seconds`, after one call to warm up.
pub fn time<E>(
    mut call: impl FnMut() -> std::result::Result<(), E>,
    seconds: f64,
) -> std::result::Result<f64, E> {
    let start = Instant::now();
    call()?;
    // A cold call says too little about how many fit; so the rest is asked for once more.
    let mut one = start.elapsed().as_secs_f64();
    let (start, mut calls, mut took) = (Instant::now(), 0.0, 0.0);
    while calls == 0.0 || took < seconds {
        let more = ((seconds - took) / one.max(1e-9)).ceil().clamp(1.0, 1e6);
        for _ in 0..more as u32 {
            call()?;
        }
        calls += more;
        took = start.elapsed().as_secs_f64();
        one = took / calls;
    }
    Ok(one)
}

/// The last weight drawn, which the cases of one shape share.
#[derive(Default)]
struct Weights(Option<Tensor>);

impl Weights {
    fn of(&mut self, rows: usize, cols: usize) -> Result<Tensor> {
        if let Some(weight) = self.0.as_ref().filter(|weight| weight.dims() == [rows, cols]) {
            return Ok(weight.clone());
        }
        let weight = Tensor::randn(0_f32, 1.0, (rows, cols), &Device::Cpu)?;
        self.0 = Some(weight.clone());
        Ok(weight)
    }

    /// `x · Wᵀ` as `candle_nn::Linear` and `QMatMul` compute it, the output allocated each time.
    fn call(&mut self, name: &str, rows: usize, cols: usize, tokens: usize) -> Result<Call> {
        let weight = self.of(rows, cols)?;
        let x = Tensor::randn(0_f32, 1.0, (tokens, cols), &Device::Cpu)?;
        let dtype = match name {
            "candle_f32" => DType::F32,
            "candle_bf16" => DType::BF16,
            "candle_f16" => DType::F16,
            "candle_q8_0" => {
                let quantised = QTensor::quantize(&weight, GgmlDType::Q8_0)?;
                let product = QMatMul::from_qtensor(quantised)?;
                return Ok(Box::new(move || product.forward(&x).map(drop)));
            }
            _ => bail!("there is no peer {name:?}"),
        };
        let (weight, x) = (weight.to_dtype(dtype)?, x.to_dtype(dtype)?);
        Ok(Box::new(move || x.matmul(&weight.t()?).map(drop)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_first_call_does_not_shorten_the_rest() {
        let mut calls = 0;
        let slow_at_first = || {
            calls += 1;
            let pause = if calls == 1 { 20 } else { 1 };
            std::thread::sleep(std::time::Duration::from_millis(pause));
            Ok::<(), ()>(())
        };
        let one = time(slow_at_first, 0.02).expect("no call fails");
        assert!((0.001..0.02).contains(&one), "{one}");
        assert!(calls > 2);
    }

    #[test]
    fn questions_are_answered_one_by_one() {
        let asked = "case candle_f32 8 32 4\ncase candle_q8_0 8 32 1\ngo 0 0.0\ngo 1 0\ngo 2 0\nclear\n\
                     go 0 0\ncase onnx 8 32 4\ncase candle_f32 8 x 4\nhello\nencode {} x\ngo 0 0\nencode\n";
        let mut answers = Vec::new();
        let mut encode = |asked: &str| {
            assert_eq!(asked, "{} x");
            Ok(Box::new(|| Ok(())) as Call)
        };
        serve(asked.as_bytes(), &mut answers, &mut encode).expect("memory takes every answer");
        let answers = String::from_utf8(answers).expect("text");
        let first = |line: &str| line.split(' ').next().map(str::to_owned);
        let words: Vec<_> = answers.lines().filter_map(first).collect();
        let expected = [
            "ready", "ready", "took", "took", "error", "cleared", "error", "error", "error",
            "error", "ready", "took", "error",
        ];
        assert_eq!(words, expected, "{answers}");
    }
}
