//! Is a GGUF file read as candle writes and dequantises it, and a bad one refused without a panic?

use super::*;
use candle_core::{
    Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use std::io::Cursor;

fn open(bytes: &[u8]) -> Result<Gguf<Cursor<&[u8]>>> {
    Gguf::read(Cursor::new(bytes))
}

fn error(bytes: &[u8]) -> String {
    match open(bytes) {
        Ok(_) => "no error".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

fn tensor(shape: &[usize], dtype: GgmlDType) -> QTensor {
    let values = (0..shape.iter().product()).map(|at: usize| ((at * 37) % 101) as f32 - 50.5);
    let values = Tensor::from_vec(values.collect::<Vec<_>>(), shape, &Device::Cpu).unwrap();
    QTensor::quantize(&values, dtype).unwrap()
}

fn toy() -> Vec<(&'static str, QTensor)> {
    vec![
        ("token_embd.weight", tensor(&[3, 64], GgmlDType::Q8_0)),
        ("blk.0.attn_q.weight", tensor(&[5, 32], GgmlDType::Q4_1)),
        ("blk.0.attn_norm.weight", tensor(&[7], GgmlDType::F32)),
    ]
}

fn written(metadata: &[(&str, Value)], tensors: &[(&str, QTensor)]) -> Vec<u8> {
    let mut file = Cursor::new(vec![]);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, t)| (*name, t)).collect();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.into_inner()
}

fn toy_file() -> Vec<u8> {
    let metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("general.alignment", Value::U32(32)),
        ("llama.block_count", Value::U32(1)),
        ("scores", Value::Array(vec![Value::F32(0.5); 3])),
        ("tokens", Value::Array(vec![Value::String("é".into()); 3])),
        ("nested", Value::Array(vec![Value::Array(vec![Value::U8(1)]); 2])),
    ];
    written(&metadata, &toy())
}

/// The toy file with the one place that holds `from` changed `to`.
fn forged(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = toy_file();
    let mut places = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from));
    let at = places.next().expect("it is there");
    assert_eq!(places.next(), None, "it is there once");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn tensors_come_sorted_and_as_candle_dequantises_them() {
    let file = toy_file();
    let mut gguf = open(&file).unwrap();
    let names = ["blk.0.attn_norm.weight", "blk.0.attn_q.weight", "token_embd.weight"];
    assert_eq!(gguf.names(), names);
    assert_eq!(gguf.info(names[0]).unwrap(), (vec![7], "F32".into()));
    assert_eq!(gguf.info(names[1]).unwrap(), (vec![5, 32], "Q4_1".into()));
    assert_eq!(gguf.info(names[2]).unwrap(), (vec![3, 64], "Q8_0".into()));
    for (name, tensor) in toy() {
        let values = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap();
        assert_eq!(gguf.tensor(name).unwrap(), values.to_vec1::<f32>().unwrap(), "{name}");
    }
    assert_eq!(gguf.text("general.architecture"), Some("llama"));
    assert_eq!(gguf.text("general.name"), None);
    assert_eq!(gguf.text("llama.block_count"), None);
    assert!(gguf.tensor("fc1.weight").unwrap_err().to_string().contains("no tensor fc1.weight"));
    assert!(gguf.info("fc1.weight").is_err());
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let open = || Gguf::open(&path).map(|gguf| gguf.names().len());
    assert!(open().unwrap_err().to_string().contains("cannot read"));
    std::fs::write(&path, b"GGUF").unwrap();
    assert!(open().unwrap_err().to_string().contains("m.gguf"));
    std::fs::write(&path, toy_file()).unwrap();
    assert_eq!(open().unwrap(), 3);
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let file = toy_file();
    // 7 values of 4 bytes come last, then zeros up to a multiple of 32.
    let end = file.len() - 4;
    for length in 0..end {
        let said = error(&file[..length]);
        assert!(said.contains("download it again"), "{length}: {said}");
    }
    for length in end..file.len() {
        assert_eq!(error(&file[..length]), "no error");
    }
}

#[test]
fn huge_claims_are_refused() {
    let (tensors, entries, huge) = (3, 6, 1 << 40);
    let counts = u64s(&[tensors, entries]);
    // Dimensions are written with the last one first.
    let dims = u64s(&[64, 3]);
    let rank = |rank: u32| [&b"token_embd.weight"[..], &rank.to_le_bytes()].concat();
    for (from, to, said) in [
        (&counts, u64s(&[huge, entries]), "damaged"),
        (&counts, u64s(&[u64::MAX, entries]), "damaged"),
        (&counts, u64s(&[tensors, huge]), "damaged"),
        (&counts, u64s(&[tensors, u64::MAX]), "damaged"),
        (&counts, u64s(&[u64::MAX, u64::MAX]), "damaged"),
        (&dims, u64s(&[huge, 3]), "cut off"),
        (&dims, u64s(&[64, huge]), "cut off"),
        (&dims, u64s(&[huge, huge]), "cannot have shape"),
        (&dims, u64s(&[1 << 63, 2]), "cannot have shape"),
        (&dims, u64s(&[64, 1 << 58]), "cannot have shape"),
        (&dims, u64s(&[65, 3]), "cannot have shape [3, 65] and be Q8_0"),
        (&dims, u64s(&[64, 4]), "overlap"),
        (&rank(2), rank(5), "damaged"),
        (&rank(2), rank(u32::MAX), "damaged"),
    ] {
        let error = error(&forged(from, &to));
        assert!(error.contains(said), "{to:?}: {error:?} does not say {said:?}");
    }
}

#[test]
fn names_and_places_are_used_once() {
    let twice = |name| (name, tensor(&[2], GgmlDType::F32));
    let said = error(&written(&[], &[twice("a"), twice("a")]));
    assert!(said.contains("the same name"), "{said}");
    let said = error(&written(&[("k", Value::U8(1)), ("k", Value::U8(2))], &[twice("a")]));
    assert!(said.contains("the same name"), "{said}");
    // The second tensor's offset is 32.
    let mut file = written(&[], &[twice("a"), twice("b")]);
    let at = file.windows(8).rposition(|window| window == 32_u64.to_le_bytes()).unwrap();
    file[at] = 4;
    assert!(error(&file).contains("tensors a and b overlap"));
    file[at + 7] = 0xff;
    assert!(error(&file).contains("cut off"));
}

#[test]
fn tensors_without_values_or_sides() {
    let mut file = written(&[], &[("a", tensor(&[2, 8], GgmlDType::F32))]);
    let at = file.windows(16).position(|window| window == u64s(&[8, 2])).unwrap();
    file[at + 8] = 0;
    let mut gguf = open(&file).unwrap();
    assert_eq!(gguf.info("a").unwrap().0, [0, 8]);
    assert!(gguf.tensor("a").unwrap().is_empty());
    // A rank of zero, and kind and offset where the sides were.
    file[at - 4] = 0;
    file[at] = 0;
    assert!(error(&file).contains("cannot have shape []"));
}

/// Whatever lies in a block, and whatever single thing is wrong in a file, nothing panics.
#[test]
fn damage_gives_an_error_or_values() {
    let file = toy_file();
    let mut refused = 0;
    let mut read = |bytes: &[u8]| match open(bytes) {
        Err(_) => refused += 1,
        Ok(mut gguf) => {
            for name in gguf.names() {
                let values = gguf.tensor(&name);
                assert!(values.is_err() || values.unwrap().len() <= file.len() * 4);
            }
        }
    };
    for at in 0..file.len() {
        for damage in [&[0][..], &[1], &[0xff], &[0xff; 4], &[0xff; 8], &[0; 8]] {
            let mut bytes = file.clone();
            let end = (at + damage.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&damage[..end - at]);
            read(&bytes);
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn every_quantisation_is_read_whatever_its_bytes() {
    use GgmlDType::*;
    for (dtype, name) in [
        (F32, "F32"),
        (F16, "F16"),
        (BF16, "BF16"),
        (Q4_0, "Q4_0"),
        (Q4_1, "Q4_1"),
        (Q5_0, "Q5_0"),
        (Q5_1, "Q5_1"),
        (Q8_0, "Q8_0"),
        (Q2K, "Q2_K"),
        (Q3K, "Q3_K"),
        (Q4K, "Q4_K"),
        (Q5K, "Q5_K"),
        (Q6K, "Q6_K"),
    ] {
        let tensor = tensor(&[2, 256], dtype);
        let data = tensor.storage_size_in_bytes();
        let mut file = written(&[], &[("a", tensor)]);
        let start = file.len() - data.next_multiple_of(32);
        for byte in 0..=255 {
            file[start..start + data].fill(byte);
            let mut gguf = open(&file).unwrap();
            assert_eq!(gguf.info("a").unwrap(), (vec![2, 256], name.to_owned()));
            assert_eq!(gguf.tensor("a").unwrap().len(), 512);
        }
    }
    // candle knows these two and cannot read them.
    for kind in [9, 15] {
        let mut file = written(&[], &[("a", tensor(&[2, 256], F32))]);
        let at = file.windows(8).position(|window| window == 2_u64.to_le_bytes()).unwrap();
        assert_eq!(file[at + 8], 0, "F32 follows the rows");
        file[at + 8] = kind;
        let error = open(&file).unwrap().tensor("a").unwrap_err();
        assert!(format!("{error:#}").contains("cannot be read as f32"), "{error:#}");
    }
}

#[test]
#[ignore = "needs `cargo xtask data smollm2`"]
fn smollm2_is_read_whole() {
    let path = crate::workspace::data().join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    let mut gguf = Gguf::open(&path).unwrap();
    let mut kinds = BTreeMap::<String, usize>::new();
    let mut values = 0;
    for name in gguf.names() {
        let (shape, kind) = gguf.info(&name).unwrap();
        let tensor = gguf.tensor(&name).unwrap();
        assert_eq!(tensor.len(), shape.iter().product::<usize>());
        assert!(tensor.iter().all(|value| value.is_finite()), "{name}");
        values += tensor.len();
        *kinds.entry(kind).or_default() += 1;
    }
    let expected = [("F32", 61), ("Q4_1", 210), ("Q8_0", 1)].map(|(k, n)| (k.to_owned(), n));
    assert_eq!((kinds, values), (expected.into(), 134_515_008));
    assert_eq!(gguf.text("general.architecture"), Some("llama"));
    println!("{:?}", gguf.text("general.name"));
}
