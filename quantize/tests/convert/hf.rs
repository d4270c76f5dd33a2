//! A checkpoint in memory, to be changed and written, and the program to be run on it.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `tests/golden` of the project.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// A fresh directory, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("dgemma-quantize-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("out")).unwrap();
        Scratch(path)
    }

    pub fn out(&self) -> PathBuf {
        self.0.join("out/model.gguf")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tensor: type, shape, bytes.
#[derive(Clone)]
pub struct Tensor(pub Dtype, pub Vec<usize>, pub Vec<u8>);

/// A checkpoint.
#[derive(Clone)]
pub struct Hf {
    pub config: Value,
    pub tokenizer: Value,
    pub tokenizer_config: Value,
    pub generation_config: Option<Value>,
    pub tensors: BTreeMap<String, Tensor>,
    /// More files, or replaced ones; `None` removes.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
}

impl Hf {
    /// The smallest one.
    pub fn micro() -> Hf {
        Hf::read(&golden().join("micro/hf"))
    }

    /// The one in `directory`.
    pub fn read(directory: &Path) -> Hf {
        let json = |name: &str| serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap();
        let weights = std::fs::read(directory.join("model.safetensors")).unwrap();
        let views = SafeTensors::deserialize(&weights).unwrap().tensors();
        let tensor = |view: TensorView| Tensor(view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Hf {
            config: json("config.json"),
            tokenizer: json("tokenizer.json"),
            tokenizer_config: json("tokenizer_config.json"),
            generation_config: Some(json("generation_config.json")),
            tensors: views.into_iter().map(|(name, view)| (name, tensor(view))).collect(),
            files: BTreeMap::new(),
        }
    }

    /// What is left of it in a BF16 file, in which only matrices are rounded, and of those not the router.
    pub fn through_bf16(mut self) -> Hf {
        let [f32, bf16] = ["F32", "BF16"].map(|name| dgemma::quant::by_name(name).unwrap());
        for (name, Tensor(dtype, shape, data)) in &mut self.tensors {
            if *dtype == Dtype::F32 && shape.len() > 1 && !name.ends_with("router.proj.weight") {
                let mut values = vec![0.0; data.len() / 4];
                (f32.decode)(data, &mut values);
                data.resize(values.len() * 2, 0);
                (bf16.encode)(&values, None, data);
                *dtype = Dtype::BF16;
            }
        }
        self
    }

    pub fn text_config(&mut self) -> &mut Value {
        &mut self.config["text_config"]
    }

    /// Some tensors as a safetensors file.
    pub fn shard(&self, keep: impl Fn(&str) -> bool) -> Vec<u8> {
        let kept = self.tensors.iter().filter(|(name, _)| keep(name));
        let views = kept.map(|(name, Tensor(dtype, shape, data))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        serialize(views, None).unwrap()
    }

    /// In two shards, with an index.
    pub fn sharded(mut self) -> Hf {
        let first = |name: &str| name.contains(".layers.");
        let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let map = self.tensors.keys().map(|name| (name.clone(), names[usize::from(!first(name))].into())).collect();
        let index = Value::Object([("weight_map".to_owned(), Value::Object(map))].into_iter().collect());
        self.files.insert(names[0].to_owned(), Some(self.shard(first)));
        self.files.insert(names[1].to_owned(), Some(self.shard(|name| !first(name))));
        self.files.insert("model.safetensors.index.json".to_owned(), Some(index.to_string().into()));
        self.files.insert("model.safetensors".to_owned(), None);
        self
    }

    /// Writes it below `scratch` and converts it.
    pub fn convert(&self, scratch: &Scratch, target: &str) -> Output {
        let directory = scratch.0.join("hf");
        std::fs::create_dir_all(&directory).unwrap();
        let mut files = BTreeMap::from([
            ("config.json".to_owned(), Some(self.config.to_string().into_bytes())),
            ("tokenizer.json".to_owned(), Some(self.tokenizer.to_string().into_bytes())),
            ("tokenizer_config.json".to_owned(), Some(self.tokenizer_config.to_string().into_bytes())),
            ("generation_config.json".to_owned(), self.generation_config.as_ref().map(|v| v.to_string().into_bytes())),
            ("model.safetensors".to_owned(), Some(self.shard(|_| true))),
        ]);
        files.extend(self.files.clone());
        for (name, bytes) in files {
            if let Some(bytes) = bytes {
                std::fs::write(directory.join(name), bytes).unwrap();
            }
        }
        convert(&directory, &scratch.out(), target)
    }
}

/// Runs `dgemma-quantize convert`.
pub fn convert(directory: &Path, out: &Path, target: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dgemma-quantize"));
    command.arg("convert").args([directory, out]).args(["--type", target]).output().unwrap()
}

/// What a program said on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
