//! Writes a tiny model with random weights: a real GGUF file that llama.cpp loads in
//! milliseconds, for tests and for trying a network without downloading anything.
//!
//! The file has the architecture `llama` with two layers, a byte-level vocabulary of 265
//! tokens and about 189 kB. It speaks nonsense, but the same nonsense on every machine: the
//! weights come from a seed. Format: the GGUF specification, version 3, little endian.

use std::io::{self, Write};
use std::path::Path;

/// `messages` in ChatML, without tools: what the simplest models carry.
pub const CHATML_TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + \
message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// ChatML with a list of tools and tool calls between `<tool_call>` marks.
pub const CHATML_TOOLS_TEMPLATE: &str = "{% if tools %}<|im_start|>system\\n\
{% for tool in tools %}{{ tool | tojson }}\\n{% endfor %}<|im_end|>\\n{% endif %}\
{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content']}}\
{% for call in message['tool_calls'] or [] %}<tool_call>\\n{{ call.function | tojson }}\\n\
</tool_call>{% endfor %}{{'<|im_end|>\\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const MERGES: [(&str, &str); 6] =
    [("Ġ", "t"), ("h", "e"), ("i", "n"), ("Ġt", "he"), ("e", "r"), ("o", "n")];

const WIDTH: usize = 64;
const LAYERS: usize = 2;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const FEED_FORWARD: usize = 128;
const ALIGNMENT: usize = 32;
/// The output shares the embeddings' weights. Small embeddings keep a token from predicting
/// itself for ever, and the gain before the output brings the logits to a spread of about 3.
const EMBEDDING_SCALE: f32 = 0.05;
const OUTPUT_GAIN: f32 = 8.0;

const TYPE_F32: u32 = 0;
const TYPE_F16: u32 = 1;

/// What to write.
#[derive(Clone, Debug)]
pub struct TinyModel {
    /// Where the random weights come from.
    pub seed: u64,
    /// The context that the model claims to be trained for, in tokens.
    pub context_tokens: u32,
    /// The chat template; `None` leaves it out.
    pub chat_template: Option<String>,
}

impl Default for TinyModel {
    fn default() -> Self {
        Self { seed: 0, context_tokens: 2048, chat_template: Some(CHATML_TEMPLATE.to_owned()) }
    }
}

impl TinyModel {
    /// The whole file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let tensors = self.tensors();
        let mut file = Writer::default();
        file.bytes(b"GGUF");
        file.u32(3);
        file.len(tensors.len());
        let metadata = self.metadata();
        file.len(metadata.len());
        for (key, value) in &metadata {
            file.text(key);
            file.value(value);
        }
        let mut offset = 0;
        for tensor in &tensors {
            file.text(&tensor.name);
            file.u32(u32::try_from(tensor.shape.len()).unwrap_or(0));
            for dimension in &tensor.shape {
                file.len(*dimension);
            }
            file.u32(tensor.kind);
            file.len(offset);
            offset = padded(offset + tensor.data.len());
        }
        file.pad();
        for tensor in &tensors {
            file.bytes(&tensor.data);
            file.pad();
        }
        file.0
    }

    /// Writes the file at `path`.
    ///
    /// # Errors
    /// What the system says; free space or correct the path.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut file = std::fs::File::create(path)?;
        file.write_all(&self.to_bytes())?;
        file.sync_all()
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let tokens = vocabulary();
        let kinds = (0..tokens.len()).map(|id| if id < SPECIALS.len() { 3 } else { 1 }).collect();
        let merges = MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect();
        let mut list: Vec<(&str, Value)> = vec![
            ("general.architecture", Value::Text("llama".into())),
            ("general.name", Value::Text("tiny-random".into())),
            ("general.license", Value::Text("CC0-1.0".into())),
            ("llama.block_count", count(LAYERS)),
            ("llama.context_length", Value::U32(self.context_tokens)),
            ("llama.embedding_length", count(WIDTH)),
            ("llama.feed_forward_length", count(FEED_FORWARD)),
            ("llama.attention.head_count", count(HEADS)),
            ("llama.attention.head_count_kv", count(KV_HEADS)),
            ("llama.rope.freq_base", Value::F32(10_000.0)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.dimension_count", count(WIDTH / HEADS)),
            ("llama.vocab_size", count(tokens.len())),
            ("tokenizer.ggml.model", Value::Text("gpt2".into())),
            ("tokenizer.ggml.pre", Value::Text("smollm".into())),
            ("tokenizer.ggml.tokens", Value::Texts(tokens)),
            ("tokenizer.ggml.token_type", Value::I32s(kinds)),
            ("tokenizer.ggml.merges", Value::Texts(merges)),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(2)),
            ("tokenizer.ggml.padding_token_id", Value::U32(2)),
            ("tokenizer.ggml.unknown_token_id", Value::U32(0)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ];
        if let Some(template) = &self.chat_template {
            list.push(("tokenizer.chat_template", Value::Text(template.clone())));
        }
        list.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let mut noise = Noise::new(self.seed);
        let tokens = vocabulary().len();
        let kv_width = WIDTH * KV_HEADS / HEADS;
        let mut list = vec![
            noise.matrix("token_embd.weight", WIDTH, tokens, EMBEDDING_SCALE),
            filled("output_norm.weight", OUTPUT_GAIN),
        ];
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            list.push(filled(&name("attn_norm"), 1.0));
            list.push(filled(&name("ffn_norm"), 1.0));
            let shapes = [
                ("attn_q", WIDTH, WIDTH),
                ("attn_k", WIDTH, kv_width),
                ("attn_v", WIDTH, kv_width),
                ("attn_output", WIDTH, WIDTH),
                ("ffn_gate", WIDTH, FEED_FORWARD),
                ("ffn_up", WIDTH, FEED_FORWARD),
                ("ffn_down", FEED_FORWARD, WIDTH),
            ];
            for (part, inputs, outputs) in shapes {
                #[allow(clippy::cast_precision_loss)] // at most 128
                let scale = 1.0 / (inputs as f32).sqrt();
                list.push(noise.matrix(&name(part), inputs, outputs, scale));
            }
        }
        list
    }
}

struct Tensor {
    name: String,
    /// The fastest running dimension first, as GGUF wants it.
    shape: Vec<usize>,
    kind: u32,
    data: Vec<u8>,
}

fn filled(name: &str, value: f32) -> Tensor {
    let data = std::iter::repeat_n(value.to_le_bytes(), WIDTH).flatten().collect();
    Tensor { name: name.to_owned(), shape: vec![WIDTH], kind: TYPE_F32, data }
}

/// SplitMix64 (Steele, Lea, Flood 2014) with Box and Muller's transform on top.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        #[allow(clippy::cast_precision_loss)] // 53 bits fit
        let value = ((z >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        value
    }

    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        #[allow(clippy::cast_possible_truncation)] // the rounding is wanted
        let value = (radius * (std::f64::consts::TAU * self.unit()).cos()) as f32;
        value
    }

    fn matrix(&mut self, name: &str, inputs: usize, outputs: usize, scale: f32) -> Tensor {
        let data =
            (0..inputs * outputs).flat_map(|_| half(self.normal() * scale).to_le_bytes()).collect();
        Tensor { name: name.to_owned(), shape: vec![inputs, outputs], kind: TYPE_F16, data }
    }
}

/// IEEE 754 binary16 of a number far from its limits; the last bit is rounded half up.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = u16::try_from(bits >> 16).unwrap_or(0) & 0x8000;
    let rounded = bits.wrapping_add(0x1000) & 0x7fff_ffff;
    let exponent = rounded >> 23;
    match exponent {
        // Smaller than the smallest normal number, 2^-14: zero is close enough for noise.
        0..=112 => sign,
        113..=142 => {
            sign | u16::try_from(((exponent - 112) << 10) | ((rounded >> 13) & 0x3ff)).unwrap_or(0)
        }
        _ => sign | 0x7bff,
    }
}

/// The specials, then a token for each byte, then the merged ones (as in GPT-2, whose
/// printable stand-ins for bytes are used).
fn vocabulary() -> Vec<String> {
    let mut tokens: Vec<String> = SPECIALS.map(str::to_owned).to_vec();
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next_stand_in = 256_u32;
    for byte in 0..=u8::MAX {
        let code = if printable(byte) {
            u32::from(byte)
        } else {
            next_stand_in += 1;
            next_stand_in - 1
        };
        tokens.extend(char::from_u32(code).map(String::from));
    }
    tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
    tokens
}

enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

fn count(value: usize) -> Value {
    Value::U32(u32::try_from(value).unwrap_or(u32::MAX))
}

const fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn len(&mut self, value: usize) {
        self.bytes(&(value as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.len(text.len());
        self.bytes(text.as_bytes());
    }

    fn pad(&mut self) {
        self.0.resize(padded(self.0.len()), 0);
    }

    /// A value after its type; the numbers of the types are GGUF's.
    fn value(&mut self, value: &Value) {
        match value {
            Value::U32(number) => {
                self.u32(4);
                self.u32(*number);
            }
            Value::F32(number) => {
                self.u32(6);
                self.bytes(&number.to_le_bytes());
            }
            Value::Bool(flag) => {
                self.u32(7);
                self.bytes(&[u8::from(*flag)]);
            }
            Value::Text(text) => {
                self.u32(8);
                self.text(text);
            }
            Value::Texts(texts) => {
                self.u32(9);
                self.u32(8);
                self.len(texts.len());
                texts.iter().for_each(|text| self.text(text));
            }
            Value::I32s(numbers) => {
                self.u32(9);
                self.u32(5);
                self.len(numbers.len());
                numbers.iter().for_each(|number| self.bytes(&number.to_le_bytes()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_small_and_the_same_for_the_same_seed() {
        let bytes = TinyModel::default().to_bytes();
        assert_eq!(&bytes[..8], b"GGUF\x03\0\0\0");
        assert!((180_000..200_000).contains(&bytes.len()), "{}", bytes.len());
        assert_eq!(bytes, TinyModel::default().to_bytes());
        assert_ne!(bytes, TinyModel { seed: 1, ..TinyModel::default() }.to_bytes());
    }

    #[test]
    fn the_vocabulary_has_every_byte_once() {
        let tokens = vocabulary();
        assert_eq!(tokens.len(), 3 + 256 + 6);
        let mut distinct = tokens.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), tokens.len());
        assert_eq!(tokens[3 + usize::from(b' ')], "Ġ");
    }

    #[test]
    fn halves_are_right_where_they_are_exact() {
        for (value, bits) in [(0.0, 0), (1.0, 0x3c00), (-2.0, 0xc000), (0.5, 0x3800), (1e9, 0x7bff)]
        {
            assert_eq!(half(value), bits, "{value}");
        }
    }
}
