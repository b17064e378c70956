//! How fast is candle as its users have it? A child of `cargo xtask bench`: asked on standard input,
//! answers on standard output (`serve.rs`).
#![forbid(unsafe_code)]

mod serve;

fn main() {
    if let Err(error) = serve::serve(std::io::stdin().lock(), std::io::stdout().lock()) {
        eprintln!("peers: {error}");
        std::process::exit(1);
    }
}
