//! Does our BERT compute what candle-transformers' does, dense and packed? On a small one of random
//! numbers, everywhere; on all-MiniLM-L6-v2 where it was fetched (`cargo xtask data minilm`).
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use candle_core::{D, DType, Device, Tensor};
use candle_transformers::models::bert::{BertModel, Config};
use rand::RngExt;
use rayon::ThreadPoolBuilder;
use secateur_criteria::seed;
use secateur_kernels::{Dispatcher, KernelKind, Product, Tier};
use secateur_mask::{Pattern, Scores, Sparsity};
use secateur_nn::{Bert, BertConfig, NnError, SentenceEncoder, VarBuilder};
use secateur_storage::{Checkpoint, Dense, Packed};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let each = values(a).into_iter().zip(values(b)).map(|(a, b)| (a - b).abs());
    each.fold(0.0, |most, d| if d.is_nan() { d } else { f32::max(most, d) })
}

/// candle's model of the same weights, packed ones spelled out.
fn candle(checkpoint: &Checkpoint, config: &Value) -> BertModel {
    let tensor = |packed: &Packed| {
        let dense = packed.unpack();
        Tensor::from_slice(&dense.to_f32().unwrap(), dense.shape(), &Device::Cpu).unwrap()
    };
    let tensors: HashMap<String, Tensor> =
        checkpoint.tensors.iter().map(|(name, packed)| (name.clone(), tensor(packed))).collect();
    let vb = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let config: Config = serde_json::from_value(config.clone()).unwrap();
    BertModel::load(vb, &config).unwrap()
}

fn ours(checkpoint: &Checkpoint, config: &Value) -> Result<Bert, NnError> {
    let dispatcher = Dispatcher::probe().unwrap();
    let vb = VarBuilder::from_checkpoint(checkpoint, &dispatcher, &Device::Cpu);
    Bert::load(&vb, BertConfig::from_json(config)?)
}

/// Cuts the matrices whose name has `part` in it to 2:4 by magnitude: packed, and as dense weights.
fn prune(checkpoint: &Checkpoint, part: &str) -> [Checkpoint; 2] {
    let [mut packed, mut masked] = [(); 2].map(|()| checkpoint.clone());
    for (name, weight) in &checkpoint.tensors {
        if !name.contains(part) || weight.shape().len() != 2 {
            continue;
        }
        let dense = weight.unpack();
        let scores: Vec<f32> = dense.to_f32().unwrap().iter().map(|w| w.abs()).collect();
        let scores = Scores::new(scores, dense.shape()).unwrap();
        let pattern = Pattern::TWO_OF_FOUR;
        let mask = pattern.select(scores, Sparsity::new(0.5).unwrap()).unwrap();
        let cut = Packed::pack(&dense, &mask, pattern).unwrap();
        masked.tensors.insert(name.clone(), cut.unpack().into());
        packed.tensors.insert(name.clone(), cut);
    }
    assert_ne!(packed, *checkpoint);
    [packed, masked]
}

fn small() -> Value {
    json!({
        "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "hidden_act": "gelu", "max_position_embeddings": 20,
        "type_vocab_size": 2, "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02, "pad_token_id": 0,
    })
}

/// Random weights for [`small`], with `prefix` before every name.
fn random(prefix: &str) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let mut put = |name: String, shape: &[usize], scale: f32, offset: f32| {
        let mut stream = seed::stream(3, &name);
        let count: usize = shape.iter().product();
        let values: Vec<f32> =
            (0..count).map(|_| (stream.random::<f32>() - 0.5) * scale + offset).collect();
        let dense = Dense::new(values, shape).unwrap();
        checkpoint.tensors.insert(format!("{prefix}{name}"), dense.into());
    };
    for (table, rows) in [("word", 50), ("position", 20), ("token_type", 2)] {
        put(format!("embeddings.{table}_embeddings.weight"), &[rows, 24], 2.0, 0.0);
    }
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..2 {
        let layer = format!("encoder.layer.{layer}");
        norms.extend([
            format!("{layer}.attention.output.LayerNorm"),
            format!("{layer}.output.LayerNorm"),
        ]);
        for (linear, outputs, inputs) in [
            ("attention.self.query", 24, 24),
            ("attention.self.key", 24, 24),
            ("attention.self.value", 24, 24),
            ("attention.output.dense", 24, 24),
            ("intermediate.dense", 40, 24),
            ("output.dense", 24, 40),
        ] {
            put(format!("{layer}.{linear}.weight"), &[outputs, inputs], 0.7, 0.0);
            put(format!("{layer}.{linear}.bias"), &[outputs], 0.5, 0.0);
        }
    }
    for norm in norms {
        put(format!("{norm}.weight"), &[24], 0.4, 1.0);
        put(format!("{norm}.bias"), &[24], 0.4, 0.0);
    }
    checkpoint
}

/// Token numbers, segments and a mask of three sequences.
fn batch() -> [Tensor; 3] {
    let grid = |f: &dyn Fn(u32, u32) -> u32| {
        let numbers: Vec<u32> = (0..3 * 20).map(|i| f(i / 20, i % 20)).collect();
        Tensor::from_vec(numbers, (3, 20), &Device::Cpu).unwrap()
    };
    // All of them; padding behind; holes, which no tokenizer makes.
    let mask = |row: u32, column: u32| match row {
        0 => 1,
        1 => u32::from(column < 7),
        _ => u32::from(column % 3 == 1),
    };
    [
        grid(&|row, column| (row * 31 + column * 7) % 50),
        grid(&|_, column| column / 5 % 2),
        grid(&mask),
    ]
}

#[test]
fn a_small_model_computes_what_candle_computes() {
    let [ids, types, mask] = batch();
    for (prefix, act) in [("", "gelu"), ("bert.", "gelu"), ("", "relu")] {
        let (checkpoint, mut config) = (random(prefix), small());
        config["hidden_act"] = json!(act);
        config["model_type"] = json!("bert");
        let bert = ours(&checkpoint, &config).unwrap();
        let theirs = candle(&checkpoint, &config);
        let expected = theirs.forward(&ids, &types, None).unwrap();
        let found = bert.forward(&ids, &types, None).unwrap();
        assert!(largest_difference(&found, &expected) < 1e-5);

        // What is padded is zero here, and nobody's business there.
        let expected = theirs.forward(&ids, &types, Some(&mask)).unwrap();
        let seen = mask.to_dtype(DType::F32).unwrap().unsqueeze(D::Minus1).unwrap();
        let expected = expected.broadcast_mul(&seen).unwrap();
        let found = bert.forward(&ids, &types, Some(&mask)).unwrap();
        assert!(largest_difference(&found, &expected) < 1e-5);
        let wide = ids.to_dtype(DType::I64).unwrap();
        let again = bert.forward(&wide, &types, Some(&mask)).unwrap();
        assert_eq!(values(&again), values(&found));

        // The products alone; the embeddings too, as `cargo xtask convert --prune 2:4` does it.
        for part in ["encoder.layer", "weight"] {
            let [packed, masked] = prune(&checkpoint, part);
            let packed = ours(&packed, &config).unwrap();
            let found = packed.forward(&ids, &types, None).unwrap();
            let expected = candle(&masked, &config).forward(&ids, &types, None).unwrap();
            assert!(largest_difference(&found, &expected) < 1e-5, "{part}");
            let smaller = packed.embedding_bytes() < bert.embedding_bytes();
            assert_eq!(smaller, part == "weight");
        }
    }
}

/// Chunks of tokens, the last one ragged; so few that no panel is cut; one product dense among sparse ones.
#[test]
fn packed_layers_work_through_any_number_of_tokens() {
    let (checkpoint, dispatcher) = (random(""), Dispatcher::probe().unwrap());
    let [whole, whole_masked] = prune(&checkpoint, "encoder.layer");
    if dispatcher.tier() == Tier::Avx512 {
        let weight = &whole.tensors["encoder.layer.0.output.dense.weight"];
        let plan = Product::new(weight, &dispatcher).unwrap().plan(128);
        assert_ne!(plan.kind(), KernelKind::Dense, "no panel would be cut: {}", plan.explain());
    }
    let [some, some_masked] = prune(&checkpoint, "intermediate.dense");
    let pools = [1, 2].map(|threads| ThreadPoolBuilder::new().num_threads(threads).build());
    for (packed, masked) in [(whole, whole_masked), (some, some_masked)] {
        let (packed, masked) = (ours(&packed, &small()).unwrap(), candle(&masked, &small()));
        for (sequences, length) in [(1, 1), (2, 2), (1, 5), (7, 19), (15, 20), (0, 4)] {
            let count = sequences * length;
            let ids: Vec<u32> = (0..count as u32).map(|i| i * 29 % 50).collect();
            let ids = Tensor::from_vec(ids, (sequences, length), &Device::Cpu).unwrap();
            let types = ids.zeros_like().unwrap();
            for pool in &pools {
                let pool = pool.as_ref().unwrap();
                let found = pool.install(|| packed.forward(&ids, &types, None)).unwrap();
                if count > 0 {
                    let expected = masked.forward(&ids, &types, None).unwrap();
                    let apart = largest_difference(&found, &expected);
                    assert!(apart < 1e-5, "{apart}: {sequences} of {length}");
                }
            }
        }
    }
}

#[test]
fn damaged_models_and_inputs_are_refused_by_name() {
    let checkpoint = random("");
    let said =
        |checkpoint: &Checkpoint, config: &Value| ours(checkpoint, config).unwrap_err().to_string();
    let mut less = checkpoint.clone();
    let name = "encoder.layer.1.attention.self.key.weight";
    let weight = less.tensors.remove(name).unwrap();
    assert!(said(&less, &small()).contains(name));
    let bias = "encoder.layer.1.attention.self.key.bias";
    less.tensors.insert(name.into(), weight.clone());
    less.tensors.insert(bias.into(), weight);
    let error = said(&less, &small());
    assert!(error.contains(bias) && error.contains("[24, 24]"), "{error}");
    for (key, value, tensor) in [
        ("vocab_size", 51, "word_embeddings.weight has shape [50, 24], the model needs [51, 24]"),
        ("hidden_size", 27, "the model needs [50, 27]"),
        ("intermediate_size", 1 << 20, "the model needs [1048576, 24]"),
        ("num_hidden_layers", 4000, "no tensor encoder.layer.2"),
    ] {
        let mut config = small();
        config[key] = json!(value);
        let error = said(&checkpoint, &config);
        assert!(error.contains(tensor), "{key}: {error}");
    }

    let bert = ours(&checkpoint, &small()).unwrap();
    let ids = |numbers: &[i64]| Tensor::new(numbers, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let zeros = |length: usize| Tensor::zeros((1, length), DType::U32, &Device::Cpu).unwrap();
    let refused = |numbers: &[i64]| {
        bert.forward(&ids(numbers), &zeros(numbers.len()), None).unwrap_err().to_string()
    };
    assert!(refused(&[1, 50]).contains("token 50 is outside the model's 50"));
    assert!(refused(&[-1]).contains("token"));
    assert!(refused(&[0; 21]).contains("position 20"));
    let segments = (ids(&[1, 2]), ids(&[0, 2]));
    assert!(
        bert.forward(&segments.0, &segments.1, None).unwrap_err().to_string().contains("segment 2")
    );
    assert!(bert.forward(&ids(&[1, 2]), &zeros(3), None).is_err());
    assert!(bert.forward(&ids(&[1, 2]), &zeros(2), Some(&zeros(1))).is_err());
    let floats = Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(bert.forward(&floats, &zeros(2), None), Err(NnError::Numbers { .. })));
    assert_eq!(bert.forward(&zeros(0), &zeros(0), None).unwrap().dims(), [1, 0, 24]);
    // Nothing is seen: nothing is computed.
    let hidden = bert.forward(&zeros(2), &zeros(2), Some(&zeros(2))).unwrap();
    assert!(values(&hidden).iter().all(|x| *x == 0.0));
}

#[test]
fn damaged_folders_are_refused_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let said = || {
        let dispatcher = Dispatcher::probe().unwrap();
        SentenceEncoder::open(folder.path(), &dispatcher, &Device::Cpu).unwrap_err().to_string()
    };
    random("").save(&path("model.safetensors")).unwrap();
    assert!(said().contains("config.json"));
    fs::write(path("config.json"), small().to_string()).unwrap();
    assert!(said().contains("tokenizer.json"));
    fs::write(path("tokenizer.json"), "{}").unwrap();
    assert!(said().contains("tokenizer failed"));
    fs::create_dir(path("1_Pooling")).unwrap();
    fs::write(path("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
    assert!(said().contains("pooling"));
}

/// A tokenizer of four words, one of which is none of the model's; it asks for padding and truncation.
fn words() -> Value {
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "a",
        },
        "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null,
        "model": {
            "type": "WordLevel", "vocab": {"a": 0, "b": 49, "odd": 50, "?": 2}, "unk_token": "?",
        },
    })
}

#[test]
fn sentences_become_vectors_of_length_one_whatever_their_company() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    random("").save(&path("model.safetensors")).unwrap();
    fs::write(path("config.json"), small().to_string()).unwrap();
    fs::write(path("tokenizer.json"), words().to_string()).unwrap();
    let dispatcher = Dispatcher::probe().unwrap();
    let open = || SentenceEncoder::open(folder.path(), &dispatcher, &Device::Cpu);
    let encoder = open().unwrap();
    let long = "b a ".repeat(40);
    let mut texts = vec!["a", "b a b a", "", "who knows", &long];
    texts.extend(vec!["a b"; 130]); // More than are held at once.
    let found = encoder.encode(&texts).unwrap();
    assert_eq!(found.dims(), [135, 24]);
    assert_eq!(encoder.encode(&[]).unwrap().dims(), [0, 24]);
    for (i, text) in texts.iter().enumerate().take(6).chain([(134, &"a b")]) {
        let vector = found.narrow(0, i, 1).unwrap();
        assert!(largest_difference(&vector, &encoder.encode(&[text]).unwrap()) < 1e-6, "{text}");
        let length: f32 = values(&vector).iter().map(|x| x * x).sum();
        let expected = if text.is_empty() { 0.0 } else { 1.0 };
        assert!((length - expected).abs() < 1e-5, "{text}: {length}");
        let tokens = encoder.tokenize(&[text]).unwrap()[0].len();
        assert_eq!(tokens, text.split_whitespace().count().min(20), "{text}");
    }
    // By hand: the mean of the hidden states, over its length.
    let ids = Tensor::new(&[[49_u32, 0, 49, 0]], &Device::Cpu).unwrap();
    let hidden = encoder.bert().forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
    let mean = hidden.mean(1).unwrap();
    let length = mean.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
    let expected = mean.broadcast_div(&length).unwrap();
    assert!(largest_difference(&expected, &found.narrow(0, 1, 1).unwrap()) < 1e-6);

    let error = encoder.encode(&["a odd"]).unwrap_err().to_string();
    assert!(error.contains("token 50"), "{error}");
    fs::write(path("sentence_bert_config.json"), r#"{"max_seq_length": 3}"#).unwrap();
    assert_eq!(open().unwrap().tokenize(&[&long]).unwrap()[0].len(), 3);
    fs::write(path("sentence_bert_config.json"), r#"{"max_seq_length": 0}"#).unwrap();
    assert!(open().unwrap_err().to_string().contains("at most 0"));
    fs::write(path("sentence_bert_config.json"), "{").unwrap();
    assert!(open().unwrap_err().to_string().contains("sentence_bert_config.json"));
}

/// The fetched model, or none and a word about it.
fn minilm() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/minilm");
    if folder.join("model.safetensors").is_file() {
        return Some(folder);
    }
    // Straight to standard error: what eprintln! says is swallowed while tests pass.
    let word = "skipped: data/minilm is not there; fetch it with `cargo xtask data minilm`";
    let _ = writeln!(std::io::stderr(), "{word}");
    None
}

/// Real text of all lengths: a licence's paragraphs, from one word to beyond what the model takes.
fn texts() -> Vec<&'static str> {
    let licence = include_str!("../../../LICENSE-APACHE");
    let mut texts: Vec<&str> = licence.split("\n\n").step_by(4).collect();
    texts.extend([
        "",
        "Pruning",
        "¿Dónde está la biblioteca? 図書館はどこですか。",
        &licence[..4000],
    ]);
    texts
}

/// Sentence embeddings by candle: padded, masked, averaged, brought to length one.
fn embed(model: &BertModel, encoder: &SentenceEncoder, texts: &[&str]) -> Tensor {
    let encodings = encoder.tokenize(texts).unwrap();
    let longest = encodings.iter().map(|encoding| encoding.len()).max().unwrap();
    let padded = |numbers: &dyn Fn(usize) -> Vec<u32>| {
        let rows = (0..texts.len()).flat_map(|text| {
            let mut row = numbers(text);
            row.resize(longest, 0);
            row
        });
        Tensor::from_vec(rows.collect::<Vec<u32>>(), (texts.len(), longest), &Device::Cpu).unwrap()
    };
    let ids = padded(&|text| encodings[text].get_ids().to_vec());
    let types = padded(&|text| encodings[text].get_type_ids().to_vec());
    let mask = padded(&|text| encodings[text].get_attention_mask().to_vec());
    let hidden = model.forward(&ids, &types, Some(&mask)).unwrap();
    let seen = mask.to_dtype(DType::F32).unwrap().unsqueeze(D::Minus1).unwrap();
    let sums = hidden.broadcast_mul(&seen).unwrap().sum(1).unwrap();
    let mean = sums.broadcast_div(&seen.sum(1).unwrap()).unwrap();
    mean.broadcast_div(&mean.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap()).unwrap()
}

#[test]
fn all_minilm_l6_v2_gives_the_embeddings_of_candle() {
    let Some(folder) = minilm() else { return };
    let dispatcher = Dispatcher::probe().unwrap();
    let open = |folder: &Path| SentenceEncoder::open(folder, &dispatcher, &Device::Cpu).unwrap();
    let config: Value =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let checkpoint = Checkpoint::load(&folder).unwrap();
    let (encoder, texts) = (open(&folder), texts());
    let lengths: Vec<usize> =
        encoder.tokenize(&texts).unwrap().iter().map(|encoding| encoding.len()).collect();
    assert!(lengths.contains(&2) && lengths.contains(&256), "{lengths:?}");

    let dense = encoder.encode(&texts).unwrap();
    let difference =
        largest_difference(&dense, &embed(&candle(&checkpoint, &config), &encoder, &texts));
    assert!(difference < 1e-5, "dense: {difference}");
    // A text's embedding does not depend on its company.
    let alone = encoder.encode(&texts[3..4]).unwrap();
    assert!(largest_difference(&alone, &dense.narrow(0, 3, 1).unwrap()) < 1e-6);

    let [packed, masked] = prune(&checkpoint, "encoder.layer");
    let temporary = tempfile::tempdir().unwrap();
    let written = |checkpoint: &Checkpoint, name: &str| {
        let to = temporary.path().join(name);
        fs::create_dir(&to).unwrap();
        for file in ["config.json", "tokenizer.json", "sentence_bert_config.json"] {
            fs::copy(folder.join(file), to.join(file)).unwrap();
        }
        checkpoint.save(&to.join("model.safetensors")).unwrap();
        open(&to)
    };
    let (packed, dense_masked) = (written(&packed, "packed"), written(&masked, "masked"));
    let found = packed.encode(&texts).unwrap();
    let difference = largest_difference(&found, &dense_masked.encode(&texts).unwrap());
    assert!(difference < 1e-5, "packed against dense: {difference}");
    let theirs = embed(&candle(&masked, &config), &encoder, &texts);
    let difference = largest_difference(&found, &theirs);
    assert!(difference < 1e-5, "packed against candle: {difference}");
    // The pruned model is another one.
    assert!(largest_difference(&found, &dense) > 1e-3);
    let share = packed.bert().weight_bytes() as f64 / encoder.bert().weight_bytes() as f64;
    // Without wide vectors dense wins at some numbers of tokens, and is kept beside the survivors.
    assert!(share < 0.6 || dispatcher.tier() == Tier::Portable, "{share}");
}
