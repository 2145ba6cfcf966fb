//! llama.cpp behind the traits of [`crate::model`].

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use crate::fault::EngineFault;
use crate::model::{BatchToken, DecodeFault, Decoder, ModelFacts, TokenId, Vocabulary};
use crate::verify::VerifiedFile;

/// Tokens of one batch, over all sequences.
const BATCH_TOKENS: u32 = 512;
/// Tokens that are multiplied at once. Small, because the buffer for the logits of so many
/// tokens is held for ever: 25 MB for a vocabulary of 49k.
const STEP_TOKENS: u32 = 128;

/// The weights and the vocabulary; shared by all threads.
#[derive(Clone)]
pub(crate) struct LoadedModel {
    model: Arc<LlamaModel>,
}

/// llama.cpp's process-wide state. It is made once and never taken down: a process may run
/// several engines, and the library allows only one.
fn backend() -> Result<&'static LlamaBackend, String> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            send_logs_to_tracing(LogOptions::default());
            LlamaBackend::init().map_err(|fault| fault.to_string())
        })
        .as_ref()
        .map_err(Clone::clone)
}

impl LoadedModel {
    /// Loads the weights of a file that was hashed. `progress` is told from 0 to 1 and
    /// answers `false` to give up.
    pub(crate) fn load(
        file: &VerifiedFile,
        progress: impl FnMut(f32) -> bool + 'static,
    ) -> Result<Self, EngineFault> {
        let refuse =
            |reason: String| EngineFault::ModelUnusable { path: file.path().to_owned(), reason };
        let path = file.load_path();
        check_magic(&path).map_err(refuse)?;
        let backend = backend().map_err(refuse)?;
        let params = LlamaModelParams::default()
            .with_n_gpu_layers(0)
            .with_use_mmap(true)
            .with_progress_callback(progress);
        let model = LlamaModel::load_from_file(backend, path, &params).map_err(|_| {
            refuse(
                "llama.cpp refused it: it is damaged, or of an architecture that this version \
                 does not know (its own words are in the log)"
                    .to_owned(),
            )
        })?;
        Ok(Self { model: Arc::new(model) })
    }

    /// What the file says about the model.
    pub(crate) fn facts(&self) -> ModelFacts {
        let vocab = self.model.vocab();
        let name_of = |token: LlamaToken| {
            if token.0 < 0 {
                return String::new();
            }
            String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).into_owned()
        };
        ModelFacts {
            trained_context_tokens: self.model.n_ctx_train(),
            chat_template: self
                .model
                .chat_template(None)
                .ok()
                .and_then(|template| template.to_string().ok()),
            begin_text: name_of(vocab.bos()),
            end_text: name_of(vocab.eos()),
            parameters: self.model.n_params(),
            weight_bytes: self.model.size(),
            embedding_width: usize::try_from(self.model.n_embd_out()).unwrap_or(0),
        }
    }
}

/// llama.cpp's own message for a file that is no GGUF at all is lost in its log.
fn check_magic(path: &std::path::Path) -> Result<(), String> {
    use std::io::Read;
    let mut magic = [0_u8; 4];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .map_err(|fault| format!("its first bytes cannot be read ({fault})"))?;
    if &magic == b"GGUF" {
        Ok(())
    } else {
        Err("it is no GGUF file (it does not begin with the letters GGUF)".to_owned())
    }
}

fn llama_token(token: TokenId) -> LlamaToken {
    LlamaToken(i32::try_from(token).unwrap_or(i32::MAX))
}

impl Vocabulary for LoadedModel {
    fn size(&self) -> usize {
        usize::try_from(self.model.n_vocab()).unwrap_or(0)
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<TokenId> {
        if text.is_empty() && !add_special {
            return Vec::new();
        }
        self.model
            .vocab()
            .tokenize(text.as_bytes(), add_special, parse_special)
            .into_iter()
            .filter_map(|token| TokenId::try_from(token.0).ok())
            .collect()
    }

    fn piece(&self, token: TokenId) -> Vec<u8> {
        self.model.vocab().token_to_piece(llama_token(token), false, None)
    }

    fn special_piece(&self, token: TokenId) -> Vec<u8> {
        self.model.vocab().token_to_piece(llama_token(token), true, None)
    }

    fn is_end(&self, token: TokenId) -> bool {
        self.model.vocab().is_eog(llama_token(token))
    }
}

/// How much memory and how many threads the arithmetic gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecoderShape {
    pub(crate) context_tokens: u32,
    pub(crate) sequences: u32,
    pub(crate) threads: u32,
}

/// The contexts of llama.cpp. Made and used on one thread.
pub(crate) struct LlamaDecoder<'model> {
    model: &'model LlamaModel,
    shape: DecoderShape,
    context: LlamaContext<'model>,
    batch: LlamaBatch<'static>,
    /// Made at the first request for an embedding: few need it.
    embedding: Option<LlamaContext<'model>>,
}

impl<'model> LlamaDecoder<'model> {
    pub(crate) fn new(
        loaded: &'model LoadedModel,
        shape: DecoderShape,
    ) -> Result<Self, EngineFault> {
        let no_memory = || EngineFault::ContextMemory {
            context_tokens: shape.context_tokens,
            sequences: shape.sequences,
        };
        let backend = backend().map_err(|reason| EngineFault::DecodingThread { reason })?;
        let total = shape.context_tokens.checked_mul(shape.sequences).ok_or_else(no_memory)?;
        // Each sequence has cells of its own (not "unified"): what one sequence computes
        // does not depend on where the others' cells lie.
        let params = base_params(total, shape.threads)
            .with_n_batch(BATCH_TOKENS)
            .with_n_seq_max(shape.sequences)
            .with_kv_unified(false);
        let context = loaded.model.new_context(backend, params).map_err(|_| no_memory())?;
        let batch = LlamaBatch::new(usize::try_from(BATCH_TOKENS).unwrap_or(1), 1);
        Ok(Self { model: &loaded.model, shape, context, batch, embedding: None })
    }

    fn embedding_context(&mut self) -> Result<&mut LlamaContext<'model>, DecodeFault> {
        if self.embedding.is_none() {
            let backend = backend().map_err(DecodeFault)?;
            // No pooling by llama.cpp: it pools within one step only, we pool over all.
            let params = base_params(self.shape.context_tokens, self.shape.threads)
                .with_n_batch(STEP_TOKENS)
                .with_n_seq_max(1)
                .with_embeddings(true)
                .with_pooling_type(LlamaPoolingType::None);
            let context = self
                .model
                .new_context(backend, params)
                .map_err(|_| DecodeFault("no memory for embeddings".to_owned()))?;
            self.embedding = Some(context);
        }
        self.embedding.as_mut().ok_or_else(|| DecodeFault("no embedding context".to_owned()))
    }
}

fn base_params(context_tokens: u32, threads: u32) -> LlamaContextParams {
    let threads = i32::try_from(threads).unwrap_or(1);
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(context_tokens))
        .with_n_ubatch(STEP_TOKENS)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_no_perf(true)
}

impl Decoder for LlamaDecoder<'_> {
    fn batch_tokens_max(&self) -> usize {
        usize::try_from(BATCH_TOKENS).unwrap_or(1)
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), DecodeFault> {
        self.batch.clear();
        for token in batch {
            let position = i32::try_from(token.position).unwrap_or(i32::MAX);
            let sequence = i32::try_from(token.sequence).unwrap_or(0);
            self.batch
                .add(llama_token(token.token), position, &[sequence], token.logits)
                .map_err(|fault| DecodeFault(fault.to_string()))?;
        }
        self.context.decode(&mut self.batch).map_err(|fault| DecodeFault(fault.to_string()))
    }

    fn logits(&self, index: usize) -> &[f32] {
        self.context.get_logits_ith(i32::try_from(index).unwrap_or(0))
    }

    fn forget(&mut self, sequence: u32, position: u32) -> bool {
        // Attention caches forget any part; recurrent states only the whole.
        let removed = self.context.clear_kv_cache_seq(Some(sequence), Some(position), None);
        if removed == Ok(true) {
            return true;
        }
        let _ = self.context.clear_kv_cache_seq(Some(sequence), None, None);
        false
    }

    fn embed(&mut self, tokens: &[TokenId]) -> Result<Vec<f32>, DecodeFault> {
        let context = self.embedding_context()?;
        context.clear_kv_cache();
        let step = usize::try_from(STEP_TOKENS).unwrap_or(1);
        let mut batch = LlamaBatch::new(step, 1);
        let mut sum: Vec<f64> = Vec::new();
        for (chunk_index, chunk) in tokens.chunks(step).enumerate() {
            batch.clear();
            for (index, token) in chunk.iter().enumerate() {
                let position = i32::try_from(chunk_index * step + index).unwrap_or(i32::MAX);
                batch
                    .add(llama_token(*token), position, &[0], true)
                    .map_err(|fault| DecodeFault(fault.to_string()))?;
            }
            context.decode(&mut batch).map_err(|fault| DecodeFault(fault.to_string()))?;
            for index in 0..chunk.len() {
                let row = context
                    .embeddings_ith(i32::try_from(index).unwrap_or(0))
                    .map_err(|fault| DecodeFault(fault.to_string()))?;
                sum.resize(row.len(), 0.0);
                sum.iter_mut().zip(row).for_each(|(total, value)| *total += f64::from(*value));
            }
        }
        #[allow(clippy::cast_precision_loss)] // a context has far fewer than 2^52 tokens
        let count = tokens.len().max(1) as f64;
        #[allow(clippy::cast_possible_truncation)] // the rounding is wanted
        Ok(sum.into_iter().map(|total| (total / count) as f32).collect())
    }
}
