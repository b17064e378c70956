//! How does candle run beside us as its users have it? In a child process, since cargo would give it the
//! AVX-512 that this workspace turns on; asked in turns with our kernels (`xtask/peers/src/serve.rs`).
//!
//! A second child is this program itself: the same questions, with AVX-512. Both are children because
//! candle reads its number of threads once, from the environment.

use super::{
    cases::{Number, Setting},
    contenders::{Contender, Timer, Who},
    rows::{self, Limit},
};
use crate::{progress, workspace};
use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::MetadataCommand;
use std::{
    cell::RefCell,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The hidden command of this program that answers as the other one does.
pub const SERVE: &str = "bench-serve";

/// Builds the program of stock candle, unless it is built, and says where it lies.
pub fn build() -> Result<PathBuf> {
    let root = workspace::root();
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec();
    let folder = metadata.context("cannot find where to build")?.target_directory.join("peers");
    let manifest = root.join("xtask/peers/Cargo.toml");
    let program = folder.join("release").join(format!("secateur-peers{}", env::consts::EXE_SUFFIX));
    if !program.exists() {
        progress::tell("building candle as its users have it (once, some minutes)");
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot start cargo, which builds xtask/peers")?;
    ensure!(built.success(), "xtask/peers does not build; --no-peers measures without it");
    Ok(program.into_std_path_buf())
}

/// A process that multiplies when asked.
pub struct Peer {
    name: &'static str,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Candle as users have it, in the program that [`build`] built.
    pub fn stock(program: &Path, threads: usize) -> Result<Self> {
        Self::start("candle", Command::new(program), threads)
    }

    /// Candle with AVX-512, in this program.
    pub fn avx512(threads: usize) -> Result<Self> {
        let mut command = Command::new(env::current_exe().context("where is this program?")?);
        command.arg(SERVE);
        Self::start("candle_x86v4", command, threads)
    }

    fn start(name: &'static str, mut command: Command, threads: usize) -> Result<Self> {
        let mut child = command
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("CANDLE_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let answers = BufReader::new(answers.context("a child without standard output")?);
        Ok(Self { name, child, questions, answers })
    }

    /// The last word of the answer to one question.
    fn ask(&mut self, question: &str) -> Result<String> {
        let name = self.name;
        let gone = || format!("{name} ended before it answered {question:?}");
        let questions = self.questions.as_mut().with_context(gone)?;
        writeln!(questions, "{question}").and_then(|()| questions.flush()).with_context(gone)?;
        let mut answer = String::new();
        ensure!(self.answers.read_line(&mut answer).with_context(gone)? > 0, gone());
        match answer.trim().split_once(' ') {
            Some(("error", why)) => bail!("{name} cannot answer {question:?}: {why}"),
            Some((_, said)) => Ok(said.to_owned()),
            None => Ok(String::new()),
        }
    }

    fn case(&mut self, product: &str, setting: &Setting) -> Result<String> {
        let Setting { shape, tokens, .. } = setting;
        self.ask(&format!("case {product} {} {} {tokens}", shape.rows, shape.cols))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends when nothing more can be asked.
        self.questions.take();
        let _ = self.child.wait();
    }
}

/// The dense products of a child in this setting, old ones forgotten.
pub fn contenders<'a>(peer: &'a RefCell<Peer>, setting: &Setting) -> Result<Vec<Contender<'a>>> {
    peer.borrow_mut().ask("clear")?;
    let stock = peer.borrow().name == "candle";
    let mut numbers = vec![Number::F32];
    numbers.extend(setting.sparse.iter().map(|sparse| sparse.number));
    numbers.sort();
    numbers.dedup();
    // Quantised products run the same code in both children, and need whole blocks.
    numbers.retain(|number| match number {
        Number::I8 => stock && setting.shape.cols.is_multiple_of(32),
        _ => true,
    });
    let contender = |number| {
        let product = rows::candle(number);
        let case = peer.borrow_mut().case(product, setting)?;
        let (name, limit) = match stock {
            true => (product.to_owned(), Limit::Avx2Shipped),
            false => (product.replace("candle", "candle_x86v4"), Limit::None),
        };
        Ok(Contender { who: Who::dense(&name, number, limit), time: timer(peer, case) })
    };
    numbers.into_iter().map(contender).collect()
}

/// The encoder of a child, old cases forgotten: what is asked is in its `encode.rs`. Its hidden states
/// lie where they were asked for when this returns.
pub fn encoder<'a>(peer: &'a RefCell<Peer>, asked: &serde_json::Value) -> Result<Timer<'a>> {
    peer.borrow_mut().ask("clear")?;
    let case = peer.borrow_mut().ask(&format!("encode {asked}"))?;
    Ok(timer(peer, case))
}

/// Times a case of a child.
fn timer(peer: &RefCell<Peer>, case: String) -> Timer<'_> {
    Box::new(move |seconds: f64| {
        let nanoseconds = peer.borrow_mut().ask(&format!("go {case} {seconds}"))?;
        let took: f64 = nanoseconds.parse().context("a child answered no time")?;
        ensure!(took.is_finite() && took > 0.0, "a child took {took} ns");
        Ok(took / 1e9)
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ends_or_refuses_is_an_error() {
        let setting =
            Setting { shape: "8x8".parse().unwrap(), tokens: 1, threads: 1, sparse: vec![] };
        let said = |program: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", program]);
            let mut peer = Peer::start("candle", command, 1).unwrap();
            format!("{:#}", peer.case("candle_f32", &setting).unwrap_err())
        };
        assert!(said("exit").contains("candle ended before"));
        assert!(
            said("read question; echo error no memory").contains("candle_f32 8 8 1\": no memory")
        );
    }
}
