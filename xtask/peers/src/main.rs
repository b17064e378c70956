//! How fast is candle as its users have it? A child of `cargo xtask bench`: asked on standard input,
//! answers on standard output (`serve.rs`, and `encode.rs` for whole networks).
#![forbid(unsafe_code)]

mod encode;
mod serve;

fn main() {
    let mut encoders = encode::Encoders::default();
    let mut encode = |asked: &str| encoders.call(asked);
    let (questions, answers) = (std::io::stdin().lock(), std::io::stdout().lock());
    if let Err(error) = serve::serve(questions, answers, &mut encode) {
        eprintln!("peers: {error}");
        std::process::exit(1);
    }
}
